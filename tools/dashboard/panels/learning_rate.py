"""Learning rate on a logarithmic scale, with the warm restarts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from matplotlib.axes import Axes

from tools.dashboard.panels.drawing_style import Pen
from tools.dashboard.panels.frame import Frame
from tools.dashboard.panels.steps import along_steps
from tools.figures.scales import in_decades
from training.language.messages import Message
from training.record.schema import integer, number
from training.record.trace import curve_of

TITLE = Message("learning rate")


def draw(axes: Axes, frame: Frame, pen: Pen) -> None:
    """Draw the panel."""
    whole = [rate for rate in curve_of(frame.run.history.updates, "learning_rate")[1] if rate > 0.0]
    history = frame.history(frame.run)
    known = [(step, rate) for step, rate in zip(*curve_of(history.updates, "learning_rate"), strict=True) if rate]
    steps, rates = [step for step, _ in known], [rate for _, rate in known]
    if not rates:
        pen.empty(axes, pen.typeface.label(Message("no update yet")))
        return
    settings = frame.run.summary.settings if frame.run.summary is not None else {}
    schedule = settings.get("schedule.schedule")
    label = str(schedule) if schedule is not None else pen.typeface.word(TITLE)
    pen.line(axes, steps, rates, color=pen.theme.primary, width=1.6, zorder=3.0, label=label)
    restarts = warm_restarts(settings, history.facts.get("steps_per_epoch"), frame.now)
    for n, step in enumerate(restarts):
        axes.axvline(
            step, color=pen.theme.tertiary, lw=1.0, ls=(0, (2, 2)), zorder=2.0,
            label=pen.typeface.word(Message("warm restarts {count}", count=len(restarts))) if n == 0 else None,
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


def warm_restarts(settings: Mapping[str, Any], steps_per_epoch: int | None, until: int) -> list[int]:
    """Return the updates, up to `until`, that are the first of a new cycle (SGDR, arXiv 1608.03983).

    Empty where the run has another schedule.

    Args:
        settings: settings of the run, flat (`training.checkpoints.run_search.read_settings`).
        steps_per_epoch: updates an epoch.
        until: the last update that counts.
    """
    first, factor = number(settings.get("schedule.restart_epochs")), number(settings.get("schedule.restart_mult"))
    if settings.get("schedule.schedule") != "warm_restarts" or not steps_per_epoch or not first or not factor:
        return []
    warmup = integer(settings.get("schedule.warmup_steps")) or 0
    restarts: list[int] = []
    for epochs in _cycle_ends(first, factor):
        # The learning rate of update n is that of the step before it; a cycle may end between two updates.
        step = warmup + _whole_steps(epochs * steps_per_epoch) + 1
        if step > until:
            return restarts
        restarts.append(step)
    return restarts


def _cycle_ends(first: float, factor: float) -> Iterator[float]:
    """Yield the epochs at which the first, second, … cycle is over."""
    for n in count(1):
        yield first * n if factor == 1.0 else first * (factor**n - 1.0) / (factor - 1.0)


def _whole_steps(steps: float) -> int:
    """Return the first whole step at or after this one."""
    rounded = round(steps)
    return rounded if abs(steps - rounded) < 1e-6 else int(steps) + 1
