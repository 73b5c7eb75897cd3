"""The axis of updates that the curves have in common."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from tools.dashboard.pen import Pen
from tools.dashboard.scene import Scene


def along_steps(axes: Axes, scene: Scene, pen: Pen) -> None:
    """Updates from the first to the last, marked in whole numbers."""
    axes.set_xlim(0.0, max(1, scene.last_step) * 1.015)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, prune="upper"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(True, which="major")
    axes.tick_params(length=2.5)
    axes.set_xlabel(pen.typeface.label("步", "step"), labelpad=1.0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def in_decades(axes: Axes, low: float, high: float) -> None:
    """A logarithmic scale from `low` to `high`, with figures that one can read also where they span less than ten."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    subs = (1.0,) if high / low > 300.0 else (1.0, 3.0) if high / low > 30.0 else (1.0, 2.0, 5.0)
    if high / low < 3.0:
        axes.yaxis.set_major_locator(MaxNLocator(4))
    else:
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
