"""The settings of a run, as far as the monitor needs them: its `config.yaml`, flat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from training.checkpoints.run_directory import CONFIG_NAME

_LOADER: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # the first is ten times as fast


def read_settings(run_dir: Path) -> dict[str, Any]:
    """`{"data.loss_on": "answer", …}`; empty where there is no readable config, as in a run that is only starting."""
    try:
        document = yaml.load((run_dir / CONFIG_NAME).read_bytes(), Loader=_LOADER)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return dict(_flat(document, "")) if isinstance(document, dict) else {}


def _flat(section: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
