"""What the monitor keeps of a run: figures and bounded curves, from a report and the events after it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tools.runs.spikes import SpikeWatch
from training.record.reporter import Event
from training.record.report import MAX_EPOCHS, MAX_POINTS

RECENT_UPDATES = 200
"""Updates whose times tell the present pace."""
FEWEST_FOR_PACE = 10
FACTS = ("run_id", "backend", "device", "total_steps", "num_parameters", "data_fingerprint", "vocab_size")


@dataclass(frozen=True)
class Point:
    """One update on the curve; None: not finite or not recorded."""

    step: int
    loss: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Evaluation:
    """One measurement on the validation data."""

    step: int
    epoch: int
    loss: float | None
    accuracy: float | None


class Trace:
    """A run as far as its record tells it. Bounded in size; whatever is not of its type counts as not recorded.

    Events that are taken a second time change nothing.

    Args:
        report: as `training.record.reporter.read_report` gives it.
        earlier: events that the report holds already, the last before its end: they tell the pace.
    """

    def __init__(self, report: dict[str, Any], earlier: Sequence[Event] = ()) -> None:
        self.facts = {key: report.get(key) for key in FACTS}
        self.state = str(report.get("state", "unknown"))
        self.step = integer(report.get("step")) or 0
        self.batch = integer(report.get("batch")) or self.step
        self.epoch: int | None = None
        self.seconds = number(report.get("training_seconds")) or 0.0
        self.started_at = number(report.get("started_at"))
        self.updated_at = number(report.get("updated_at"))
        self.ended_at = number(report.get("ended_at"))
        self.ending = str(report.get("error") or report.get("reason") or "")
        self.loss: float | None = None
        self.accuracy: float | None = None
        self.tokens_per_second: float | None = None
        self.num_skipped = integer(report.get("num_skipped_updates")) or 0
        self.not_finite_at: int | None = None
        """The last update whose loss is not finite."""
        self.best = number(_mapping(report.get("best")).get("loss"))
        """The lowest loss of an epoch: validation's where there is one, else the training mean."""
        self.best_step = integer(_mapping(report.get("best")).get("step"))
        self.points = list(_points(report.get("curve")))
        self.spikes = SpikeWatch()
        for point in self.points:
            self._watch(point)
        self.evaluations = [e for row in _rows(report.get("evaluations")) if (e := _evaluation(row)) is not None]
        self._stride = max(1, integer(report.get("curve_stride")) or 1)
        self._times: deque[tuple[int, float]] = deque(maxlen=RECENT_UPDATES)
        self._latest(_mapping(report.get("latest")))
        for event in earlier:
            self._note_time(event)

    def apply(self, event: Event) -> None:
        """Take one event that came after the report. Beginnings are told by a new report, not by this."""
        time = number(event.get("time"))
        self.updated_at = time if time is not None else self.updated_at
        match event["event"]:
            case "step":
                self._step(event, time)
            case "eval":
                self._evaluate(event)
            case "best":
                self.best, self.best_step = number(event.get("loss")), integer(event.get("step"))
            case "run_finished" | "run_stopped" | "run_failed" as name:
                self.state, self.ended_at = name.removeprefix("run_"), time
                self.ending = str(event.get("error") or event.get("reason") or "")

    # -- what follows from it --------------------------------------------------------------------------------------

    @property
    def total_steps(self) -> int | None:
        """Updates that the run has when it is done."""
        return integer(self.facts.get("total_steps"))

    @property
    def seconds_per_step(self) -> float | None:
        """Of late, validation and checkpoints included; of the whole run where few updates are known; None: none."""
        if len(self._times) >= FEWEST_FOR_PACE:
            (first, began), (last, ended) = self._times[0], self._times[-1]
            if ended > began:
                return (ended - began) / (last - first)
        return self.seconds / self.step if self.step and self.seconds else None

    @property
    def seconds_per_batch(self) -> float | None:
        """As `seconds_per_step`, of one forward and backward pass."""
        per_step = self.seconds_per_step
        return per_step * self.step / self.batch if per_step is not None and self.batch else None

    @property
    def seconds_left(self) -> float | None:
        """Until the last update at the present pace; None where that is not known."""
        pace, total = self.seconds_per_step, self.total_steps
        return max(0, total - self.step) * pace if pace is not None and total is not None else None

    # -- folding ---------------------------------------------------------------------------------------------------

    def _step(self, event: Event, time: float | None) -> None:
        step = integer(event.get("step"))
        self._note_time(event)
        if step is None or step <= self.step:
            return
        before = self._times[-2][1] if len(self._times) > 1 else None
        if time is not None and before is not None:
            self.seconds += max(0.0, time - before)
        self.step, self.batch = step, integer(event.get("batch")) or step
        self.num_skipped += bool(event.get("skipped"))
        self._latest(event)
        point = Point(step, self.loss, self.accuracy)
        self._watch(point)
        if step % self._stride == 0:
            self.points.append(point)
            while len(self.points) > MAX_POINTS:
                self._stride *= 2
                self.points = [p for p in self.points if p.step % self._stride == 0]

    def _note_time(self, event: Event) -> None:
        step, time = integer(event.get("step")), number(event.get("time"))
        if event["event"] == "step" and step is not None and time is not None:
            if self._times and step <= self._times[-1][0]:
                if step == self._times[-1][0]:
                    return
                self._times.clear()  # a resumed run does these updates again
            self._times.append((step, time))
        elif event["event"] in ("run_started", "run_resumed"):
            self._times.clear()

    def _latest(self, figures: dict[str, Any]) -> None:
        self.epoch = integer(figures.get("epoch"))
        self.loss, self.accuracy = number(figures.get("loss")), number(figures.get("accuracy"))
        self.tokens_per_second = number(figures.get("tokens_per_second"))

    def _watch(self, point: Point) -> None:
        if point.loss is None:
            self.not_finite_at = point.step
        else:
            self.spikes.add(point.step, point.loss)

    def _evaluate(self, event: Event) -> None:
        evaluation = _evaluation(event)
        if evaluation is None or (self.evaluations and evaluation.step <= self.evaluations[-1].step):
            return
        self.evaluations.append(evaluation)
        if len(self.evaluations) > MAX_EPOCHS:
            self.evaluations = self.evaluations[::2]  # an odd number: the last one stays


def number(value: object) -> float | None:
    """A finite number, or None."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def integer(value: object) -> int | None:
    """A whole number, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _rows(value: object) -> Iterator[dict[str, Any]]:
    return (row for row in value if isinstance(row, dict)) if isinstance(value, list) else iter(())


def _points(curve: object) -> Iterator[Point]:
    columns = [_mapping(curve).get(key) for key in ("step", "loss", "accuracy")]
    if all(isinstance(column, list) for column in columns):
        for step, loss, accuracy in zip(*columns, strict=False):
            if integer(step) is not None:
                yield Point(step, number(loss), number(accuracy))


def _evaluation(row: dict[str, Any]) -> Evaluation | None:
    step, epoch = integer(row.get("step")), integer(row.get("epoch"))
    if step is None or epoch is None:
        return None
    return Evaluation(step, epoch, number(row.get("loss")), number(row.get("accuracy")))
