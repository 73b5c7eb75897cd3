"""The finished model as one file: tensors and plain data for `torch.load(…, weights_only=True)`, with a digest."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.errors import CheckpointError, unreadable
from training.storage.atomic import replacing
from training.storage.disk_refusals import disk_refusals

FORMAT = "apt-checkpoint"
VERSION = 1


def save_single_file(path: Path, payload: Mapping[str, Any]) -> None:
    """Write a payload as one file, whole or not at all.

    Raises:
        UserError: the disk is full or refuses; what was there before is untouched.
    """
    complete = _to_cpu({"format": FORMAT, "version": VERSION, **payload})
    complete["digest"] = digest(complete)
    with disk_refusals(path, what="the finished model"), replacing(path, durable=True) as file:
        torch.save(complete, file)


def load_single_file(path: Path) -> dict[str, Any]:
    """Read and check a payload that `save_single_file` wrote.

    Raises:
        CheckpointError: missing, another program's, cut short, or altered.
        UnreadableError: the system refuses to read it.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint")
    if not path.is_file():  # reading a pipe would wait for ever
        raise CheckpointError(f"{path}: not a regular file")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can make the unpickler raise anything (IndexError, AssertionError, …)
        raise CheckpointError(f"{path}: cut short, damaged or not a checkpoint of this project") from error
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this project (no format {FORMAT!r} in it)")
    if payload.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: version {payload.get('version')!r} of a file is not readable here (this program reads {VERSION})"
        )
    if digest(payload) != payload.get("digest"):
        raise CheckpointError(f"{path}: damaged: its content does not match its digest")
    return payload


def digest(payload: Mapping[str, Any]) -> str:
    """Return the BLAKE2b of every key, number, text and tensor byte of a payload, without its `digest` entry."""
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


def _to_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: _to_cpu(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_cpu(inner) for inner in value)
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
