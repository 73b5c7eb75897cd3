"""Branches of a run that were left: their checkpoints are set aside, so that the newest one is always the run's own.

A run that goes on from an older checkpoint leaves what came after it. Those checkpoints move to a run directory of
their own, with a copy of the record and the settings, before the first new step:

    RUN/checkpoint_step_20
    RUN/abandoned_at_step_20/checkpoint_step_40      --resume RUN/abandoned_at_step_20 goes on with that branch
    RUN/abandoned_at_step_20/progress.jsonl          …

So "the newest checkpoint of a run" is the one with the most steps, for resuming, pruning and every tool, and no damage
to the record can make another one of it. No torch.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from training.checkpoints.manifest import checkpoint_directories, read_manifest
from training.checkpoints.run_directory import FINAL_NAME, MODEL_DIRECTORY, RECORD_NAMES
from training.errors import CheckpointError, UserError
from training.language.messages import Message
from training.record.log import read_report
from training.storage.atomic import delete, make_temporary, put_in_place, sync_directory, temporary_of
from training.storage.run_files import RunFile

_PREFIX = "abandoned_at_step_"
RUN_FILES = (RunFile(f"{_PREFIX}*", shows_run=True),)
_NAME = re.compile(rf"{_PREFIX}\d+(_\d+)?")


def is_branch_name(name: str) -> bool:
    """Return whether a branch that was set aside has such a name: `abandoned_at_step_20`, `abandoned_at_step_20_2`."""
    return _NAME.fullmatch(name) is not None


def set_aside_later(run_dir: Path, step: int) -> tuple[Path, list[str]] | None:
    """Move what a run has of the updates after `step` to a run directory of its own, with a copy of the record.

    The finished model goes along: it is of the branch that is left, or older than that branch. The newest checkpoint
    goes first, so that a kill leaves a shorter branch in either place and never one with a gap.

    Args:
        run_dir: claimed by this process.
        step: update from which the run goes on.

    Returns:
        The new directory, and the names of what lies there now; None: the run has nothing after `step`.

    Raises:
        UserError: the disk refuses.
    """
    later = checkpoints_after(run_dir, step)
    if not later:
        return None
    finished = [path for path in (run_dir / FINAL_NAME, run_dir / MODEL_DIRECTORY) if path.exists()]
    branch = _free_name(run_dir, step)
    try:
        temporary = make_temporary(branch)
        for name in RECORD_NAMES:
            if (run_dir / name).is_file():
                shutil.copyfile(run_dir / name, temporary / name)
        put_in_place(temporary, branch)
        for path in (*finished, *later):
            path.rename(branch / path.name)
        sync_directory(branch)
        sync_directory(run_dir)
    except OSError as error:
        delete(temporary_of(branch))
        raise UserError(
            f"{run_dir}: the checkpoints after step {step} cannot be set aside in {branch.name} ({error.strerror}); "
            "nothing is lost; go on in another --run-dir"
        ) from error
    return branch, [path.name for path in (*later, *finished)]


def left_branch_line(branch: Path, names: Sequence[str]) -> str:
    """Say what `set_aside_later` did."""
    return Message(
        "left    {names}: set aside in {branch}; --resume {branch} goes on with that branch",
        names=", ".join(names),
        branch=branch,
    )


def checkpoints_after(run_dir: Path, step: int) -> list[Path]:
    """Return a run's checkpoints that hold more updates than `step`, newest first; without those that do not say."""
    found: list[tuple[int, Path]] = []
    for path in checkpoint_directories(run_dir):
        try:
            found.append((read_manifest(path).step, path))
        except CheckpointError:  # named where a checkpoint to go on from is looked for
            continue
    return [path for at, path in sorted(found, reverse=True) if at > step]


def ahead_of_record(run_dir: Path, path: Path, step: int) -> str | None:
    """Return a warning where a checkpoint has updates that the record does not know; None: it knows them.

    The record is on disk before each checkpoint. So the record was damaged or replaced, or an older version of this
    program left a branch without setting it aside.
    """
    recorded = (read_report(run_dir) or {}).get("step")
    if not isinstance(recorded, int) or step <= recorded:
        return None
    return (
        f"{path} holds {step} updates, and the record in {run_dir} knows of {recorded}; if it is of a branch that was "
        "left, go on from another one (--resume CHECKPOINT)"
    )


def _free_name(run_dir: Path, step: int) -> Path:
    path, number = run_dir / f"{_PREFIX}{step}", 1
    while path.exists():
        number += 1
        path = run_dir / f"{_PREFIX}{step}_{number}"
    return path
