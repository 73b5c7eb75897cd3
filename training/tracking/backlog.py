"""What a tracker missed of a run that is resumed, read from the run's own record. No torch.

A kill loses what waited to be sent, and a tracker may be switched on late. The record has every point.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.record.log import LOG_NAME, CountedEvents
from training.record.schema import declared_metrics, number
from training.tasks.metrics import LANGUAGE_METRICS, Metric
from training.tracking.figures import point_of
from training.tracking.tracker import Held, Point, RunStart


def missed_points(run_dir: Path, run: RunStart, held: Held) -> Iterator[Point]:
    """Yield the points up to `run.step` that a tracker does not hold yet, oldest first.

    The log is never held in memory, and what was done again counts once. The events of the present part reach the
    tracker as they come.
    """
    log = run_dir / LOG_NAME
    if held.step >= run.step or not log.exists():
        return
    step = 0
    metrics: tuple[Metric, ...] = LANGUAGE_METRICS
    with log.open("rb") as file:
        for event in CountedEvents(file):
            if event["event"] in ("run_started", "run_resumed"):
                if event["event"] == "run_resumed" and (number(event.get("time")) or 0.0) >= run.time:
                    return
                metrics = declared_metrics(event)
                continue
            if number(event.get("time")) is None:
                continue
            step = event.get("step") or step
            if step <= run.step and (point := point_of(event, step, metrics)) and (missed := not_held(point, held)):
                yield missed


def not_held(point: Point, held: Held) -> Point | None:
    """Return the point's figures that the tracker does not hold yet; None: it holds them all."""
    figures = {name: value for name, value in point.figures.items() if not held.holds(name, point.step)}
    return Point(point.step, point.time, figures) if figures else None
