"""The dashboard as a PNG, without a display."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib import rc_context

from tools.dashboard.layout import compose, new_figure
from tools.dashboard.panels.drawing_style import Pen
from tools.dashboard.panels.frame import Frame
from tools.figures.output_file import write_atomically


def draw(frame: Frame, pen: Pen, dpi: float, panel: str | None = None) -> bytes:
    """Return the PNG of a frame: 12.8 by 7.2 inches at `dpi` dots an inch; one `panel` alone, or all."""
    with rc_context(pen.style()):
        figure = new_figure(dpi=dpi)
        compose(figure, frame, pen, panel)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def save(frame: Frame, pen: Pen, dpi: float, path: Path, panel: str | None = None) -> None:
    """Replace the picture at `path`, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    write_atomically(path, draw(frame, pen, dpi, panel))
