"""The run's path in the plane of the measured surface, from above: from the start to now, over the contours."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from tools.dashboard.panels.drawing_style import SMALL, Pen
from tools.dashboard.panels.frame import Frame
from tools.dashboard.panels.terrain import Heights, Path, axis_names, path_of
from tools.landscape.surface import Surface
from training.language.messages import Message

TITLE = Message("trajectory")
MARGIN = 0.17
LEVELS = 16
LABEL_WIDTH, LABEL_HEIGHT = 70.0, 12.0
"""Points, at most."""


def draw(axes: Axes, frame: Frame, pen: Pen) -> None:
    """Draw the panel."""
    surface = frame.landscape
    if surface is None or not len(surface.path_steps):
        needs = (Message("it needs weight snapshots"), Message("and the measured landscape"))
        pen.empty(axes, pen.typeface.label(Message("no path yet")), *map(pen.typeface.word, needs))
        return
    path = path_of(surface, frame)
    _contours(axes, surface, pen)
    _limits(axes, surface)
    if len(path.steps):
        _path(axes, path, pen)
    first, second = axis_names(surface)
    axes.set_xlabel(pen.typeface.word(first), labelpad=2.0)
    axes.set_ylabel(pen.typeface.word(second), labelpad=2.0)
    axes.set_xticks([])
    axes.set_yticks([])
    if len(path.steps):
        words = Message(
            "off plane {now:.2g}, at most {most:.2g}", now=float(path.distance[-1]), most=float(path.distance.max())
        )
        axes.annotate(
            pen.typeface.word(words), (1.0, 1.0), (0.0, 7.0), xycoords="axes fraction", textcoords="offset points",
            ha="right", fontsize=6.5, color=pen.theme.faint,
        )  # fmt: skip


def _contours(axes: Axes, surface: Surface, pen: Pen) -> None:
    z = Heights(surface).of(surface.losses)
    low, high = float(z.min()), float(z.max())
    levels = np.linspace(low, high if high > low else low + 1.0, LEVELS)
    axes.contourf(surface.alphas, surface.betas, z, levels, cmap=pen.terrain, alpha=0.45, zorder=1.0)
    axes.contour(surface.alphas, surface.betas, z, levels, cmap=pen.terrain, linewidths=0.7, alpha=0.9, zorder=1.5)


def _path(axes: Axes, path: Path, pen: Pen) -> None:
    theme, points = pen.theme, path.plane
    segments = np.stack([points[:-1], points[1:]], axis=1)
    order = np.linspace(0.0, 1.0, max(1, len(segments)))
    for wider, alpha in ((5.0, 0.10), (2.6, 0.2), (0.0, 1.0)) if theme.glow else ((0.0, 1.0),):
        lines = LineCollection(list(segments), cmap=pen.path, linewidths=1.6 + wider, alpha=alpha, zorder=3.0)
        lines.set_array(1.0 - order)
        lines.set_clim(0.0, 1.0)
        axes.add_collection(lines)
    axes.plot(*points.T, ".", color=theme.text if theme.glow else theme.panel, ms=2.0, zorder=3.5)
    labels = (pen.typeface.label(Message("start")), pen.typeface.label(Message("now")))
    heights = points[:, 1]  # the labels lie beyond the ends, not on the path
    falls, rises = heights[: len(heights) // 4 + 1].mean() < heights[0], heights[-4:].mean() < heights[-1]
    (x0, y0), (x1, y1) = axes.transData.transform(points[[0, -1]]) * 72.0 / axes.figure.dpi
    if abs(x1 - x0) < LABEL_WIDTH and abs(y1 - y0) < 3.0 * LABEL_HEIGHT:  # or one would lie on the other
        falls, rises = y0 >= y1, y0 < y1
    ends = ((points[0], labels[0], theme.secondary, 3.5, falls), (points[-1], labels[1], theme.primary, 5.5, rises))
    for (x, y), label, colour, size, is_above in ends if len(points) > 1 else ends[1:]:
        pen.point(axes, x, y, color=colour, size=size)
        axes.annotate(
            label, (x, y), (0.0, 8.0 if is_above else -8.0), textcoords="offset points", ha="center",
            va="bottom" if is_above else "top", fontsize=SMALL, color=theme.text, zorder=7.0,
        )  # fmt: skip


def _limits(axes: Axes, surface: Surface) -> None:
    """Set the limits to the whole path with some room; never beyond what was measured."""
    for set_limits, values, ends in (
        (axes.set_xlim, surface.path_plane[:, 0], surface.alphas),
        (axes.set_ylim, surface.path_plane[:, 1], surface.betas),
    ):
        low, high = float(values.min()), float(values.max())
        least = 0.25 * float(ends[-1] - ends[0])
        room = max(MARGIN * (high - low), 0.5 * (least - (high - low)))
        set_limits(max(float(ends[0]), low - room), min(float(ends[-1]), high + room))
