"""A surface as a picture: the terrain with the path over it, the map of it, and how true both are. Drawn off screen."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from apt_model.errors import UserError
from tools.landscape.surface import Floats, Surface
from tools.lettering import FONT_ADVICE, Lettering
from tools.output_file import write_atomically

_COLOURS = "viridis"
_TRUE, _ON_PLANE = "#cc3311", "#0077bb"
_LEVELS = 16
MAX_RATIO = 1e3
"""Where the largest loss is more than so many times the smallest, heights are drawn by their logarithm."""


def draw(surface: Surface, run_name: str, path: Path, dpi: int = 110, lettering: Lettering | None = None) -> list[str]:
    """Write the picture as a PNG; returns notes for the user.

    Raises:
        UserError: it cannot be written.
    """
    letters = lettering or Lettering()
    with rc_context({"font.family": letters.families(), "axes.unicode_minus": False}):
        figure = Figure(figsize=(15, 8.5), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(2, 2, width_ratios=(1.7, 1.0))
        figure.suptitle(f"{letters.label('损失地形', 'Loss landscape')}: {letters.name(run_name)}")
        height = Height(surface)
        _terrain(figure.add_subplot(grid[:, 0], projection="3d"), surface, height, letters)
        _map(figure, figure.add_subplot(grid[0, 1]), surface, height, letters)
        _truth(figure.add_subplot(grid[1, 1]), surface, letters)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
    write_atomically(path, buffer.getvalue())
    notes = [] if letters.font else [FONT_ADVICE]
    if height.not_finite:
        notes.append(f"at {height.not_finite} points the loss is not finite; the picture has holes there")
    return notes + [f"in the picture, {drawn} is {given}" for given, drawn in letters.renamed.items()]


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
        """The heights of some losses; nan where they are not finite."""
        heights = np.log10(losses) if self.is_log else losses
        return np.where(np.isfinite(losses), heights, np.nan)

    def label(self, letters: Lettering) -> str:
        """Of the vertical axis."""
        name = letters.label("损失", "loss of a token")
        return f"log10 ({name})" if self.is_log else name


def _axis_names(surface: Surface, letters: Lettering) -> tuple[str, str]:
    shares = surface.explained_variance
    if shares is None:
        return letters.label("随机方向 1", "random direction 1"), letters.label("随机方向 2", "random direction 2")
    first, second = letters.label("主方向 1", "main direction 1"), letters.label("主方向 2", "main direction 2")
    return f"{first} ({shares[0]:.1%})", f"{second} ({shares[1]:.1%})"


def _terrain(axes: Any, surface: Surface, height: Height, letters: Lettering) -> None:
    """The surface, contours beneath it, the path at its true losses and on the plane."""
    alphas, betas = np.meshgrid(surface.alphas, surface.betas)
    heights = height.of_grid
    low, high = float(heights.min()), float(heights.max())
    floor = low - 0.35 * (high - low or 1.0)
    axes.plot_surface(
        alphas, betas, heights.filled(np.nan), cmap=_COLOURS, vmin=low, vmax=high, rcount=200, ccount=200,
        linewidth=0.0, antialiased=True, alpha=0.75,
    )  # fmt: skip
    if high > low:
        axes.contour(alphas, betas, heights, levels=_LEVELS, zdir="z", offset=floor, cmap=_COLOURS, linewidths=0.8)
    x, y = surface.path_plane.T
    true, on_plane = height.of(surface.path_loss), height.of(surface.path_plane_loss)
    if len(x) > 1:
        axes.plot(x, y, on_plane, color=_ON_PLANE, linewidth=1.4, linestyle="dashed", zorder=9,
                  label=letters.label("路径在平面上的损失", "path, loss on the plane"))  # fmt: skip
        axes.plot(x, y, true, color=_TRUE, linewidth=2.0, marker="o", markersize=3, zorder=10,
                  label=letters.label("路径的真实损失", "path, true loss"))  # fmt: skip
        axes.plot(x, y, np.full(len(x), floor), color=_TRUE, linewidth=0.8)
    center = height.of(np.array([surface.center_loss]))
    axes.plot([0.0], [0.0], center, linestyle="none", marker="*", markersize=15, color="black", zorder=11,
              label=f"{letters.label('中心', 'centre')}: {surface.center_loss:.4g}")  # fmt: skip
    axes.set_zlim(floor, high + 0.02 * (high - low))
    first, second = _axis_names(surface, letters)
    axes.set_xlabel(first)
    axes.set_ylabel(second)
    axes.set_zlabel(height.label(letters))
    axes.view_init(elev=32, azim=-58)
    axes.legend(loc="upper left", fontsize=9)
    measured = f"{len(surface.alphas)} x {len(surface.betas)}"
    axes.set_title(
        f"{letters.name(surface.center)}, {letters.label('步', 'step')} {surface.center_step}; {measured}, "
        f"{surface.probe_tokens} {letters.label('个词元', 'tokens')}",
        fontsize=10,
    )


def _map(figure: Figure, axes: Axes, surface: Surface, height: Height, letters: Lettering) -> None:
    """The same from above, with the path coloured by how far it is from the plane."""
    if height.of_grid.max() > height.of_grid.min():
        filled = axes.contourf(surface.alphas, surface.betas, height.of_grid, levels=_LEVELS, cmap=_COLOURS, alpha=0.85)
        figure.colorbar(filled, ax=axes, label=height.label(letters))
    x, y = surface.path_plane.T
    axes.plot(x, y, color=_TRUE, linewidth=1.2, marker="o", markersize=3)
    axes.plot([0.0], [0.0], linestyle="none", marker="*", markersize=12, color="black")
    first, second = _axis_names(surface, letters)
    axes.set_xlabel(first)
    axes.set_ylabel(second)
    axes.set_title(letters.label("俯视图", "from above"), fontsize=10)


def _truth(axes: Axes, surface: Surface, letters: Lettering) -> None:
    """Along the run: the true loss beside the plane's, and how far away the plane is."""
    if len(surface.path_steps) < 2:
        axes.axis("off")
        axes.text(0.5, 0.5, letters.label("没有权重快照，所以没有路径", "no weight snapshots, so no path"), ha="center")
        return
    steps = surface.path_steps
    axes.plot(steps, surface.path_loss, color=_TRUE, marker="o", markersize=3, label=letters.label("真实", "true loss"))
    axes.plot(steps, surface.path_plane_loss, color=_ON_PLANE, linestyle="dashed", marker="s", markersize=3,
              label=letters.label("平面上", "on the plane"))  # fmt: skip
    axes.set_xlabel(letters.label("步", "step"))
    axes.set_ylabel(letters.label("损失", "loss of a token"))
    beside = axes.twinx()
    beside.fill_between(steps, surface.path_distance / surface.center_norm * 100.0, color="#888888", alpha=0.25)
    beside.set_ylabel(letters.label("离平面", "distance from the plane, % of the weights"))
    beside.set_ylim(bottom=0.0)
    axes.set_title(letters.label("路径上平面有多真", "how true the plane is along the path"), fontsize=10)
    axes.legend(fontsize=9)
