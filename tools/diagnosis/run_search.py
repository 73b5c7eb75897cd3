"""Finding runs: directories that hold a run's record or its checkpoints."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.progress import LOG_NAME, REPORT_NAME

CHECKPOINTS = "checkpoint_*.pt"
_NEVER_ENTERED = frozenset({"node_modules", "__pycache__"})
_ENVIRONMENT_MARK = "pyvenv.cfg"


def find_runs(roots: Sequence[Path], unreadable: list[OSError]) -> Iterator[Path]:
    """Run directories below the given ones, each once, in order of path.

    Hidden directories, virtual environments and links are not entered. A directory that may not be read is added to
    `unreadable`.
    """
    seen: set[Path] = set()
    for root in roots:
        for folder, subfolders, files in os.walk(root, onerror=unreadable.append):
            path = Path(folder)
            if _ENVIRONMENT_MARK in files:
                subfolders.clear()
                continue
            subfolders[:] = sorted(d for d in subfolders if not d.startswith(".") and d not in _NEVER_ENTERED)
            if _is_run(files) and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def _is_run(files: Sequence[str]) -> bool:
    return LOG_NAME in files or REPORT_NAME in files or bool(fnmatch.filter(files, CHECKPOINTS))
