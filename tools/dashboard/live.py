"""The dashboard of a run that goes on: when there is something new to draw, and the picture that is kept up to date."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NoReturn

from tools.dashboard.panels.drawing_style import Pen
from tools.dashboard.panels.frame import Frame
from tools.dashboard.panels.status import state_text
from tools.dashboard.picture import save
from tools.dashboard.reader import Reader

DRAWING = 0.2
"""Share of one core for drawing a run's news, whatever the machine: on a slow one they wait."""


def fingerprint(frame: Frame) -> tuple[object, ...]:
    """Return what a picture depends on, but for the time and the landscape's turn: if equal, so is the picture."""
    views = (frame.run, *frame.others)
    runs = tuple(
        (
            state_text(view), view.history.step, view.history.latest, view.history.peak_memory_bytes,
            len(view.summary.evaluations) if view.summary is not None else 0,
            view.summary.started_at if view.summary is not None else None,
        )
        for view in views
    )  # fmt: skip
    surface = frame.surface
    if surface is None:
        return runs
    return (*runs, surface.key, surface.seconds, surface.losses.shape)


def rest_after(seconds: float, share: float) -> float:
    """Return the seconds to rest after so many seconds of computing, for it to take that share of a core."""
    return seconds * (1.0 / share - 1.0)


def keep_rewriting(reader: Reader, pen: Pen, dpi: float, path: Path, panel: str | None, refresh: float) -> NoReturn:
    """Replace the picture whenever there is something new, until the user leaves.

    Raises:
        UserError: it cannot be written.
        KeyboardInterrupt: the user leaves.
    """
    drawn: tuple[object, ...] | None = None
    while True:
        frame, rest = reader.look(), refresh
        if fingerprint(frame) != drawn:
            drawn, began = fingerprint(frame), time.process_time()
            save(frame, pen, dpi, path, panel)
            rest = max(rest, rest_after(time.process_time() - began, DRAWING))
        time.sleep(rest)
