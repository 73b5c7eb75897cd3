"""The axis of updates that the curves have in common."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tools.dashboard.panels.drawing_style import Pen
from tools.dashboard.panels.frame import Frame
from training.language.messages import Message


def along_steps(axes: Axes, frame: Frame, pen: Pen) -> None:
    """Mark the updates from the first to the last, in whole numbers."""
    axes.set_xlim(0.0, max(1, frame.last_step) * 1.015)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, prune="upper"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(True, which="major")
    axes.tick_params(length=2.5)
    axes.set_xlabel(pen.typeface.label(Message("step")), labelpad=1.0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
