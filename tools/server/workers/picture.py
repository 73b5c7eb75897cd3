"""The process that draws one picture of a run for the server, as a PNG on its standard output.

    python -m tools.server.workers.picture RUN NAME PICTURE LANGUAGE THEME

PICTURE is a panel of the dashboard, `overview` for all of them, or `terrain` for the measured loss landscape alone.
Drawing takes a second of a core and a hundred megabytes, which leave with the process. A line on its standard error and
exit code 2: there is nothing to draw.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from training.errors import UserError
from training.language.messages import LANGUAGES, choose_language

NICENESS = 10
CPU_SECONDS, MEMORY_BYTES = 60, 4 * 2**30
"""Limits of the system on this process."""
DPI = 100.0


def draw(run_dir: Path, name: str, picture: str, theme: str) -> bytes:
    """Return the PNG.

    Raises:
        UserError: there is nothing to draw.
    """
    from tools.dashboard.panels.drawing_style import Pen
    from tools.dashboard.panels.theme import theme_named
    from tools.dashboard.picture import draw as draw_frame
    from tools.dashboard.reader import Reader
    from tools.figures.fonts import Typeface

    reader = Reader(run_dir, [])
    reader.run.name = name
    frame = reader.look()
    if frame.run.summary is None:
        raise UserError(f"{name}: there is no record to draw")
    if picture == "terrain":
        return _terrain(run_dir, name, frame.run.summary.started_at or 0.0)
    return draw_frame(frame, Pen(theme_named(theme), Typeface()), DPI, None if picture == "overview" else picture)


def _terrain(run_dir: Path, name: str, since: float) -> bytes:
    from tools.landscape.figure import draw as draw_surface
    from tools.landscape.surface import read_surface

    surface = read_surface(run_dir, since)
    if surface is None:
        raise UserError(f"{name}: its landscape was not measured; python tools/loss_landscape.py RUN does")
    with tempfile.TemporaryDirectory(prefix="apt-picture-") as folder:
        path = Path(folder) / "terrain.png"
        draw_surface(surface, name, path)
        return path.read_bytes()


def main(arguments: Sequence[str]) -> int:
    """Draw, and return the exit code."""
    out = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no part of the picture
    _limit()
    run_dir, name, picture, language, theme = arguments
    choose_language(next(known for known in LANGUAGES if known == language))
    try:
        content = draw(Path(run_dir), name, picture, theme)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    with os.fdopen(out, "wb") as file:
        file.write(content)
    return 0


def _limit() -> None:
    """Ask the system to end this process if a record makes it compute or hold too much."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    with contextlib.suppress(ImportError):  # Windows has no such limits; the server's time limit holds there too
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
