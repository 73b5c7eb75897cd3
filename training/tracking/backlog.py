"""What a tracker missed of a run that is resumed, read from the run's own record. No torch.

A kill loses what waited to be sent, and a tracker may be switched on late. The record has every point.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.record.reporter import LOG_NAME, Event, read_events
from training.tracking.figures import point_of
from training.tracking.tracker import Point, RunStart, Told


def missed_points(run_dir: Path, run: RunStart, told: Told) -> Iterator[Point]:
    """The points up to `run.step` that a tracker does not hold yet, oldest first.

    The log is read twice, and never held in memory: first for the places from which the run was resumed, which say what
    was done again and no longer counts.
    """
    log = run_dir / LOG_NAME
    if told.step >= run.step or not log.exists():
        return
    resumed_at: list[float] = [e["step"] for e in _before(run, log) if e["event"] == "run_resumed"]
    # The last step of each part that still counts: the least of those from which a later part began.
    limits = [min([*resumed_at[part:], run.step]) for part in range(len(resumed_at) + 1)]
    part, step = 0, 0
    for event in _before(run, log):
        if event["event"] == "run_resumed":
            part += 1
        step = event.get("step", step)
        if step <= limits[part] and (point := point_of(event, step)) and (missed := without_told(point, told)):
            yield missed


def without_told(point: Point, told: Told) -> Point | None:
    """The point's figures that the tracker does not hold yet; None: it holds them all."""
    figures = {name: value for name, value in point.figures.items() if not told.holds(name, point.step)}
    return Point(point.step, point.time, figures) if figures else None


def _before(run: RunStart, log: Path) -> Iterator[Event]:
    """The events of the earlier parts; those of the present part reach the tracker as they come."""
    for event in read_events(log):
        if _number(event.get("time")) >= run.time and event["event"] == "run_resumed":
            return
        yield event


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else -math.inf
