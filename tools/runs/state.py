"""How a run is doing, by its record and by how long that has been silent."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from tools.runs.trace import Trace, integer

STALLED_AFTER = 60.0
"""Seconds of silence, at least, after which a run counts as stalled."""
STALLED_AFTER_AT_START = 600.0
"""The same before the first update: data are read and kernels compiled."""
USUAL_INTERVALS = 5.0
"""Silence of this many usual intervals between two reports is more than a slow update or a validation."""
DEFAULT_REPORT_BATCHES = 10


class State(StrEnum):
    """In the order in which the table shows them."""

    RUNNING = "running"
    STARTING = "starting"
    """It has begun and done no update yet."""
    STALLED = "stalled"
    """Its record says running, and it has been silent for too long."""
    FAILED = "failed"
    STOPPED = "stopped"
    FINISHED = "finished"
    UNREADABLE = "unreadable"
    """Its record cannot be used."""


def allowed_silence(trace: Trace, settings: Mapping[str, Any]) -> float:
    """Seconds without an event that are no cause for worry: a run reports every so many batches, however slow."""
    per_batch = trace.seconds_per_batch
    if per_batch is None:
        return STALLED_AFTER_AT_START
    batches = integer(settings.get("report.report_batches")) or DEFAULT_REPORT_BATCHES
    return max(STALLED_AFTER, USUAL_INTERVALS * batches * per_batch)


def state_of(trace: Trace, silent_seconds: float, allowed_seconds: float) -> State:
    """The state of a run whose record can be read."""
    if trace.state in (State.FINISHED, State.STOPPED, State.FAILED):
        return State(trace.state)
    if silent_seconds > allowed_seconds:
        return State.STALLED
    return State.RUNNING if trace.step else State.STARTING
