"""Where the panels lie: frames that never touch, and in each room for its axes, its labels and its title."""

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
from tools.dashboard.drawing_style import LARGE, SMALL, Pen
from tools.dashboard.frame import Scene
from tools.dashboard.panels import gradient, landscape, learning_rate, loss, status, trajectory
from tools.dashboard.panels.status import scene_colour, scene_state
from tools.runs.wording import shortened

WIDTH, HEIGHT = 12.8, 7.2
"""Inches: at 100 dots an inch 1280 x 720 pixels, the least in which everything can be read."""
BACKGROUND = "background"
"""The label of the axes behind all panels."""
LONGEST_TITLE = 84
"""Columns."""


class Margins(NamedTuple):
    """Room between a frame and its axes, in inches."""

    left: float
    bottom: float
    right: float
    top: float


class Frame(NamedTuple):
    """A part of the figure, from its lower left corner (0, 0) to its upper right one (1, 1)."""

    left: float
    bottom: float
    right: float
    top: float


class Panel(NamedTuple):
    """One of the six."""

    title: tuple[str, str]
    """Chinese, English."""
    draw: Callable[[Axes, Scene, Pen], None]
    frame: Frame
    margins: Margins
    is_solid: bool = False
    """In three dimensions."""


_CURVES = Margins(0.55, 0.40, 0.14, 0.34)
PANELS = {
    "landscape": Panel(
        landscape.TITLE, landscape.draw, Frame(0.008, 0.37, 0.535, 0.935), Margins(0.08, 0.68, 0.08, 0.30), True
    ),
    "loss": Panel(loss.TITLE, loss.draw, Frame(0.543, 0.61, 0.992, 0.935), _CURVES),
    "gradient": Panel(gradient.TITLE, gradient.draw, Frame(0.543, 0.312, 0.992, 0.5965), _CURVES),
    "learning-rate": Panel(learning_rate.TITLE, learning_rate.draw, Frame(0.543, 0.014, 0.992, 0.2985), _CURVES),
    "trajectory": Panel(
        trajectory.TITLE, trajectory.draw, Frame(0.008, 0.014, 0.267, 0.3565), Margins(0.28, 0.27, 0.12, 0.32)
    ),
    "status": Panel(
        status.TITLE, status.draw, Frame(0.275, 0.014, 0.535, 0.3565), Margins(0.16, 0.10, 0.16, 0.34)
    ),
}  # fmt: skip
_ALONE = Frame(0.008, 0.014, 0.992, 0.935)


def panel_named(name: str) -> str:
    """The name, if there is such a panel.

    Raises:
        UserError: there is none.
    """
    return one_of("--panel", name, "panel", PANELS)


def new_figure(width: float = WIDTH, height: float = HEIGHT, dpi: float = 100.0) -> Figure:
    """An empty figure that needs no display."""
    figure = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def compose(figure: Figure, scene: Scene, pen: Pen, panel: str | None = None) -> None:
    """Draw the scene anew, all panels or one alone. The pen's style must be set.

    Args:
        figure: at least `WIDTH` by `HEIGHT` inches, else texts overlap; it is cleared.
        scene: what to draw.
        pen: how.
        panel: the name of the only one; None: all six.
    """
    figure.clear()
    figure.set_facecolor(pen.theme.ground)
    _ground(figure, pen)
    _header(figure, scene, pen)
    for name, one in PANELS.items():
        if panel in (None, name):
            _panel(figure, name, one, one.frame if panel is None else _ALONE, scene, pen)


def _panel(figure: Figure, name: str, panel: Panel, frame: Frame, scene: Scene, pen: Pen) -> None:
    _frame(figure, frame, pen)
    width, height = figure.get_size_inches()
    room = panel.margins
    left, bottom = frame.left + room.left / width, frame.bottom + room.bottom / height
    size = frame.right - room.right / width - left, frame.top - room.top / height - bottom
    kind = {"projection": "3d"} if panel.is_solid else {}
    axes = figure.add_axes((left, bottom, *size), label=name, **kind)  # type: ignore[call-overload]
    figure.text(
        frame.left + 0.12 / width, frame.top - 0.165 / height, pen.typeface.label(*panel.title), color=pen.theme.text,
        fontsize=9.5, va="center", gid=f"title {name}", **pen.bold,
    )  # fmt: skip
    panel.draw(axes, scene, pen)


def _ground(figure: Figure, pen: Pen) -> None:
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), label=BACKGROUND, zorder=-10)
    axes.set_axis_off()
    if pen.theme.nebula == pen.theme.ground:
        return
    x, y = np.meshgrid(np.linspace(-1.0, 1.0, 96), np.linspace(-1.0, 1.0, 54))
    light = np.exp(-((x + 0.45) ** 2 + (y - 0.15) ** 2) / 0.5) + 0.6 * np.exp(-((x - 0.8) ** 2 + (y + 0.9) ** 2) / 0.4)
    colours = LinearSegmentedColormap.from_list("ground", (pen.theme.ground, pen.theme.nebula))
    axes.imshow(light, cmap=colours, vmin=0.0, vmax=1.0, aspect="auto", interpolation="bilinear", origin="lower")


def _frame(figure: Figure, frame: Frame, pen: Pen) -> None:
    """A panel's ground, its edge, and two bright corners."""
    theme = pen.theme
    size = frame.right - frame.left, frame.top - frame.bottom
    ground = Rectangle(frame[:2], *size, fc=theme.panel, ec=theme.edge, lw=0.8, alpha=0.9, zorder=-5)
    figure.add_artist(ground)
    width, height = figure.get_size_inches()
    dx, dy = 0.22 / width, 0.22 / height
    corners = (
        ([frame.left, frame.left, frame.left + dx], [frame.top - dy, frame.top, frame.top]),
        ([frame.right - dx, frame.right, frame.right], [frame.bottom, frame.bottom, frame.bottom + dy]),
    )
    for xs, ys in corners:
        for wider, alpha in ((4.0, 0.15 * theme.glow), (0.0, 1.0)):
            figure.add_artist(Line2D(xs, ys, color=theme.primary, lw=1.3 + wider, alpha=alpha, zorder=-4))


def _header(figure: Figure, scene: Scene, pen: Pen) -> None:
    theme = pen.theme
    light = [Stroke(linewidth=5.0, foreground=theme.primary, alpha=0.18 * theme.glow), Normal()] if theme.glow else []
    figure.text(
        0.009, 0.967, "APT", fontsize=15, color=theme.primary, va="center", path_effects=light,
        gid="brand", **pen.bold,
    )  # fmt: skip
    name = shortened(pen.typeface.text(scene.run.name), LONGEST_TITLE)
    figure.text(0.052, 0.9665, name, fontsize=LARGE, color=theme.text, va="center", gid="name")
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
    figure.text(
        0.885, 0.967, scene_state(scene), fontsize=LARGE, color=scene_colour(scene, theme), ha="right",
        va="center", gid="state", **pen.bold,
    )  # fmt: skip
    figure.text(0.991, 0.967, when, fontsize=SMALL, color=theme.faint, ha="right", va="center", gid="time")
