"""Positions of the panels: boxes that never touch, each with room for its axes, its labels and its title."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke

from tools.command_line import one_of
from tools.dashboard.panels import gradient, landscape, learning_rate, loss, samples, status, trajectory
from tools.dashboard.panels.drawing_style import LARGE, SMALL, Pen
from tools.dashboard.panels.frame import Frame
from tools.dashboard.panels.status import frame_colour, frame_state
from tools.figures.wording import shortened
from training.language.messages import Message

WIDTH, HEIGHT = 12.8, 7.2
"""Inches: at 100 dots an inch 1280 x 720 pixels, the least in which everything can be read."""
BACKGROUND = "background"
"""The label of the axes behind all panels."""
LONGEST_TITLE = 84
"""Columns of the run's name."""


class Margins(NamedTuple):
    """Room between a box and its axes, in inches."""

    left: float
    bottom: float
    right: float
    top: float


class Box(NamedTuple):
    """A part of the figure, from its lower left corner (0, 0) to its upper right one (1, 1)."""

    left: float
    bottom: float
    right: float
    top: float


class Panel(NamedTuple):
    """One of the six panels."""

    title: Message
    draw: Callable[[Axes, Frame, Pen], None]
    box: Box
    margins: Margins
    is_solid: bool = False
    """Drawn in three dimensions."""


_CURVES = Margins(0.55, 0.40, 0.14, 0.34)
PANELS = {
    "landscape": Panel(
        landscape.TITLE, landscape.draw, Box(0.008, 0.37, 0.535, 0.935), Margins(0.08, 0.68, 0.08, 0.30), True
    ),
    "loss": Panel(loss.TITLE, loss.draw, Box(0.543, 0.61, 0.992, 0.935), _CURVES),
    "gradient": Panel(gradient.TITLE, gradient.draw, Box(0.543, 0.312, 0.992, 0.5965), _CURVES),
    "learning-rate": Panel(learning_rate.TITLE, learning_rate.draw, Box(0.543, 0.014, 0.992, 0.2985), _CURVES),
    "trajectory": Panel(
        trajectory.TITLE, trajectory.draw, Box(0.008, 0.014, 0.267, 0.3565), Margins(0.28, 0.27, 0.12, 0.32)
    ),
    "status": Panel(
        status.TITLE, status.draw, Box(0.275, 0.014, 0.535, 0.3565), Margins(0.16, 0.10, 0.16, 0.34)
    ),
}  # fmt: skip
WITHOUT_LANDSCAPE = {
    "loss": Box(0.008, 0.40, 0.66, 0.935),
    "status": Box(0.668, 0.5925, 0.992, 0.935),
    "landscape": Box(0.668, 0.40, 0.992, 0.579),
    "gradient": Box(0.008, 0.014, 0.496, 0.3865),
    "learning-rate": Box(0.504, 0.014, 0.992, 0.3865),
}
"""Boxes as long as there is no landscape to draw: the curves are larger, and no half of the picture is empty."""
SAMPLES = "samples"
FURTHER = {
    SAMPLES: Panel(samples.TITLE, samples.draw, Box(0.553, 0.40, 0.992, 0.935), Margins(0.14, 0.10, 0.14, 0.36)),
}  # fmt: skip
"""Panels of runs that have something to show in them."""
WITH_SAMPLES = {
    "loss": Box(0.008, 0.40, 0.545, 0.935),
    SAMPLES: FURTHER[SAMPLES].box,
    "gradient": Box(0.008, 0.014, 0.395, 0.3865),
    "learning-rate": Box(0.403, 0.014, 0.722, 0.3865),
    "status": Box(0.730, 0.014, 0.992, 0.3865),
}
"""Boxes of a run that has drawn samples and whose landscape was not measured."""
_NOTE = Margins(0.08, 0.08, 0.08, 0.34)
"""Room around a note in a landscape's place."""
_ALONE = Box(0.008, 0.014, 0.992, 0.935)


def arrangement(frame: Frame, panel: str | None = None) -> dict[str, Box]:
    """Return the boxes of the panels that are drawn; of one alone, the whole picture."""
    if panel is not None:
        return {panel: _ALONE}
    has_samples = bool(frame.run.history.sample_files)
    if frame.landscape is None:
        return WITH_SAMPLES if has_samples else WITHOUT_LANDSCAPE
    boxes = {name: one.box for name, one in PANELS.items()}
    if has_samples:  # the path is seen on the landscape too
        boxes[SAMPLES] = boxes.pop("trajectory")
    return boxes


def panel_named(name: str) -> str:
    """Return the name, if there is such a panel.

    Raises:
        UserError: there is none.
    """
    return one_of("--panel", name, "panel", {**PANELS, **FURTHER})


def new_figure(width: float = WIDTH, height: float = HEIGHT, dpi: float = 100.0) -> Figure:
    """Return an empty figure that needs no display."""
    figure = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def compose(figure: Figure, frame: Frame, pen: Pen, panel: str | None = None) -> None:
    """Draw a frame, all panels or one alone. The pen's style must be set.

    Args:
        figure: at least `WIDTH` by `HEIGHT` inches, else texts overlap; it is cleared.
        frame: what to draw.
        pen: style of drawing.
        panel: the name of the only one; None: all of the arrangement.
    """
    figure.clear()
    figure.set_facecolor(pen.theme.ground)
    _ground(figure, pen)
    _header(figure, frame, pen)
    for name, box in arrangement(frame, panel).items():
        _panel(figure, name, {**PANELS, **FURTHER}[name], box, frame, pen)


def _panel(figure: Figure, name: str, panel: Panel, box: Box, frame: Frame, pen: Pen) -> None:
    _box(figure, box, pen)
    width, height = figure.get_size_inches()
    is_solid = panel.is_solid and frame.landscape is not None
    room = _NOTE if panel.is_solid and not is_solid else panel.margins
    left, bottom = box.left + room.left / width, box.bottom + room.bottom / height
    size = box.right - room.right / width - left, box.top - room.top / height - bottom
    kind = {"projection": "3d"} if is_solid else {}
    axes = figure.add_axes((left, bottom, *size), label=name, **kind)  # type: ignore[call-overload]
    figure.text(
        box.left + 0.12 / width, box.top - 0.165 / height, pen.typeface.label(panel.title), color=pen.theme.text,
        fontsize=9.5, va="center", gid=f"title {name}", **pen.bold,
    )  # fmt: skip
    panel.draw(axes, frame, pen)


def _ground(figure: Figure, pen: Pen) -> None:
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), label=BACKGROUND, zorder=-10)
    axes.set_axis_off()
    if pen.theme.nebula == pen.theme.ground:
        return
    x, y = np.meshgrid(np.linspace(-1.0, 1.0, 96), np.linspace(-1.0, 1.0, 54))
    light = np.exp(-((x + 0.45) ** 2 + (y - 0.15) ** 2) / 0.5) + 0.6 * np.exp(-((x - 0.8) ** 2 + (y + 0.9) ** 2) / 0.4)
    colours = LinearSegmentedColormap.from_list("ground", (pen.theme.ground, pen.theme.nebula))
    axes.imshow(light, cmap=colours, vmin=0.0, vmax=1.0, aspect="auto", interpolation="bilinear", origin="lower")


def _box(figure: Figure, box: Box, pen: Pen) -> None:
    """Draw a panel's ground, its edge, and two bright corners."""
    theme = pen.theme
    size = box.right - box.left, box.top - box.bottom
    ground = Rectangle(box[:2], *size, fc=theme.panel, ec=theme.edge, lw=0.8, alpha=0.9, zorder=-5)
    figure.add_artist(ground)
    width, height = figure.get_size_inches()
    dx, dy = 0.22 / width, 0.22 / height
    corners = (
        ([box.left, box.left, box.left + dx], [box.top - dy, box.top, box.top]),
        ([box.right - dx, box.right, box.right], [box.bottom, box.bottom, box.bottom + dy]),
    )
    for xs, ys in corners:
        for wider, alpha in ((4.0, 0.15 * theme.glow), (0.0, 1.0)):
            figure.add_artist(Line2D(xs, ys, color=theme.primary, lw=1.3 + wider, alpha=alpha, zorder=-4))


def _header(figure: Figure, frame: Frame, pen: Pen) -> None:
    theme = pen.theme
    light = [Stroke(linewidth=5.0, foreground=theme.primary, alpha=0.18 * theme.glow), Normal()] if theme.glow else []
    figure.text(
        0.009, 0.967, "APT", fontsize=15, color=theme.primary, va="center", path_effects=light,
        gid="brand", **pen.bold,
    )  # fmt: skip
    name = shortened(pen.typeface.text(frame.run.name), LONGEST_TITLE)
    figure.text(0.052, 0.9665, name, fontsize=LARGE, color=theme.text, va="center", gid="name")
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
    figure.text(
        0.885, 0.967, pen.typeface.word(frame_state(frame)), fontsize=LARGE, color=frame_colour(frame, theme),
        ha="right", va="center", gid="state", **pen.bold,
    )  # fmt: skip
    figure.text(0.991, 0.967, when, fontsize=SMALL, color=theme.faint, ha="right", va="center", gid="time")
