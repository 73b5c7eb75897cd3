"""Configs of --backend azure as the front door makes them, for the tests of what happens offline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.backends.prepare import config_class
from training.backends.registry import BACKENDS
from training.settings.tree import TrainingConfig


def azure_config(
    inner: str = "playground", azure: Mapping[str, Any] | None = None, **sections: Mapping[str, Any]
) -> TrainingConfig:
    """A checked config with the sections `azure` and that of the inner backend.

    Args:
        inner: the backend that trains in the job.
        azure: options of the azure backend; without any the job is serverless, on the default machine.
        sections: any other section's settings.
    """
    tree_class = config_class(BACKENDS.load("azure"), BACKENDS.load(inner))
    options = {"inner_backend": inner, **(azure or {})}
    config = tree_class.from_dict({"backend": "azure", "azure": options, **sections})
    config.validate()
    return config
