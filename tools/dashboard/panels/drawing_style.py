"""The style in which everything in the dashboard is drawn: a theme's colours, fonts, glowing lines, legends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.legend import Legend

from tools.dashboard.panels.theme import Theme
from tools.figures.fonts import Typeface

SMALL, NORMAL, LARGE = 7.5, 8.5, 10.5
"""Points, on a figure of 12.8 by 7.2 inches."""
_HALO = ((7.0, 0.06), (4.0, 0.10), (2.0, 0.18))
"""Added width in points and opacity of each halo."""


class Pen:
    """Draws in a theme's colours."""

    def __init__(self, theme: Theme, typeface: Typeface) -> None:
        self.theme, self.typeface = theme, typeface
        self.terrain = LinearSegmentedColormap.from_list("terrain", theme.terrain)
        """Colours from low losses to high ones."""
        glass = [(*to_rgb(colour), opacity) for colour, opacity in zip(theme.terrain, _opacities(theme), strict=True)]
        self.glass = LinearSegmentedColormap.from_list("glass", glass)
        """The terrain's colours, through which one sees; more so above, so that a valley's walls hide nothing."""
        self.bold: dict[str, Any] = {"fontweight": "bold", "family": typeface.bold_families}
        """Text properties of the dashboard's own words."""
        self.energy = LinearSegmentedColormap.from_list("energy", (theme.panel, *theme.terrain[1:]))
        """Colours from nothing, which is a panel's ground, to much."""
        self.path = LinearSegmentedColormap.from_list("path", (theme.primary, theme.secondary))
        """Colours from the start of a run to now."""

    def style(self) -> Any:  # matplotlib's stubs name each key
        """Return the settings for `matplotlib.rc_context`."""
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
        """Draw a line that glows, as far as the theme does."""
        order = how.pop("zorder", 3.0)
        if len(data[0]) == 1:  # a line of one point is not to be seen
            how = {"marker": "o", "ms": 1.6 * width, **how}
        if self.theme.glow:
            for wider, alpha in _HALO:
                halo = self.theme.glow * alpha * how.get("alpha", 1.0)
                axes.plot(*data, color=color, lw=width + wider, alpha=halo, zorder=order - 0.1)
        axes.plot(*data, color=color, lw=width, zorder=order, **how)

    def point(self, axes: Axes, *at: float, color: str, size: float, marker: str = "o", **how: Any) -> None:
        """Draw a point that glows. `size` is its diameter in points."""
        order = how.pop("zorder", 6.0)
        where = [[value] for value in at]
        for wider, alpha in _HALO if self.theme.glow else ():
            halo = {"ms": size + 2.4 * wider, "alpha": self.theme.glow * alpha, "zorder": order - 0.1}
            axes.plot(*where, "o", color=color, mew=0, **halo)
        # Without light, a bright edge tells it from what lies beneath.
        core, edge = (self.theme.text, color) if self.theme.glow else (color, self.theme.panel)
        axes.plot(
            *where, marker, color=core, ms=size, markeredgecolor=edge, mew=1.2, linestyle="none", zorder=order, **how
        )

    def empty(self, axes: Axes, *lines: str) -> None:
        """Say why there is nothing to be seen."""
        axes.set_axis_off()
        for n, line in enumerate(lines):
            colour, size = (self.theme.text, NORMAL) if n == 0 else (self.theme.faint, SMALL)
            down = (len(lines) - 1) / 2.0 - n
            axes.annotate(
                line, (0.5, 0.5), (0.0, 1.6 * SMALL * down), xycoords="axes fraction", textcoords="offset points",
                ha="center", va="center", color=colour, fontsize=size,
            )  # fmt: skip

    def legend(self, axes: Axes, handles: Sequence[Any], names: list[str], loc: Any, columns: int) -> Legend:
        """Add a legend inside the axes, on the panel's ground."""
        legend: Legend = axes.legend(
            handles, names, loc=loc, facecolor=self.theme.panel, edgecolor=self.theme.edge, framealpha=0.8,
            borderpad=0.35, labelspacing=0.25, handlelength=1.6, handletextpad=0.5, ncols=columns, columnspacing=1.0,
        )  # fmt: skip
        legend.set_zorder(9)
        return legend

    def legend_above(self, axes: Axes, columns: int) -> None:
        """Add a legend of what has a name and is not in another one, in the panel's title line."""
        handles, names = axes.get_legend_handles_labels()
        others = [
            t.get_text() for legend in axes.get_children() if isinstance(legend, Legend) for t in legend.get_texts()
        ]
        own = [(handle, name) for handle, name in zip(handles, names, strict=True) if name not in others]
        if not own:
            return
        # A solid's axes are shrunk to a square; the title line is as wide as the room that was given to them.
        room = axes.get_position(original=True)
        axes.legend(
            *zip(*own, strict=True), loc="lower right", bbox_to_anchor=(room.x1, room.y1 + 0.0085), ncols=columns,
            bbox_transform=axes.figure.transSubfigure, frameon=False, borderaxespad=0.0, handlelength=1.3,
            handletextpad=0.4, columnspacing=1.0,
        )  # fmt: skip


def _opacities(theme: Theme) -> list[float]:
    low, high = (0.9, 0.5) if theme.glow else (0.95, 0.8)
    return [low + (high - low) * n / (len(theme.terrain) - 1) for n in range(len(theme.terrain))]
