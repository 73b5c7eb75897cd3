"""Checkpoints: a directory with a manifest, written whole or not at all, checked when read.

    checkpoint_epoch_25/
      manifest.json           which files belong to it, with sizes and checksums; format version, step, config hash
      model.safetensors       the weights by parameter name
      optimizer.safetensors   adamw/blocks.0.attention.qkv.weight/exp_avg, …
      tensors.safetensors     other tensors (stabilizer), if there are any
      state.json              all the rest: counters, config, data fingerprint
      tokenizer.json          as in final_model/
      …                       what the engine's own tools want to find (DeepSpeed's shards)

It is the same whatever backend and number of ranks wrote it, and holds no pickle of ours. An engine may add files
between `begin` and `commit`; the manifest covers them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from training.checkpoints.manifest import (
    check_files,
    checkpoint_directories,
    existing_form,
    read_manifest,
    write_manifest,
)
from training.checkpoints.serialization import read_payload, write_payload
from training.checkpoints.single_file import load_single_file
from training.errors import CheckpointError
from training.storage.atomic import make_temporary, put_in_place, temporary_of
from training.storage.disk_refusals import disk_refusals


def begin(path: Path) -> Path:
    """An empty directory in which the checkpoint `path` is built: hidden, beside it (`temporary_of(path)`).

    Raises:
        UserError: the disk is full or refuses.
    """
    with disk_refusals(path, temporary_of(path)):
        return make_temporary(path)


def commit(temporary: Path, path: Path, payload: Mapping[str, Any]) -> None:
    """Write the payload beside whatever lies in `temporary` and make all of it the checkpoint `path`.

    A kill at any instant leaves the older checkpoint of that name or the new one (`RunDirectory` tidies up).

    Args:
        temporary: as `begin` made it; everything in it becomes part of the checkpoint.
        path: replaced if it exists.
        payload: nested plain data and tensors, `kind` and `step` among it.

    Raises:
        UserError: the disk is full or refuses; what was there before is untouched.
        TypeError: the payload holds something that is neither plain data nor a tensor.
    """
    with disk_refusals(path, temporary):
        write_payload(temporary, payload)
        write_manifest(
            temporary,
            step=payload["step"],
            kind=payload["kind"],
            run_id=payload.get("run_id"),
            config_hash=payload.get("config_hash"),
        )
        put_in_place(temporary, path)


def save_checkpoint(path: Path, payload: Mapping[str, Any]) -> None:
    """`begin` and `commit` in one, for an engine that adds nothing. Raises what they raise."""
    commit(begin(path), path, payload)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read and check a checkpoint directory, or a finished model's single file.

    Args:
        path: `checkpoint_epoch_25.pt` is taken for `checkpoint_epoch_25` where only that is there.

    Raises:
        CheckpointError: missing, not ours, cut short, or altered; names the file.
    """
    path = existing_form(path)
    if not path.is_dir():
        return load_single_file(path)
    check_files(path, read_manifest(path))
    try:
        return read_payload(path)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:  # not written by `write_payload`
        raise CheckpointError(f"{path}: its files are not those of a checkpoint ({error})") from error


def list_checkpoints(directory: Path) -> tuple[list[tuple[int, Path]], list[tuple[Path, CheckpointError]]]:
    """((step, path) newest first, (path, fault) of those without a good manifest) of a run directory.

    Reads the manifests only: another file of a checkpoint may still be damaged.
    """
    found: list[tuple[int, Path]] = []
    faults: list[tuple[Path, CheckpointError]] = []
    for path in checkpoint_directories(directory):
        try:
            found.append((read_manifest(path).step, path))
        except CheckpointError as error:
            faults.append((path, error))
    return sorted(found, key=lambda item: (-item[0], item[1].name)), faults


def newest_good(directory: Path) -> tuple[tuple[Path, dict[str, Any]] | None, list[CheckpointError]]:
    """(newest checkpoint that reads and checks, or None; the faults of those that were passed over)."""
    found, unreadable = list_checkpoints(directory)
    faults = [fault for _, fault in unreadable]
    for _, path in found:
        try:
            return (path, load_checkpoint(path)), faults
        except CheckpointError as error:
            faults.append(error)
    return None, faults
