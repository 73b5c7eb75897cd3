"""Scales of an axis."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter


def in_decades(axes: Axes, low: float, high: float) -> None:
    """Give the y axis a logarithmic scale from `low` to `high`, with ticks that are readable even within one decade.

    Args:
        axes: the axes whose y axis is changed.
        low: lower limit, above 0.
        high: upper limit, above `low`.
    """
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    subs = (1.0,) if high / low > 300.0 else (1.0, 3.0) if high / low > 30.0 else (1.0, 2.0, 5.0)
    if high / low < 3.0:
        axes.yaxis.set_major_locator(MaxNLocator(4))
    else:
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
