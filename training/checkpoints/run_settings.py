"""The settings that a run was trained with, from its config.yaml or a checkpoint. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.settings.tree import DEFAULT_MODEL, DEFAULT_TASK


def with_names(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's saved settings, nested, with the names of its task and model family.

    Runs from before there were several did not write the names down.
    """
    return {"task": DEFAULT_TASK, **saved, "model": {"model": DEFAULT_MODEL, **saved["model"]}}
