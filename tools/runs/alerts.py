"""Causes for worry about a run: one alert of a kind and run, however often it is looked at."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from tools.figures.wording import duration
from tools.runs.state import State
from tools.runs.trace import Trace
from training.record.history import Row

OVERFITTING_EPOCHS = 3
"""Smallest number of validations since the lowest one, all of them higher."""
OVERFITTING_RISE = 1.05
"""Smallest ratio of the last validation to the lowest one."""


class Kind(StrEnum):
    """Kinds in order of weight."""

    FAILED = "failed"
    NOT_FINITE = "not finite"
    UNREADABLE = "unreadable"
    STALLED = "stalled"
    SPIKING = "spiking"
    OVERFITTING = "overfitting"


@dataclass(frozen=True)
class Alert:
    """One cause for worry."""

    kind: Kind
    message: str


def alerts_of(trace: Trace, state: State, silent_seconds: float, precision: object) -> Iterator[Alert]:
    """Yield the present alerts of a run whose record can be read."""
    if state is State.FAILED:
        error = trace.ending.splitlines()[0] if trace.ending else "no reason recorded"
        yield Alert(Kind.FAILED, f"failed at step {trace.step:,}: {error}")
    if (found := _not_finite(trace, precision)) is not None:
        yield Alert(Kind.NOT_FINITE, found)
    if state is State.STALLED:
        yield Alert(Kind.STALLED, f"stalled at step {trace.step:,}: no event for {duration(silent_seconds)}")
    if (spike := trace.spikes.last) is not None:
        times = f"{trace.spikes.count} loss spikes, the last" if trace.spikes.count > 1 else "loss spiked"
        message = f"{times} at step {spike.step:,}: {spike.value:.4g} after a median of {spike.median:.4g}"
        yield Alert(Kind.SPIKING, message)
    if (found := overfitting(trace)) is not None:
        yield Alert(Kind.OVERFITTING, found)


def _not_finite(trace: Trace, precision: object) -> str | None:
    if trace.not_finite_at is not None:
        skipped = f"; {_skipped(trace)}" if trace.num_skipped else ""
        return f"loss not finite, last at step {trace.not_finite_at:,}{skipped}"
    bad = [e for e in trace.evaluations if e.loss is None]
    if bad:
        return f"validation loss not finite in epoch {bad[-1].epoch}"
    if trace.num_skipped and precision != "fp16":  # which skips updates to find its loss scale
        return f"gradient not finite; {_skipped(trace)}"
    return None


def _skipped(trace: Trace) -> str:
    return f"{trace.num_skipped:,} update{'s' if trace.num_skipped > 1 else ''} skipped"


def overfitting(trace: Trace) -> str | None:
    """Say how validation has risen since its lowest value while the training loss fell; None: no sign of it."""
    measured = [e for e in trace.evaluations if e.loss is not None]
    if len(measured) <= OVERFITTING_EPOCHS:
        return None
    losses = [e.loss for e in measured if e.loss is not None]
    lowest = min(range(len(losses)), key=losses.__getitem__)
    if len(losses) - 1 - lowest < OVERFITTING_EPOCHS or losses[-1] < OVERFITTING_RISE * losses[lowest]:
        return None
    before, now = _training_loss(trace, measured, lowest), _training_loss(trace, measured, len(measured) - 1)
    if before is None or now is None or now >= before:
        return None
    return (
        f"overfitting since epoch {measured[lowest].epoch}: validation {losses[lowest]:.4g} -> {losses[-1]:.4g}, "
        f"training {before:.4g} -> {now:.4g}"
    )


def _training_loss(trace: Trace, measured: list[Row], n: int) -> float | None:
    """Return the mean loss of the updates between the validation before and this one, as far as the curve has them."""
    start = measured[n - 1].step if n else 0
    between = [p.loss for p in trace.updates if start < p.step <= measured[n].step and p.loss is not None]
    return statistics.fmean(between) if between else None
