"""How everything in the dashboard is drawn: a theme's colours, a typeface, glowing lines, titles, legends."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from tools.dashboard.theme import Theme
from tools.dashboard.typeface import Typeface

SMALL, NORMAL, LARGE = 7.5, 8.5, 10.5
"""Points, on a figure of 12.8 by 7.2 inches."""
_HALO = ((7.0, 0.06), (4.0, 0.10), (2.0, 0.18))
"""Wider by so many points, at this opacity."""


class Pen:
    """Draws in a theme's colours."""

    def __init__(self, theme: Theme, typeface: Typeface) -> None:
        self.theme, self.typeface = theme, typeface
        self.terrain = LinearSegmentedColormap.from_list("terrain", theme.terrain)
        """From low losses to high ones."""
        self.energy = LinearSegmentedColormap.from_list("energy", (theme.panel, *theme.terrain[1:]))
        """From nothing to much; nothing is a panel's ground."""
        self.path = LinearSegmentedColormap.from_list("path", (theme.primary, theme.secondary))
        """From the start of a run to now."""

    def style(self) -> Any:  # matplotlib's stubs name each key
        """For `matplotlib.rc_context`."""
        theme = self.theme
        return {
            "font.family": self.typeface.families, "font.size": NORMAL, "text.color": theme.text,
            "text.parse_math": False, "axes.unicode_minus": False, "axes.facecolor": "none",
            "axes.edgecolor": theme.edge, "axes.labelcolor": theme.faint, "axes.labelsize": SMALL,
            "axes.axisbelow": True, "figure.facecolor": theme.ground, "grid.color": theme.grid, "grid.linewidth": 0.6,
            "xtick.color": theme.faint, "ytick.color": theme.faint, "xtick.labelsize": SMALL, "ytick.labelsize": SMALL,
            "legend.fontsize": SMALL, "legend.labelcolor": theme.text, "lines.solid_capstyle": "round",
            "savefig.facecolor": theme.ground,
        }  # fmt: skip

    def line(self, axes: Axes, *data: Any, color: str, width: float, **how: Any) -> None:
        """A line that glows, as far as the theme does."""
        order = how.pop("zorder", 3.0)
        if self.theme.glow:
            for wider, alpha in _HALO:
                halo = self.theme.glow * alpha * how.get("alpha", 1.0)
                axes.plot(*data, color=color, lw=width + wider, alpha=halo, zorder=order - 0.1)
        axes.plot(*data, color=color, lw=width, zorder=order, **how)

    def point(self, axes: Axes, *at: float, color: str, size: float, marker: str = "o", **how: Any) -> None:
        """A point that glows. `size` is its diameter in points."""
        order = how.pop("zorder", 6.0)
        where = [[value] for value in at]
        for wider, alpha in _HALO if self.theme.glow else ():
            halo = {"ms": size + 2.4 * wider, "alpha": self.theme.glow * alpha, "zorder": order - 0.1}
            axes.plot(*where, "o", color=color, mew=0, **halo)
        core = self.theme.text if self.theme.glow else color
        axes.plot(
            *where, marker, color=core, ms=size, markeredgecolor=color, mew=1.2, linestyle="none", zorder=order, **how
        )

    def empty(self, axes: Axes, *lines: str) -> None:
        """Say why there is nothing to be seen."""
        axes.set_axis_off()
        for n, line in enumerate(lines):
            colour, size = (self.theme.text, NORMAL) if n == 0 else (self.theme.faint, SMALL)
            axes.text(
                0.5, 0.56 - 0.09 * n, line, ha="center", va="center", transform=axes.transAxes, color=colour,
                fontsize=size,
            )  # fmt: skip

    def legend(self, axes: Axes, **how: Any) -> None:
        """A legend inside the axes, on the panel's ground."""
        legend = axes.legend(
            facecolor=self.theme.panel, edgecolor=self.theme.edge, framealpha=0.8, borderpad=0.35, labelspacing=0.25,
            handlelength=1.6, handletextpad=0.5, columnspacing=1.0, **how,
        )  # fmt: skip
        legend.set_zorder(9)

    def legend_above(self, axes: Axes, columns: int) -> None:
        """A legend in the panel's title line."""
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.005, 0.985), ncols=columns, frameon=False, borderaxespad=0.0,
            handlelength=1.3, handletextpad=0.4, columnspacing=1.0,
        )  # fmt: skip
