"""A logarithmic axis that can be read also where it spans less than ten."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter


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
