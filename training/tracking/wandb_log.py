"""Which steps are in the files that wandb keeps of a run (`run-ID.wandb`). They say what an offline run holds.

A file is a LevelDB log: after seven bytes of its own, blocks of 32 KiB with records in pieces, each behind a header of
checksum, length and kind. A record is a `wandb_internal_pb2.Record`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MAGIC = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
_BLOCK = 32 * 1024
_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _LAST = 1, 2, 4


def last_step(run_dir: Path, run_id: str) -> int:
    """The last step of which any part of the run holds a row; 0: none does.

    Args:
        run_dir: in it wandb has made `wandb/offline-run-…-ID/`, one for each part of a run that was resumed.
        run_id: W&B's.
    """
    files = run_dir.glob(f"wandb/*run-*-{run_id}*/run-{run_id}.wandb")
    return max((row["_step"] for file in files for row in rows(file)), default=0)


def rows(file: Path) -> Iterator[dict[str, Any]]:
    """The history of a file: `{"_step": 3, "train/loss": 0.5, …}`. An unfinished end is left out."""
    from wandb.proto.wandb_internal_pb2 import Record

    for data in _records(file.read_bytes()):
        record = Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            yield {"_step": record.history.step.num, **row}


def _records(data: bytes) -> Iterator[bytes]:
    if not data.startswith(_MAGIC):
        return
    record, position = b"", len(_MAGIC)
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
        record = piece if kind in (_FULL, _FIRST) else record + piece
        if kind in (_FULL, _LAST):
            yield record
