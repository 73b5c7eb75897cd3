"""Routes for a run's checkpoints and its finished model: the list, and each as one archive that streams from the disk.

An archive is a zip without compression, since weights hardly shrink. It is made while it is sent, a megabyte at a time.
Files are opened below the run directory part by part, and no part of the way may be a link.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import stat
import time
import zipfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from starlette.types import Send

from tools.server.gate.problems import Problem
from tools.server.gate.run_paths import FoundRun, found_run, open_directory, open_in
from tools.server.gate.state import ServerState
from tools.server.routes.runs import json_response, refused
from training.checkpoints.manifest import BEST_NAME, is_checkpoint_name, read_manifest
from training.checkpoints.run_directory import FINAL_NAME, MODEL_DIRECTORY
from training.errors import CheckpointError
from training.experiments.store.identity import is_run_id
from training.language.messages import Message

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

CHUNK_BYTES = 2**20
_STEP = re.compile(r"checkpoint(?:_step_|-)(\d+)")
MODELS = (MODEL_DIRECTORY, FINAL_NAME)


def checkpoints_of(state: ServerState, run: FoundRun) -> list[dict[str, Any]]:
    """Return a run's checkpoints and its finished model as plain data, the latest step first.

    Raises:
        Problem: the disk refuses.
    """
    found: list[dict[str, Any]] = []
    try:
        with open_directory(state.root, run.path) as folder:
            names = [name for name in os.listdir(folder) if is_checkpoint_name(name) or name in MODELS]  # noqa: PTH208
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # deleted this moment, by the run's own tidying
                    found += _described(state, run, folder, name)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise refused(run, error) from error
    return sorted(found, key=lambda one: (one["kind"] != "model", -(one["step"] or 0), one["name"]))


def _described(state: ServerState, run: FoundRun, folder: int, name: str) -> Iterator[dict[str, Any]]:
    """Yield what is said of a checkpoint or a model, unless it is a link."""
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
        return
    files = list(_files(state.root, run.path / name))
    is_model = name in MODELS
    yield {
        "id": f"{run.id}-{name}", "name": name, "kind": "model" if is_model else "checkpoint",
        "step": None if is_model else _step_of(run.path / name), "bytes": sum(size for _, size, _ in files),
        "is_best": name == BEST_NAME, "time": max((changed for _, _, changed in files), default=status.st_mtime),
    }  # fmt: skip


def _step_of(path: Path) -> int | None:
    """Return the updates that a checkpoint holds, by its name or by its manifest."""
    if (found := _STEP.fullmatch(path.name)) is not None:
        return int(found[1])
    try:
        return read_manifest(path).step
    except CheckpointError:
        return None


def _files(root: Path, top: Path) -> Iterator[tuple[Path, int, float]]:
    """Yield (path, bytes, time of the last change) of the regular files in a directory, or of one file; no link."""
    status = top.lstat()
    if stat.S_ISREG(status.st_mode):
        yield top, status.st_size, status.st_mtime
        return
    with open_directory(root, top) as folder:
        for place, folders, names, opened in os.fwalk(".", dir_fd=folder, follow_symlinks=False):
            folders.sort()
            for name in sorted(names):
                found = os.stat(name, dir_fd=opened, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    yield top / place / name, found.st_size, found.st_mtime


class _Sink(io.RawIOBase):
    """File that a zip is written to, with the bytes since the last look. It cannot seek, so none is looked at twice."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """See `io.RawIOBase.writable`."""
        return True

    def write(self, content: Buffer, /) -> int:
        """See `io.RawIOBase.write`."""
        self._parts.append(bytes(content))
        return len(self._parts[-1])

    def take(self) -> bytes:
        """Return what was written since the last time."""
        content, self._parts = b"".join(self._parts), []
        return content


def archive(root: Path, top: Path) -> Iterator[bytes]:
    """Yield a zip of a directory or a file, piece by piece.

    Args:
        root: directory of all runs.
        top: what is packed, below it.

    Raises:
        OSError: a file was deleted or cannot be read; the archive is then not whole.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as packed:
        for path, size, changed in _files(root, top):
            entry = zipfile.ZipInfo(path.relative_to(top.parent).as_posix(), time.localtime(changed)[:6])
            entry.external_attr = 0o644 << 16
            entry.file_size = size
            with (
                open_directory(root, path.parent) as folder,
                open_in(folder, path.name) as file,
                packed.open(entry, "w", force_zip64=size >= zipfile.ZIP64_LIMIT // 2) as target,
            ):
                while content := file.read(CHUNK_BYTES):
                    target.write(content)
                    yield sink.take()
    yield sink.take()


class ArchiveResponse(StreamingResponse):
    """Answer that is an archive; when it ends, for whatever reason, so does the reading."""

    media_type = "application/zip"

    def __init__(self, pieces: Iterator[bytes], name: str) -> None:
        self._content = _in_threads(pieces)
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}", "Cache-Control": "no-store"}
        super().__init__(self._content, headers=headers)

    async def stream_response(self, send: Send) -> None:
        """See `StreamingResponse.stream_response`."""
        async with contextlib.aclosing(self._content):
            await super().stream_response(send)


async def _in_threads(pieces: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    try:
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            if piece:
                yield piece
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            await asyncio.to_thread(close)


def make_router(state: ServerState) -> APIRouter:
    """Return the routes.

    Args:
        state: what all routes share.
    """
    router = APIRouter(tags=["checkpoints"])

    @router.get("/api/training/jobs/{run_id}/checkpoints", summary="List a run's checkpoints", response_class=Response)
    def checkpoints(run_id: str) -> Response:
        """Answer {checkpoints}: the finished model in both of its forms, then the checkpoints, the latest first."""
        return json_response({"checkpoints": checkpoints_of(state, found_run(state, run_id))})

    @router.get("/api/training/checkpoints/{checkpoint_id}/download", response_class=Response)
    def download(checkpoint_id: str) -> ArchiveResponse:
        """Send a checkpoint or a finished model as a zip, with the id that the list has.

        The zip is whole only if the answer ends as HTTP says; a checkpoint has checksums of its own too.
        """
        run_id, _, name = checkpoint_id.partition("-")
        if not is_run_id(run_id) or not (is_checkpoint_name(name) or name in MODELS):
            raise _no_such_checkpoint(checkpoint_id)
        run = found_run(state, run_id)
        if all(one["name"] != name for one in checkpoints_of(state, run)):
            raise _no_such_checkpoint(checkpoint_id)
        label = f"{run.name.replace('/', '-')}-{name}.zip"
        return ArchiveResponse(archive(state.root, run.path / name), label)

    return router


def _no_such_checkpoint(checkpoint_id: str) -> Problem:
    line = Message("no checkpoint has the id '{id}'; GET …/jobs/ID/checkpoints lists them", id=checkpoint_id)
    return Problem(404, "No such checkpoint", line)
