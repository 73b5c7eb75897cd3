"""The state of a run, by its record, its settings and the time for which it has been silent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from tools.runs.trace import Trace
from training.checkpoints.run_directory import CONFIG_NAME
from training.errors import UserError
from training.record.schema import integer
from training.settings.plain_yaml import read_yaml

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


def state_of(trace: Trace, silent_seconds: float, allowed_seconds: float) -> State:
    """Return the state of a run whose record can be read."""
    if trace.state in (State.FINISHED, State.STOPPED, State.FAILED):
        return State(trace.state)
    if silent_seconds > allowed_seconds:
        return State.STALLED
    return State.RUNNING if trace.step else State.STARTING


def read_settings(run_dir: Path) -> dict[str, Any]:
    """Read a run's settings, flat: `{"data.loss_on": "answer", …}`.

    Empty where there is no readable config, as in a run that is only starting.
    """
    try:
        return dict(_flat(read_yaml(run_dir / CONFIG_NAME), ""))
    except UserError:
        return {}


def _flat(section: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
