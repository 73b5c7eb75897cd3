"""The dashboard in a window, by Tk or Qt.

A figure is drawn again only when the run has news. Between, the landscape alone is turned, on a copy of the rest. Both
pause in proportion to the time they took, so watching takes at most three tenths of a core on any machine.
"""

from __future__ import annotations

import signal
import time
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D

from tools.dashboard.layout import HEIGHT, WIDTH, compose
from tools.dashboard.live import DRAWING, fingerprint, rest_after
from tools.dashboard.panels.drawing_style import Pen
from tools.dashboard.reader import Reader
from tools.dashboard.toolkit import toolkit_here

TURNING = 0.1
"""Share of one core for turning the landscape."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.08, 0.5
"""Seconds; a longer one would let Ctrl-C wait."""
DPI = 100


def open_figure(title: str) -> Figure:
    """Open a window of 1280 x 720 pixels.

    Raises:
        UserError: there is no display, or neither Tk nor Qt.
    """
    toolkit = toolkit_here()
    from matplotlib import pyplot

    pyplot.switch_backend(toolkit.backend)
    with rc_context({"toolbar": "None"}):
        figure = pyplot.figure(figsize=(WIDTH, HEIGHT), dpi=DPI)
    if figure.canvas.manager is not None:
        figure.canvas.manager.set_window_title(title)
    return figure


class Window:
    """Shows the reader in a figure of an interactive toolkit.

    Args:
        figure: as `open_figure` gives it.
        reader: what to follow.
        pen: style of drawing.
        panel: the only one; None: all.
        refresh: seconds between two looks at the run.
    """

    def __init__(self, figure: Figure, reader: Reader, pen: Pen, panel: str | None, refresh: float) -> None:
        self._figure, self._reader, self._pen, self._panel, self._refresh = figure, reader, pen, panel, refresh
        self._canvas: Any = figure.canvas  # of Tk or Qt; both draw by Agg and can copy a part of themselves
        self._drawn: tuple[object, ...] | None = None
        self._size = (0, 0)  # pixels that it was drawn on
        self._frame = reader.look()
        self._looked = time.monotonic()
        self._draw_due = self._turn_due = 0.0
        self._is_left = False
        self._failure: Exception | None = None
        self._rest: Any = None
        """The pixels of everything but the landscape."""
        self._canvas.mpl_connect("draw_event", self._on_draw)
        self._canvas.mpl_connect("resize_event", self._on_resize)

    def show(self) -> None:
        """Show the window until it is closed, or Ctrl-C. Raises what went wrong meanwhile."""
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
        now = time.monotonic()
        if now - self._looked >= self._refresh:
            self._frame, self._looked = self._reader.look(), now
        if fingerprint(self._frame) != self._drawn and now >= self._draw_due:
            began = time.process_time()
            self._compose()
            self._canvas.draw()
            self._draw_due = time.monotonic() + rest_after(time.process_time() - began, DRAWING)
        elif now >= self._turn_due:
            began = time.process_time()
            self._turn()
            rest = rest_after(time.process_time() - began, TURNING)
            self._turn_due = time.monotonic() + max(SHORTEST_PAUSE, rest)
        due = self._looked + self._refresh
        if self._solid() is not None:
            due = min(due, self._turn_due)
        pause = min(max(due - time.monotonic(), 0.001), LONGEST_PAUSE)
        self._timer.interval = max(1, int(1000 * pause))
        self._timer.start()

    def _compose(self) -> None:
        with rc_context(self._pen.style()):
            compose(self._figure, self._frame, self._pen, self._panel)
        if (solid := self._solid()) is not None:
            solid.set_animated(True)
        self._drawn, self._size = fingerprint(self._frame), self._canvas.get_width_height()

    def _solid(self) -> Axes3D | None:
        return next((axes for axes in self._figure.axes if isinstance(axes, Axes3D)), None)

    def _on_draw(self, event: object) -> None:
        self._rest = self._canvas.copy_from_bbox(self._figure.bbox)
        self._turn()

    def _on_resize(self, event: object) -> None:
        if self._canvas.get_width_height() != self._size:  # a window that opens gets an event with its own size
            self._drawn, self._draw_due = None, 0.0  # margins are in inches

    def _turn(self) -> None:
        solid = self._solid()
        if solid is None or self._rest is None:
            return
        self._canvas.restore_region(self._rest)
        solid.view_init(elev=solid.elev, azim=self._reader.azimuth())
        with rc_context(self._pen.style()):
            self._figure.draw_artist(solid)
        self._canvas.blit(self._figure.bbox)
