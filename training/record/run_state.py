"""The state of a run, by its record, its settings and the time for which it has been silent."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from training.record.schema import integer
from training.record.trace import Trace

STALLED_AFTER = 60.0
"""Seconds of silence, at least, after which a run counts as stalled."""
STALLED_AFTER_AT_START = 600.0
"""The same before the first update: data are read and kernels compiled."""
USUAL_INTERVALS = 5.0
"""Silence of this many usual intervals between two reports is more than a slow update or a validation."""
DEFAULT_REPORT_BATCHES = 10


class State(StrEnum):
    """States in the order in which the table shows them."""

    RUNNING = "running"
    STARTING = "starting"
    """It has begun and done no update yet."""
    STALLED = "stalled"
    """Its record says running, and it has been silent for too long."""
    LOST = "lost"
    """Its record says running, and the process that wrote it has ended without a word."""
    FAILED = "failed"
    STOPPED = "stopped"
    FINISHED = "finished"
    UNREADABLE = "unreadable"
    """Its record cannot be used."""


def allowed_silence(trace: Trace, settings: Mapping[str, Any]) -> float:
    """Return the seconds without an event that are no cause for worry: a run reports every so many batches."""
    per_batch = trace.seconds_per_batch
    if per_batch is None:
        return STALLED_AFTER_AT_START
    batches = integer(settings.get("report.report_batches")) or DEFAULT_REPORT_BATCHES
    return max(STALLED_AFTER, USUAL_INTERVALS * batches * per_batch)


def state_of(recorded: str, step: int, silent_seconds: float, allowed_seconds: float) -> State:
    """Return the state of a run whose record can be read.

    Args:
        recorded: state in its record.
        step: updates done.
        silent_seconds: seconds since its last event.
        allowed_seconds: see `allowed_silence`.
    """
    if recorded in (State.FINISHED, State.STOPPED, State.FAILED):
        return State(recorded)
    if silent_seconds > allowed_seconds:
        return State.STALLED
    return State.RUNNING if step else State.STARTING
