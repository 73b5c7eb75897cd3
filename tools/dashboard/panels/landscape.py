"""The loss landscape: the measured surface, slowly turning, the run's path over it, contours beneath."""

from __future__ import annotations

import pathlib
import shlex
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import FixedLocator, FuncFormatter
from mpl_toolkits.mplot3d import Axes3D

from tools.dashboard.panels.drawing_style import SMALL, Pen
from tools.dashboard.panels.frame import Frame
from tools.dashboard.panels.terrain import (
    Heights,
    Path,
    axis_names,
    center_text,
    now_text,
    num_measured,
    path_of,
    plane_text,
)
from tools.figures.wording import columns_of, shortened
from tools.landscape.surface import Surface
from training.language.messages import Message

TITLE = Message("loss landscape")
ELEVATION = 27.0
"""Degrees above the horizon."""
FLOOR = 0.4
"""Distance of the contours beneath the lowest loss, in parts of the surface's height."""
LEVELS = 14
LONGEST_LINE = 60
"""Columns of the command that measures."""


def draw(axes: Axes, frame: Frame, pen: Pen) -> None:
    """Draw the panel."""
    surface = frame.landscape
    if surface is None:
        _nothing(axes, frame, frame.surface, pen)
        return
    assert isinstance(axes, Axes3D)
    heights, path = Heights(surface), path_of(surface, frame)
    axes.computed_zorder = False
    ground = _terrain(axes, surface, heights, pen)
    _path(axes, path, heights, ground, pen)
    _axes(axes, surface, heights, frame, pen)
    word = pen.typeface.word
    lines = (plane_text(surface, pen), word(center_text(surface, heights)), word(now_text(path, frame)))
    room = axes.get_position(original=True)
    for n, line in enumerate(lines):
        colour = pen.theme.text if n == 2 else pen.theme.faint
        # Beneath the room of the axes, which are shrunk to a square in it; the frame leaves space for three lines.
        axes.annotate(
            line, (room.x0, room.y0), (4.0, -13.0 - 11.0 * n), xycoords="figure fraction", textcoords="offset points",
            color=colour, fontsize=SMALL, va="top", annotation_clip=False,
        )  # fmt: skip
    pen.legend_above(axes, columns=3)


def _nothing(axes: Axes, frame: Frame, surface: Surface | None, pen: Pen) -> None:
    """Say what there is instead, in axes of two dimensions."""
    if surface is None:
        lines: Sequence[str] = (
            pen.typeface.label(Message("not measured yet")),
            *_command(frame.run.directory, pen),
            pen.typeface.word(Message("measures it from checkpoint and snapshots (snapshots: 64)")),
        )
    elif not np.isnan(surface.losses).any():
        lines = (
            pen.typeface.label(Message("no loss is finite")),
            pen.typeface.word(Message("at none of the {count} points that were measured", count=surface.losses.size)),
        )
    else:
        lines = (
            pen.typeface.label(Message("being measured")),
            pen.typeface.word(
                Message("{done} of the first {count} points", done=num_measured(surface), count=surface.losses.size)
            ),
        )
    pen.empty(axes, *lines)


def _command(directory: pathlib.Path, pen: Pen) -> Iterator[str]:
    """Yield the command that measures a run, in two lines where it is long; of a very long directory the end."""
    tool, argument = "python tools/loss_landscape.py", shlex.quote(pen.typeface.text(str(directory)))
    if columns_of(f"{tool} {argument}") <= LONGEST_LINE:
        yield f"{tool} {argument}"
    else:
        yield from (tool, shortened(argument, LONGEST_LINE))


def _terrain(axes: Axes3D, surface: Surface, heights: Heights, pen: Pen) -> float:
    """Draw the surface and its contours; return the height of the ground on which these lie."""
    x, y = np.meshgrid(surface.alphas, surface.betas)
    z = heights.of(surface.losses)
    low, high = float(z.min()), float(z.max())
    rise = high - low if high > low else 1.0
    ground = min(low, float(heights.of(np.array(heights.lowest)))) - FLOOR * rise
    levels = np.linspace(low, low + rise, LEVELS)
    axes.contourf(x, y, z, levels, zdir="z", offset=ground, cmap=pen.terrain, alpha=0.2, zorder=0.5)
    axes.contour(x, y, z, levels, zdir="z", offset=ground, cmap=pen.terrain, linewidths=0.8, alpha=0.9, zorder=0.6)
    edge = (*to_rgb(pen.theme.text if pen.theme.glow else pen.theme.faint), 0.22)
    axes.plot_surface(
        x, y, z, facecolors=pen.glass((z - low) / rise), rcount=49, ccount=49, linewidth=0.3, edgecolor=edge,
        antialiased=True, shade=False, zorder=2.0,
    )  # fmt: skip
    for collection in axes.collections:  # the axes' square is narrower than a turned surface, and has room next to it
        collection.set_clip_on(False)
    axes.set_zlim(ground, max(high, float(np.max(heights.of(np.array([heights.highest]))))))
    return ground


def _path(axes: Axes3D, path: Path, heights: Heights, ground: float, pen: Pen) -> None:
    if not len(path.steps):
        return
    theme = pen.theme
    a, b = path.plane.T
    on_plane, true = heights.of(path.plane_loss), heights.of(path.loss)
    axes.plot(a, b, np.full(len(a), ground), color=theme.secondary, lw=1.0, alpha=0.75, zorder=1.0)
    axes.plot(
        a, b, true, color=theme.tertiary, lw=1.0, ls=(0, (2, 2)), zorder=4.0,
        label=pen.typeface.label(Message("true loss")),
    )  # fmt: skip
    pen.line(
        axes, a, b, on_plane, color=theme.secondary, width=1.6, zorder=5.0,
        label=pen.typeface.label(Message("path on the plane")), marker="o", ms=1.8,
    )  # fmt: skip
    axes.plot([a[-1]] * 2, [b[-1]] * 2, [ground, on_plane[-1]], color=theme.primary, lw=0.8, alpha=0.8, zorder=4.5)
    axes.plot([a[-1]] * 2, [b[-1]] * 2, [on_plane[-1], true[-1]], color=theme.tertiary, lw=0.8, zorder=4.6)
    pen.point(axes, a[0], b[0], on_plane[0], color=theme.secondary, size=3.0, zorder=5.5)
    pen.point(
        axes, a[-1], b[-1], on_plane[-1], color=theme.primary, size=5.5, zorder=6.0,
        label=pen.typeface.label(Message("now")),
    )  # fmt: skip


def _axes(axes: Axes3D, surface: Surface, heights: Heights, frame: Frame, pen: Pen) -> None:
    axes.view_init(elev=ELEVATION, azim=frame.azimuth)
    axes.set_box_aspect((1.0, 1.0, 0.56), zoom=1.4)
    first, second = axis_names(surface)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(pen.typeface.word(first), labelpad=-12.0)
    axes.set_ylabel(pen.typeface.word(second), labelpad=-12.0)
    axes.zaxis.set_major_locator(FixedLocator(heights.marks(float(heights.of(surface.losses).min()))))
    axes.zaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{heights.loss(value):.3g}"))
    axes.tick_params(axis="z", pad=1.0)
    axes.set_xlim(surface.alphas[0], surface.alphas[-1])
    axes.set_ylim(surface.betas[0], surface.betas[-1])
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0.0, 0.0, 0.0, 0.0))
        axis.line.set_color(pen.theme.edge)
    axes.grid(False)
