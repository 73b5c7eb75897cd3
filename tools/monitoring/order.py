"""Orders of the monitor's table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tools.runs.summary import RunSummary
from training.record.run_state import State


def _up(value: float | None) -> float:
    """Return a key by which small figures come first and unknown ones last."""
    return value if value is not None else math.inf


def _metric(run: RunSummary) -> float:
    """Return a key by which the best value of the task's last metric comes first."""
    if not run.metrics:
        return math.inf
    metric = run.metrics[-1]
    return (_down if metric.better == "higher" else _up)(run.figures.get(metric.name))


def _down(value: float | None) -> float:
    return -value if value is not None else math.inf


_KEYS: dict[str, Callable[[RunSummary], Any]] = {
    "state": lambda run: (list(State).index(run.state), _down(run.started_at)),
    "name": lambda run: run.name,
    "loss": lambda run: _up(run.loss),
    "best": lambda run: _up(run.best_loss),
    "accuracy": lambda run: _down(run.figures.get("accuracy")),
    "metric": _metric,
    "speed": lambda run: _down(run.speed),
    "eta": lambda run: _up(run.eta_seconds),
    "age": lambda run: _up(run.age_seconds),
}
ORDERS = tuple(_KEYS)


def in_order(runs: Sequence[RunSummary], order: str) -> list[RunSummary]:
    """Sort runs, best, soonest or newest first; runs of equal standing by name."""
    return sorted(sorted(runs, key=lambda run: run.name), key=_KEYS[order])
