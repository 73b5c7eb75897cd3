"""Learning rate on a logarithmic scale, with the warm restarts."""

from __future__ import annotations

from matplotlib.axes import Axes

from tools.dashboard.drawing_style import Pen
from tools.dashboard.frame import Frame
from tools.dashboard.panels.steps import along_steps
from tools.dashboard.restarts import warm_restarts
from tools.figures.log_scale import in_decades
from tools.runs.trace import curve_of

TITLE = ("学习率", "learning rate")


def draw(axes: Axes, frame: Frame, pen: Pen) -> None:
    """Draw the panel."""
    whole = [rate for rate in curve_of(frame.run.history.updates, "learning_rate")[1] if rate > 0.0]
    history = frame.history(frame.run)
    known = [(step, rate) for step, rate in zip(*curve_of(history.updates, "learning_rate"), strict=True) if rate]
    steps, rates = [step for step, _ in known], [rate for _, rate in known]
    if not rates:
        pen.empty(axes, pen.typeface.label("还没有更新", "no update yet"))
        return
    settings = frame.run.summary.settings if frame.run.summary is not None else {}
    label = str(settings.get("schedule.schedule", "learning rate"))
    pen.line(axes, steps, rates, color=pen.theme.primary, width=1.6, zorder=3.0, label=label)
    restarts = warm_restarts(settings, history.facts.get("steps_per_epoch"), frame.now)
    for n, step in enumerate(restarts):
        axes.axvline(
            step, color=pen.theme.tertiary, lw=1.0, ls=(0, (2, 2)), zorder=2.0,
            label=f"warm restarts {len(restarts)}" if n == 0 else None,
        )  # fmt: skip
    along_steps(axes, frame, pen)
    low, high = min(whole), max(whole)
    in_decades(axes, low / 1.25, high * 1.25)
    axes.yaxis.set_major_formatter(lambda value, _: scientific(value))
    pen.legend_above(axes, columns=2)


def scientific(rate: float) -> str:
    """Format a learning rate: `3e-4`, `2.5e-4`, `1.05e-3`."""
    mantissa, exponent = f"{rate:.2e}".split("e")
    return f"{mantissa.rstrip('0').removesuffix('.')}e{int(exponent)}"
