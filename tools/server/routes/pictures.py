"""Pictures of a run: the panels of the dashboard and its measured landscape, drawn in processes of their own.

A picture is kept as long as the record that it shows is the same. Of a run that goes on it is drawn again after
`FRESH_SECONDS` at the earliest, however many pages ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sys
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Response

from tools.landscape.directory import LANDSCAPE_NAME
from tools.server.gate.problems import Problem
from tools.server.gate.run_paths import found_run
from tools.server.gate.state import ServerState
from training.errors import printable
from training.language.messages import Message
from training.record.log import LOG_NAME, REPORT_NAME, read_report

ROOT = Path(__file__).resolve().parents[3]
CURVES = ("loss", "gradient", "learning-rate", "status")
"""Panels that every run has."""
OF_LANDSCAPE = ("landscape", "trajectory", "terrain")
"""Pictures of a run whose landscape was measured."""
SAMPLES = "samples"
"""Picture of a run that has drawn samples."""
OVERVIEW = "overview"
Theme = Literal["cyber", "matrix", "vaporwave", "paper"]
FRESH_SECONDS = 5.0
DRAWING_SECONDS = 90.0
"""Time after which a drawing is given up."""
MOST_BYTES = 16 * 2**20
"""Largest picture."""
KEPT_BYTES = 48 * 2**20
MOST_WAITING = 16
"""Pictures that wait to be drawn; one is drawn at a time."""


@dataclass(frozen=True)
class Picture:
    """A drawn picture."""

    signature: str
    """Signature of the files that it shows."""
    drawn_at: float
    """Seconds on a clock that never goes back."""
    content: bytes


class Pictures:
    """Pictures that were asked for last, in bounded memory."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, ...], Picture] = OrderedDict()
        self._drawing = asyncio.Lock()
        self._waiting = 0

    async def picture(self, run_id: str, run_dir: Path, name: str, picture: str, language: str, theme: str) -> Picture:
        """Return a picture of a run as it is now, or was some seconds ago.

        Raises:
            Problem: there is nothing to draw, it takes too long, or too many pictures are waited for.
        """
        key = (run_id, picture, language, theme)
        if self._waiting >= MOST_WAITING:
            raise Problem(
                429,
                "",
                Message("{count} pictures wait to be drawn; ask again", count=self._waiting),
                headers={"retry-after": "5"},
            )
        self._waiting += 1
        try:
            async with self._drawing:
                signature = await asyncio.to_thread(signature_of, run_dir)
                kept = self._kept.get(key)
                if kept is None or not self._is_good(kept, signature):
                    content = await _drawn(run_dir, name, picture, language, theme)
                    kept = self._kept[key] = Picture(signature, time.monotonic(), content)
                self._kept.move_to_end(key)
                self._forget()
                return kept
        finally:
            self._waiting -= 1

    def _is_good(self, kept: Picture, signature: str) -> bool:
        return kept.signature == signature or time.monotonic() - kept.drawn_at < FRESH_SECONDS

    def _forget(self) -> None:
        while len(self._kept) > 1 and sum(len(picture.content) for picture in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)


async def _drawn(run_dir: Path, name: str, picture: str, language: str, theme: str) -> bytes:
    """Draw a picture in a process, which is killed if it takes too long or nobody waits any more."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tools.server.workers.picture", str(run_dir), name, picture, language, theme,
        cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}, limit=MOST_BYTES,
    )  # fmt: skip
    try:
        async with asyncio.timeout(DRAWING_SECONDS):
            content, errors = await process.communicate()
    except TimeoutError as error:
        late = Message("the picture was not drawn within {seconds:g} s; ask again later", seconds=DRAWING_SECONDS)
        raise Problem(504, "", late) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0 or not content or len(content) > MOST_BYTES:
        lines = errors.decode("utf-8", "replace").strip().splitlines() or ["it ended without a word"]
        status = 409 if process.returncode == 2 else 500
        raise Problem(status, "The picture cannot be drawn", printable(lines[-1]))
    return content


def signature_of(run_dir: Path) -> str:
    """Return what changes when a file changes that a picture shows."""
    found = []
    for path in (run_dir / LOG_NAME, run_dir / REPORT_NAME, run_dir / LANDSCAPE_NAME):
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((path.name, status.st_ino, status.st_size, status.st_mtime_ns))
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]


def pictures_of(run_dir: Path) -> list[str]:
    """Return the names of the pictures that a run has."""
    from tools.landscape.surface import read_surface

    measured = OF_LANDSCAPE if read_surface(run_dir) is not None else ()
    drawn = (SAMPLES,) if (read_report(run_dir) or {}).get("sample_files") else ()
    return [OVERVIEW, *CURVES, *drawn, *measured]


def make_router(state: ServerState) -> APIRouter:
    """Return the routes of the pictures.

    Args:
        state: what all routes share.
    """
    router = APIRouter(prefix="/api/training/jobs/{run_id}/pictures", tags=["pictures"])
    pictures = Pictures()

    @router.get("", summary="List the pictures that a run has")
    def names(run_id: str) -> dict[str, Any]:
        return {"pictures": pictures_of(found_run(state, run_id).path)}

    @router.get("/{picture}", summary="Draw a picture of a run", response_class=Response)
    async def one(
        run_id: str,
        picture: str,
        lang: Literal["en", "zh", "both"] = "en",
        theme: Theme = "cyber",
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        run = await asyncio.to_thread(found_run, state, run_id)
        known = await asyncio.to_thread(pictures_of, run.path)
        if picture not in known:
            missing = picture in OF_LANDSCAPE
            remedy = "python tools/loss_landscape.py RUN measures it" if missing else f"choose from {', '.join(known)}"
            raise Problem(404, "", f"the run has no picture {picture!r}; {remedy}")
        found = await pictures.picture(run.id, run.path, run.name, picture, lang, theme)
        headers = {"ETag": f'"{found.signature}"', "Cache-Control": "private, no-cache"}
        if if_none_match == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(found.content, media_type="image/png", headers=headers)

    return router
