"""Which checkpoints of a run are kept."""

from __future__ import annotations

from pathlib import Path

from training.checkpoints.checkpoint import list_checkpoints
from training.checkpoints.run_directory import BEST_NAME
from training.storage.atomic import delete_whole


def delete_superseded(directory: Path, keep_last: int | None) -> None:
    """Delete all but the newest `keep_last` checkpoints (None: keep all) and the best one.

    A checkpoint that cannot be opened is left where it is: it is evidence, and not counted.
    """
    if keep_last is None:
        return
    found, _ = list_checkpoints(directory)
    regular = [path for _, path in found if path.name != BEST_NAME]
    for path in regular[keep_last:]:
        delete_whole(path)
