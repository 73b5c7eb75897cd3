"""Finding runs, which are directories that hold a run's record or its checkpoints, and reading their settings.

Every viewer of runs begins here, so neither torch nor pydantic is imported: it starts fast.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.checkpoints.branches import is_branch_name
from training.checkpoints.manifest import is_checkpoint_name
from training.checkpoints.run_directory import CONFIG_NAME
from training.errors import UserError
from training.record.log import LOG_NAME, REPORT_NAME
from training.settings.plain_yaml import read_yaml

_NEVER_ENTERED = frozenset({"node_modules", "__pycache__"})
_ENVIRONMENT_MARK = "pyvenv.cfg"
VERSION_NAME = "model_version.json"
"""File that makes a directory a version of a model: it holds the record of a run, and is none."""


def find_runs(roots: Sequence[Path], unreadable: list[OSError]) -> Iterator[Path]:
    """Yield the run directories below the given ones, each once, in order of path.

    Hidden directories, virtual environments, checkpoints, branches that a run has left, versions of models, and links
    are not entered. A directory that may not be read is added to `unreadable`.
    """
    seen: set[str] = set()
    for root in roots:
        for folder, subfolders, files in os.walk(root, onerror=unreadable.append):
            if _ENVIRONMENT_MARK in files or VERSION_NAME in files:
                subfolders.clear()
                continue
            is_run = LOG_NAME in files or REPORT_NAME in files or any(map(is_checkpoint_name, subfolders))
            subfolders[:] = sorted(d for d in subfolders if is_entered(d))
            if not is_run:
                continue
            if len(roots) > 1:  # below one root a directory is met once, and to resolve its path costs most of a search
                place = os.path.realpath(folder)
                if place in seen:
                    continue
                seen.add(place)
            yield Path(folder)


def is_entered(folder: str) -> bool:
    """Say whether a search for runs enters a folder of this name."""
    is_part_of_run = is_checkpoint_name(folder) or is_branch_name(folder)
    return not (folder.startswith(".") or folder in _NEVER_ENTERED or is_part_of_run)


def read_settings(run_dir: Path) -> dict[str, Any]:
    """Read a run's settings, flat: `{"data.loss_on": "answer", …}`.

    Empty where there is no readable config, as in a run that is only starting.
    """
    try:
        return dict(_flat(read_yaml(run_dir / CONFIG_NAME), ""))
    except UserError:
        return {}


def _flat(section: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
