"""Orders of the table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tools.runs.state import State
from tools.runs.summary import RunSummary


def _up(value: float | None) -> float:
    """Small figures first, unknown ones last."""
    return value if value is not None else math.inf


def _down(value: float | None) -> float:
    return -value if value is not None else math.inf


_KEYS: dict[str, Callable[[RunSummary], Any]] = {
    "state": lambda run: (list(State).index(run.state), _down(run.started_at)),
    "name": lambda run: run.name,
    "loss": lambda run: _up(run.loss),
    "best": lambda run: _up(run.best_loss),
    "accuracy": lambda run: _down(run.accuracy),
    "speed": lambda run: _down(run.tokens_per_second),
    "eta": lambda run: _up(run.eta_seconds),
    "age": lambda run: _up(run.age_seconds),
}
ORDERS = tuple(_KEYS)


def in_order(runs: Sequence[RunSummary], order: str) -> list[RunSummary]:
    """Best, soonest or newest first; runs of equal standing by name."""
    return sorted(sorted(runs, key=lambda run: run.name), key=_KEYS[order])
