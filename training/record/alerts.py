"""Causes for worry about a run: one alert of a kind and run, however often it is looked at."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from training.language.messages import Message
from training.machine.units import short_duration
from training.record.history import Row
from training.record.run_state import State
from training.record.trace import Trace

OVERFITTING_EPOCHS = 3
"""Smallest number of validations since the lowest one, all of them higher."""
OVERFITTING_RISE = 1.05
"""Smallest ratio of the last validation to the lowest one."""


class Kind(StrEnum):
    """Kinds in order of weight."""

    FAILED = "failed"
    NOT_FINITE = "not finite"
    UNREADABLE = "unreadable"
    LOST = "lost"
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
        error = trace.ending.splitlines()[0] if trace.ending else Message("no reason recorded")
        yield Alert(Kind.FAILED, Message("failed at step {step:,}: {error}", step=trace.step, error=error))
    if (found := _not_finite(trace, precision)) is not None:
        yield Alert(Kind.NOT_FINITE, found)
    yield from alerts_of_silence(state, trace.step, silent_seconds)
    if (spike := trace.spikes.last) is not None:
        count = trace.spikes.count
        times = Message("{count} loss spikes, the last", count=count) if count > 1 else Message("loss spiked")
        message = Message(
            "{times} at step {step:,}: {loss:.4g} after a median of {median:.4g}",
            times=times,
            step=spike.step,
            loss=spike.value,
            median=spike.median,
        )
        yield Alert(Kind.SPIKING, message)
    if (found := overfitting(trace)) is not None:
        yield Alert(Kind.OVERFITTING, found)


def alerts_of_silence(state: State, step: int, silent_seconds: float) -> Iterator[Alert]:
    """Yield the alert of a run that says no more, though its record does not say that it ended."""
    if state is State.LOST:
        yield Alert(Kind.LOST, Message("lost at step {step:,}: its process is gone", step=step))
    if state is State.STALLED:
        time = short_duration(silent_seconds)
        yield Alert(Kind.STALLED, Message("stalled at step {step:,}: no event for {time}", step=step, time=time))


def _not_finite(trace: Trace, precision: object) -> str | None:
    if trace.not_finite_at is not None:
        last = Message("loss not finite, last at step {step:,}", step=trace.not_finite_at)
        return Message.joined("; ", [last, *([_skipped(trace)] if trace.num_skipped else [])])
    bad = [e for e in trace.evaluations if e.loss is None]
    if bad:
        return Message("validation loss not finite in epoch {epoch}", epoch=bad[-1].epoch)
    if trace.num_skipped and precision != "fp16":  # which skips updates to find its loss scale
        return Message.joined("; ", [Message("gradient not finite"), _skipped(trace)])
    return None


def _skipped(trace: Trace) -> Message:
    if trace.num_skipped == 1:
        return Message("1 update skipped")
    return Message("{count:,} updates skipped", count=trace.num_skipped)


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
    return Message(
        "overfitting since epoch {epoch}: validation {lowest:.4g} -> {last:.4g}, training {before:.4g} -> {now:.4g}",
        epoch=measured[lowest].epoch,
        lowest=losses[lowest],
        last=losses[-1],
        before=before,
        now=now,
    )


def _training_loss(trace: Trace, measured: list[Row], n: int) -> float | None:
    """Return the mean loss of the updates between the validation before and this one, as far as the curve has them."""
    start = measured[n - 1].step if n else 0
    between = [p.loss for p in trace.updates if start < p.step <= measured[n].step and p.loss is not None]
    return statistics.fmean(between) if between else None
