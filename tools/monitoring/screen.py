"""The monitor live: the whole terminal, redrawn every few seconds, and given back as it was."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from tools.monitoring.leaderboard import leaderboards
from tools.monitoring.order import in_order
from tools.monitoring.sparkline import glyphs_for
from tools.monitoring.table import Layout, picture
from tools.runs.fleet import Fleet
from training.language.messages import Message, translated


def watch(fleet: Fleet, order: str, refresh_seconds: float) -> None:
    """Show the fleet until Ctrl-C, then leave the last picture in the scroll-back."""
    console = Console()
    try:
        with _terminated_in_order(), Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(draw(fleet, order, console, is_live=True), refresh=True)
                time.sleep(refresh_seconds)
    except KeyboardInterrupt:
        console.print(draw(fleet, order, console, is_live=False))


def draw(fleet: Fleet, order: str, console: Console, *, is_live: bool) -> RenderableType:
    """Draw the fleet as it is now, as large as the console."""
    now = time.time()
    runs = in_order(fleet.look(now), order)
    glyphs = glyphs_for(console.encoding)
    notes = [Text(note, "red") for note in fleet.unreadable]
    if not runs:
        below = ", ".join(map(str, fleet.roots))
        return Group(
            Text(translated(Message("no run below {places} yet; waiting (Ctrl-C leaves)", places=below))), *notes
        )
    # Notes and the line about Ctrl-C need their room, too.
    height = console.height - len(notes) - 1 if is_live else None
    table = picture(runs, fleet.alerts(runs, now), leaderboards(runs), Layout(console.width, height, glyphs))
    leave = [Text(translated(Message("Ctrl-C leaves")), "dim")] if is_live else []
    return Group(table, *notes, *leave)


@contextmanager
def _terminated_in_order() -> Iterator[None]:
    """Let SIGTERM end the program as an exception does, so that the terminal is restored."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
