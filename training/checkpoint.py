"""Checkpoints: one file, written whole or not at all, checked when read.

A checkpoint holds tensors and plain data only (`torch.load(..., weights_only=True)` reads it) and carries a digest of
all of it. It is written to a temporary name, fsynced and renamed, so a kill at any instant leaves the old file or the
new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from apt_model.errors import CheckpointError, UserError

FORMAT = "apt-checkpoint"
VERSION = 1
BEST_NAME = "checkpoint_best.pt"
FINAL_NAME = "final_model.pt"


def to_cpu(value: Any) -> Any:
    """The same nested data with every tensor on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: to_cpu(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_cpu(inner) for inner in value)
    return value


def _pieces(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _pieces(inner, f"{path}/{key!r}")
    elif isinstance(value, list | tuple):
        yield f"{path}#", len(value)
        for number, inner in enumerate(value):
            yield from _pieces(inner, f"{path}/{number}")
    else:
        yield path, value


def digest(payload: Mapping[str, Any]) -> str:
    """BLAKE2b of every key, number, text and tensor byte of a payload, without its `digest` entry."""
    state = hashlib.blake2b(digest_size=16)
    for path, value in _pieces({key: inner for key, inner in payload.items() if key != "digest"}):
        if isinstance(value, Tensor):
            state.update(f"{path}:{value.dtype}:{tuple(value.shape)}".encode())
            state.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        elif isinstance(value, float):
            state.update(f"{path}:".encode() + struct.pack("<d", value))
        else:
            state.update(f"{path}:{value!r}".encode())
    return state.hexdigest()


def save_checkpoint(path: Path, payload: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically.

    Raises:
        UserError: the disk is full or refuses; what was there before is untouched.
    """
    complete = to_cpu({"format": FORMAT, "version": VERSION, **payload})
    complete["digest"] = digest(complete)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(complete, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(cause, OSError) and "write" not in str(error):
            raise
        free = shutil.disk_usage(path.parent).free
        raise UserError(
            f"{path}: the checkpoint could not be written ({getattr(cause, 'strerror', None) or error}; "
            f"{free / 2**20:.0f} MiB free); earlier checkpoints are intact: make room and go on with --resume"
        ) from error


def sync_directory(directory: Path) -> None:
    """Make a rename in `directory` durable. Windows cannot open a directory, and needs it not."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, *, mmap: bool) -> dict[str, Any]:
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint")
    if path.is_dir():
        raise CheckpointError(f"{path}: this is a directory, not a checkpoint file")
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # a damaged pickle can make the unpickler raise anything (IndexError, AssertionError, …)
        raise CheckpointError(f"{path}: cut short, damaged, or not a checkpoint of ours; it cannot be read") from error
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of ours (no format {FORMAT!r} in it)")
    if payload.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: checkpoint version {payload.get('version')!r} is not readable here (this program reads {VERSION})"
        )
    return payload


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read and check a checkpoint.

    Raises:
        CheckpointError: missing, not ours, cut short, or altered.
    """
    payload = _read(path, mmap=False)
    if digest(payload) != payload.get("digest"):
        raise CheckpointError(f"{path}: damaged: its content does not match its digest")
    return payload


def list_checkpoints(directory: Path) -> tuple[list[tuple[int, Path]], list[tuple[Path, CheckpointError]]]:
    """((step, path) newest first, (path, fault) of what cannot be opened) of a run directory. Reads no tensors."""
    found: list[tuple[int, Path]] = []
    faults: list[tuple[Path, CheckpointError]] = []
    for path in sorted(directory.glob("checkpoint_*.pt")):
        try:
            found.append((int(_read(path, mmap=True)["step"]), path))
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
