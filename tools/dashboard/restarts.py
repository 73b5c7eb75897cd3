"""The updates at which a run's learning rate starts again: a closed form of its settings, as the schedule is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from training.record.schema import integer, number


def warm_restarts(settings: Mapping[str, Any], steps_per_epoch: int | None, until: int) -> list[int]:
    """Return the updates, up to `until`, that are the first of a new cycle (SGDR, arXiv 1608.03983).

    Empty where the run has another schedule.

    Args:
        settings: settings of the run, flat (`tools.runs.state.read_settings`).
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
