"""The trials of a sweep, wherever they run: their settings and figures, the best one, and the table. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Trial:
    """One training of a sweep."""

    job: str
    """Name of its run: a job's, or that of its directory."""
    status: str
    settings: Mapping[str, Any]
    """Setting that the sweep varies -> this trial's value."""
    metric: float | None
    """Last value of the sweep's metric; None: none yet, or not finite."""
    step: int | None
    total_steps: int | None
    is_best: bool = False


@dataclass(frozen=True)
class Sweep:
    """A sweep at one moment."""

    job: str
    metric: str
    goal: str
    """`minimize` or `maximize`."""
    trials: list[Trial]

    @property
    def best(self) -> Trial | None:
        """Best trial, once one has reported the metric."""
        return next((trial for trial in self.trials if trial.is_best), None)


def best_of(trials: Sequence[Trial], goal: str) -> Trial | None:
    """Return the trial with the best value, the first of equals; None: none has a value."""
    measured = [(trial.metric, trial) for trial in trials if trial.metric is not None]
    if not measured:
        return None
    choose = max if goal == "maximize" else min
    return choose(measured, key=lambda pair: pair[0])[1]


def ranked(trials: Sequence[Trial], goal: str) -> list[Trial]:
    """Return the trials, best first: those that were trained to their end, then others, last those without a value."""
    sign = -1.0 if goal == "maximize" else 1.0
    return sorted(
        trials, key=lambda trial: (trial.metric is None, trial.status != "finished", sign * (trial.metric or 0.0))
    )


def table_lines(sweep: Sweep) -> list[str]:
    """Format the trials as an aligned table; a star marks the best."""
    varied = list(dict.fromkeys(name for trial in sweep.trials for name in trial.settings))
    rows = [["", "trial", "state", "step", sweep.metric, *varied]]
    for trial in sweep.trials:
        step = f"{trial.step}/{trial.total_steps}" if trial.step is not None else "-"
        value = f"{trial.metric:.6g}" if trial.metric is not None else "-"
        shown = [short_value(trial.settings.get(name)) for name in varied]
        rows.append(["*" if trial.is_best else "", trial.job, trial.status, step, value, *shown])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def short_value(value: Any) -> str:
    """Return the value of a setting as a table shows it."""
    return f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)
