"""The steps in the files that wandb keeps of a run (`run-ID.wandb`): what an offline run holds.

A file is a LevelDB log: after seven bytes of its own, blocks of 32 KiB with records in pieces, each behind a header of
checksum, length and kind. A record is a `wandb_internal_pb2.Record`.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MAGIC = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
_BLOCK = 32 * 1024
_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _LAST = 1, 2, 4
_END = 4 * _BLOCK
"""Bytes in which the last row of a file lies, and all that is written behind it when the run ends."""


def last_step(run_dir: Path, run_id: str) -> int:
    """Return the last step of which any part of the run holds a row; 0: none does.

    Args:
        run_dir: directory with wandb's `wandb/offline-run-…-ID/`, one for each part of a run that was resumed.
        run_id: W&B's.
    """
    files = run_dir.glob(f"wandb/*run-*-{run_id}*/run-{run_id}.wandb")
    return max((row["_step"] for file in files for row in rows(file)), default=0)


def rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the history of a file: `{"_step": 3, "train/loss": 0.5, …}`. An unfinished end is left out."""
    data = file.read_bytes()
    if data.startswith(_MAGIC):
        yield from _rows(data)


def is_whole(file: Path, step: int) -> bool:
    """Say whether a file has reached a step. wandb-core goes on writing after it has said that the run is finished."""
    if not file.exists():
        return False
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - _END) // _BLOCK * _BLOCK)
        return any(row["_step"] >= step for row in _rows(opened.read()))


def _rows(data: bytes) -> Iterator[dict[str, Any]]:
    from wandb.proto.wandb_internal_pb2 import Record

    for content in _records(data):
        record = Record.FromString(content)
        if record.WhichOneof("record_type") == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            yield {"_step": record.history.step.num, **row}


def _records(data: bytes) -> Iterator[bytes]:
    """Yield the records that begin in `data`: a file from its beginning or from that of a block."""
    record: bytes | None = None  # None: the rest of one that began before
    position = len(_MAGIC) if data.startswith(_MAGIC) else 0
    while position + _HEADER.size <= len(data):
        if (left := _BLOCK - position % _BLOCK) < _HEADER.size:  # too small for a header: filled with zeros
            position += left
            continue
        _, length, kind = _HEADER.unpack_from(data, position)
        position += _HEADER.size
        if kind == 0 or position + length > len(data):
            return
        piece = data[position : position + length]
        position += length
        if kind in (_FULL, _FIRST):
            record = piece
        elif record is not None:
            record += piece
        if kind in (_FULL, _LAST) and record is not None:
            yield record
            record = None
