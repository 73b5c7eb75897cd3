"""The dashboard in a window, by Tk or Qt.

A figure is drawn anew only when the run has news. Between, the landscape alone is turned, on a copy of the rest, and
rests nine times as long as that took: whatever the machine, watching takes a tenth of a core at most.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D

from apt_model.errors import UserError
from tools.dashboard.layout import HEIGHT, WIDTH, compose
from tools.dashboard.live import fingerprint
from tools.dashboard.pen import Pen
from tools.dashboard.stage import Stage

TOOLKITS = ("TkAgg", "QtAgg")
SHARE = 0.1
"""Of one core, for turning."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.08, 0.5
"""Seconds; a longer one would let Ctrl-C wait."""
DPI = 100


def open_figure(title: str) -> Figure:
    """A window of 1280 x 720 pixels.

    Raises:
        UserError: there is no display, or neither Tk nor Qt.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError(
            "there is no display to open a window on (DISPLAY is not set); add --output FILE.png to keep a picture up "
            "to date instead"
        )
    from matplotlib import pyplot

    problems = []
    for toolkit in TOOLKITS:
        try:
            pyplot.switch_backend(toolkit)
            with rc_context({"toolbar": "None"}):
                figure = pyplot.figure(figsize=(WIDTH, HEIGHT), dpi=DPI)
        except Exception as error:  # each toolkit fails in its own way: not installed, no display, a library missing
            problems.append(f"{toolkit.removesuffix('Agg')}: {error}")
            continue
        if figure.canvas.manager is not None:
            figure.canvas.manager.set_window_title(title)
        return figure
    raise UserError(
        f"no window can be opened ({'; '.join(problems)}); install Tk (Debian: apt install python3-tk) or Qt "
        "(pip install PySide6), or add --output FILE.png to keep a picture up to date instead"
    )


class Window:
    """Shows the stage in a figure of an interactive toolkit.

    Args:
        figure: as `open_figure` gives it.
        stage: what to follow.
        pen: how to draw.
        panel: the only one; None: all.
        refresh: seconds between two looks at the run.
    """

    def __init__(self, figure: Figure, stage: Stage, pen: Pen, panel: str | None, refresh: float) -> None:
        self._figure, self._stage, self._pen, self._panel, self._refresh = figure, stage, pen, panel, refresh
        self._canvas: Any = figure.canvas  # of Tk or Qt; both draw by Agg and can copy a part of themselves
        self._drawn: tuple[object, ...] | None = None
        self._scene = stage.look()
        self._looked = time.monotonic()
        self._turn_due = 0.0
        self._is_left = False
        self._failure: Exception | None = None
        self._rest: Any = None
        """The pixels of everything but the landscape."""
        self._canvas.mpl_connect("draw_event", self._on_draw)
        self._canvas.mpl_connect("resize_event", self._on_resize)

    def show(self) -> None:
        """Until the window is closed, or Ctrl-C. Raises what went wrong meanwhile."""
        from matplotlib import pyplot

        self._compose()
        self._timer = self._canvas.new_timer(interval=int(1000 * SHORTEST_PAUSE))
        self._timer.single_shot = True
        self._timer.add_callback(self._tick)
        self._timer.start()
        # Tk prints and forgets what is raised in its callbacks, Ctrl-C's exception too: both are kept until it is left.
        before = signal.signal(signal.SIGINT, self._on_interrupt)
        try:
            pyplot.show(block=True)
        finally:
            signal.signal(signal.SIGINT, before)
        if self._failure is not None:
            raise self._failure

    def _on_interrupt(self, number: int, frame: object) -> None:
        self._is_left = True

    def _tick(self) -> None:
        if not self._is_left:
            try:
                self._step()
            except Exception as error:
                self._failure, self._is_left = error, True
        if self._is_left:
            from matplotlib import pyplot

            pyplot.close(self._figure)

    def _step(self) -> None:
        began = time.monotonic()
        if began - self._looked >= self._refresh:
            self._scene, self._looked = self._stage.look(), began
        if fingerprint(self._scene) != self._drawn:
            self._compose()
            self._canvas.draw()
        elif began >= self._turn_due:
            self._turn()
        if began >= self._turn_due:
            now = time.monotonic()
            self._turn_due = now + max(SHORTEST_PAUSE, (now - began) * (1.0 / SHARE - 1.0))
        due = self._looked + self._refresh
        if self._scene.surface is not None and self._solid() is not None:
            due = min(due, self._turn_due)
        pause = min(max(due - time.monotonic(), 0.001), LONGEST_PAUSE)
        self._timer.interval = max(1, int(1000 * pause))
        self._timer.start()

    def _compose(self) -> None:
        with rc_context(self._pen.style()):
            compose(self._figure, self._scene, self._pen, self._panel)
        if (solid := self._solid()) is not None:
            solid.set_animated(True)
        self._drawn = fingerprint(self._scene)

    def _solid(self) -> Axes3D | None:
        return next((axes for axes in self._figure.axes if isinstance(axes, Axes3D)), None)

    def _on_draw(self, event: object) -> None:
        self._rest = self._canvas.copy_from_bbox(self._figure.bbox)
        self._turn()

    def _on_resize(self, event: object) -> None:
        self._drawn = None  # margins are in inches

    def _turn(self) -> None:
        solid = self._solid()
        if solid is None or self._rest is None:
            return
        self._canvas.restore_region(self._rest)
        solid.view_init(elev=solid.elev, azim=self._stage.azimuth())
        with rc_context(self._pen.style()):
            self._figure.draw_artist(solid)
        self._canvas.blit(self._figure.bbox)
