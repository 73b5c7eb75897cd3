"""A surface as a picture: the terrain with the path, the map of it, and how exact both are. Drawn without a display."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tools.figures.fonts import Typeface
from tools.figures.output_file import write_atomically
from tools.landscape.surface import Floats, Surface
from training.errors import UserError
from training.language.messages import Message

_COLOURS = "viridis"
_TRUE, _ON_PLANE = "#cc3311", "#0077bb"
_LEVELS = 16
MAX_RATIO = 1e3
"""Ratio of the largest loss to the smallest above which heights are drawn by their logarithm."""


def draw(surface: Surface, run_name: str, path: Path, dpi: int = 110, typeface: Typeface | None = None) -> list[str]:
    """Write the picture as a PNG and return notes for the user.

    Raises:
        UserError: it cannot be written.
    """
    face = typeface or Typeface()
    with rc_context({"font.family": face.families, "axes.unicode_minus": False, "text.parse_math": False}):
        figure = Figure(figsize=(15, 8.5), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(2, 2, width_ratios=(1.7, 1.0))
        figure.suptitle(f"{face.label(Message('Loss landscape'))}: {face.name(run_name)}")
        height = Height(surface)
        _terrain(figure.add_subplot(grid[:, 0], projection="3d"), surface, height, face)
        _map(figure, figure.add_subplot(grid[0, 1]), surface, height, face)
        _truth(figure.add_subplot(grid[1, 1]), surface, face)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
    write_atomically(path, buffer.getvalue())
    notes = face.advice()
    if height.not_finite:
        notes.append(f"at {height.not_finite} points the loss is not finite; the picture has holes there")
    return notes


class Height:
    """Losses as heights: themselves, or their logarithm to base 10 where they span more than MAX_RATIO."""

    def __init__(self, surface: Surface) -> None:
        losses = surface.losses
        self.not_finite = int(np.isinf(losses).sum())
        finite = losses[np.isfinite(losses)]
        if not len(finite):
            raise UserError("no point of the surface has a finite loss, so there is nothing to draw")
        self.is_log = bool(finite.min() > 0.0 and finite.max() > MAX_RATIO * finite.min())
        self.of_grid = np.ma.masked_invalid(self.of(losses))

    def of(self, losses: Floats) -> Floats:
        """Return the heights of some losses; nan where they are not finite."""
        heights = np.log10(losses) if self.is_log else losses
        return np.where(np.isfinite(losses), heights, np.nan)

    def label(self, face: Typeface) -> str:
        """Return the label of the vertical axis."""
        name = face.label(Message("loss of a token"))
        return f"log10 ({name})" if self.is_log else name


def _axis_names(surface: Surface, face: Typeface) -> tuple[str, str]:
    shares = surface.explained_variance
    if shares is None:
        return face.label(Message("random direction 1")), face.label(Message("random direction 2"))
    first, second = face.label(Message("main direction 1")), face.label(Message("main direction 2"))
    return f"{first} ({shares[0]:.1%})", f"{second} ({shares[1]:.1%})"


def _terrain(axes: Any, surface: Surface, height: Height, face: Typeface) -> None:
    """Draw the surface, contours beneath it, and the path at its true losses and on the plane."""
    alphas, betas = np.meshgrid(surface.alphas, surface.betas)
    heights = height.of_grid
    low, high = float(heights.min()), float(heights.max())
    true, on_plane = height.of(surface.path_loss), height.of(surface.path_plane_loss)
    known = np.concatenate([[low, high], true, on_plane])  # the path may run above the plane, and below
    bottom, top = float(np.nanmin(known)), float(np.nanmax(known))
    floor = bottom - 0.35 * (top - bottom or 1.0)
    axes.plot_surface(
        alphas, betas, heights.filled(np.nan), cmap=_COLOURS, vmin=low, vmax=high, rcount=200, ccount=200,
        linewidth=0.0, antialiased=True, alpha=0.75,
    )  # fmt: skip
    if high > low:
        axes.contour(alphas, betas, heights, levels=_LEVELS, zdir="z", offset=floor, cmap=_COLOURS, linewidths=0.8)
    x, y = surface.path_plane.T
    if len(x) > 1:
        axes.plot(x, y, on_plane, color=_ON_PLANE, linewidth=1.4, linestyle="dashed", zorder=9,
                  label=face.label(Message("path, loss on the plane")))  # fmt: skip
        axes.plot(x, y, true, color=_TRUE, linewidth=2.0, marker="o", markersize=3, zorder=10,
                  label=face.label(Message("path, true loss")))  # fmt: skip
        axes.plot(x, y, np.full(len(x), floor), color=_TRUE, linewidth=0.8)
    center = height.of(np.array([surface.center_loss]))
    axes.plot([0.0], [0.0], center, linestyle="none", marker="*", markersize=15, color="black", zorder=11,
              label=f"{face.label(Message('centre'))}: {surface.center_loss:.4g}")  # fmt: skip
    axes.set_zlim(floor, top + 0.02 * (top - bottom))
    first, second = _axis_names(surface, face)
    axes.set_xlabel(first)
    axes.set_ylabel(second)
    axes.set_zlabel(height.label(face))
    axes.view_init(elev=32, azim=-58)
    axes.legend(loc="upper left", fontsize=9)
    measured = f"{len(surface.alphas)} x {len(surface.betas)}"
    axes.set_title(
        f"{face.name(surface.center)}, {face.label(Message('step'))} {surface.center_step}; {measured}, "
        f"{face.word(Message('{count:,} tokens', count=surface.probe_tokens))}",
        fontsize=10,
    )


def _map(figure: Figure, axes: Axes, surface: Surface, height: Height, face: Typeface) -> None:
    """Draw the same from above."""
    if height.of_grid.max() > height.of_grid.min():
        filled = axes.contourf(surface.alphas, surface.betas, height.of_grid, levels=_LEVELS, cmap=_COLOURS, alpha=0.85)
        figure.colorbar(filled, ax=axes, label=height.label(face))
    x, y = surface.path_plane.T
    axes.plot(x, y, color=_TRUE, linewidth=1.2, marker="o", markersize=3)
    axes.plot([0.0], [0.0], linestyle="none", marker="*", markersize=12, color="black")
    first, second = _axis_names(surface, face)
    axes.set_xlabel(first)
    axes.set_ylabel(second)
    axes.set_title(face.label(Message("from above")), fontsize=10)


def _truth(axes: Axes, surface: Surface, face: Typeface) -> None:
    """Draw along the run the true loss, the loss on the plane, and the distance from the plane."""
    if len(surface.path_steps) < 2:
        axes.axis("off")
        axes.text(0.5, 0.5, face.label(Message("no weight snapshots, so no path")), ha="center")
        return
    steps = surface.path_steps
    axes.plot(steps, surface.path_loss, color=_TRUE, marker="o", markersize=3, label=face.label(Message("true loss")))
    axes.plot(steps, surface.path_plane_loss, color=_ON_PLANE, linestyle="dashed", marker="s", markersize=3,
              label=face.label(Message("on the plane")))  # fmt: skip
    axes.set_xlabel(face.label(Message("step")))
    axes.set_ylabel(face.label(Message("loss of a token"), between="\n"))
    distance = axes.twinx()
    distance.fill_between(steps, surface.path_distance / surface.center_norm * 100.0, color="#888888", alpha=0.25)
    distance.set_ylabel(face.label(Message("distance from the plane, % of the weights"), between="\n"))
    distance.set_ylim(bottom=0.0)
    axes.set_title(face.label(Message("how true the plane is along the path")), fontsize=10)
    axes.legend(fontsize=9)
