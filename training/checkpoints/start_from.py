"""A run that goes on in another directory, from a copy of what it needs for that. No torch.

A cluster that starts a job again gives it the directory of its first attempt. `--resume --start-from DIR` is right for
both attempts: the first finds no checkpoint of its own and takes DIR's, the second goes on with its own. The copy is
made only once DIR's checkpoint was found to be this run's, so a refusal leaves nothing behind.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from training.checkpoints.branches import checkpoints_after
from training.checkpoints.manifest import (
    BEST_NAME,
    check_files,
    checkpoint_directories,
    existing_form,
    is_checkpoint,
    is_checkpoint_name,
    read_manifest,
)
from training.checkpoints.run_directory import RECORD_NAMES, run_directory_of
from training.errors import CheckpointError, UserError
from training.storage.atomic import delete, make_temporary, put_in_place, temporary_of
from training.storage.run_files import run_files


def parts_to_go_on_from(source: Path) -> list[Path]:
    """Return the parts of a run that a copy needs: its record, its best checkpoint, and last the one to go on from.

    A best checkpoint that is later than that one is of a branch that the copy does not go on with.

    Args:
        source: a run directory, of which the newest whole checkpoint counts, or one checkpoint of it.

    Raises:
        CheckpointError: there is none, or the one that was named is damaged.
    """
    source = existing_form(source)
    if is_checkpoint(source):
        check_files(source, read_manifest(source))
        # A link such as `latest` has a name that no run would look for.
        checkpoint = source if is_checkpoint_name(source.name) else source.resolve()
        run_dir = run_directory_of(source)
    else:
        checkpoint, run_dir = _newest_whole(source), source
    step = read_manifest(checkpoint).step
    record = [run_dir / name for name in RECORD_NAMES if (run_dir / name).is_file()]
    best = run_dir / BEST_NAME
    is_of_it = best.is_dir() and checkpoint.name != BEST_NAME and best not in checkpoints_after(run_dir, step)
    return [*record, *([best] if is_of_it else []), checkpoint]


def _newest_whole(run_dir: Path) -> Path:
    faults: list[CheckpointError] = []
    found: list[tuple[int, str, Path]] = []
    for path in checkpoint_directories(run_dir):
        try:
            found.append((read_manifest(path).step, path.name, path))
        except CheckpointError as error:
            faults.append(error)
    for _, _, path in sorted(found, reverse=True):
        try:
            check_files(path, read_manifest(path))
            return path
        except CheckpointError as error:
            faults.append(error)
    why = f"none can be read ({faults[0]})" if faults else "there is none in it"
    raise CheckpointError(f"{run_dir}: no checkpoint to go on from: {why}; give a run directory or a checkpoint of one")


def bring_along(run_dir: Path, source: Path) -> None:
    """Copy a run into `run_dir`, which goes on from it.

    All copies get their names at the end, the checkpoint last: without it, the next attempt begins again at `source`.

    Args:
        run_dir: claimed by this process, without a checkpoint. A record in it is replaced: nothing could go on from it.
        source: a run directory or a checkpoint.

    Raises:
        CheckpointError: `source` holds no checkpoint.
        UserError: the copy cannot be written.
    """
    parts = parts_to_go_on_from(source)
    try:
        for part in parts:
            target = run_dir / part.name
            if part.is_dir():
                shutil.copytree(part, make_temporary(target), dirs_exist_ok=True)
            else:
                shutil.copyfile(part, temporary_of(target))
        for part in parts:
            target = run_dir / part.name
            if part.is_dir():
                put_in_place(temporary_of(target), target)
            else:
                temporary_of(target).replace(target)
    except OSError as error:
        for part in parts:
            delete(temporary_of(run_dir / part.name))
        raise UserError(f"--start-from {source}: it cannot be copied to {run_dir} ({error.strerror})") from error


def refuse_absent_checkpoints(run_dir: Path) -> None:
    """Refuse to resume a run that was trained elsewhere and has only its record here.

    Raises:
        UserError: resuming would start at the beginning and continue the record; says where the checkpoints are.
    """
    if checkpoint_directories(run_dir):
        return
    for file in run_files():
        if file.trained_elsewhere and file.found_in(run_dir):
            raise UserError(f"--resume: {run_dir} holds {file.trained_elsewhere.format(run_dir=run_dir)}")
