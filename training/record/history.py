"""The one fold of a run's events: what every reader of a record makes of it. No torch.

`History` is a pure function of the events that count (`training.record.log` leaves out what a resumed run did again).
It keeps everything; `training.record.report.Report` is its bounded form, which the reporter writes and every viewer
continues from. Events come from the reporter itself or through `training.record.schema.parse_event`, so their keys have
the right types; a key that is missing is a figure that nobody measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, Self, TypeVar

from training.record.log import counted
from training.record.schema import RESUMED_RUN, Event, declared_metrics, is_number, loss_weight, number
from training.tasks.metrics import LANGUAGE_METRICS, Metric

T = TypeVar("T")
R = TypeVar("R", bound=Mapping[str, Any])


class Row(dict[str, Any]):
    """One update or one evaluation, with the keys of its event; what is None or missing was not finite or not measured.

    Its types are those of the schema.
    """

    @property
    def step(self) -> int:
        """Updates done."""
        return int(self["step"])

    @property
    def epoch(self) -> int | None:
        """Epoch from 1."""
        return self.get("epoch")

    @property
    def loss(self) -> float | None:
        """Mean loss."""
        return self.get("loss")


class EpochMean(NamedTuple):
    """Means of an epoch over its updates so far, weighted by the tokens or samples of their losses."""

    epoch: int
    step: int
    """The epoch's last update so far."""
    loss: float | None
    is_open: bool
    """More updates may follow."""


class EpochSums:
    """Sums over an epoch's updates, weighted by what the loss was divided by.

    Args:
        epoch: number from 1.
        metrics: figures of the run; those that are measured in updates are summed.
    """

    def __init__(self, epoch: int, metrics: Iterable[Metric] = LANGUAGE_METRICS) -> None:
        self.epoch = epoch
        self.last_step = 0
        self._metrics: tuple[Metric, ...] = ()
        self._loss = _WeightedSum()
        self._figures: dict[str, _WeightedSum] = {}
        self.also(tuple(metrics))
        self._count = 0
        self._unit: str | None = None
        self._reported: dict[str, Any] | None = None

    @classmethod
    def reported(cls, row: dict[str, Any], metrics: Iterable[Metric]) -> EpochSums:
        """Return the means that a report holds of an open epoch.

        Their sums are lost: the next update begins new ones.
        """
        sums = cls(row["epoch"], metrics)
        sums._reported = row
        return sums

    def also(self, metrics: tuple[Metric, ...]) -> None:
        """Sum further figures from the next update on."""
        self._metrics = (*self._metrics, *(metric for metric in metrics if metric.at == "updates"))
        self._figures |= {metric.name: _WeightedSum() for metric in metrics if metric.in_updates}

    def add(self, event: Mapping[str, Any]) -> None:
        """Count one update; one whose loss is not finite has no weight."""
        self._reported = None
        self.last_step = event["step"]
        if self._unit is None:
            self._unit = unit_of(event)
        self._count += event.get(self._unit or "tokens") or 0
        loss = event.get("loss")
        if loss is None:
            return
        weight = number(loss_weight(event)) or 0.0
        self._loss.add(loss, weight)
        for name, figures in self._figures.items():
            if is_number(value := event.get(name)):  # any task's figure: the schema does not know its type
                figures.add(value, weight)

    def to_dict(self) -> dict[str, Any]:
        """Return the epoch's means as plain data."""
        if self._reported is not None:
            return self._reported
        loss = self._loss.mean
        return {
            "epoch": self.epoch,
            "step": self.last_step,
            "loss": loss,
            **{
                m.name: self._figures[m.name].mean if m.name in self._figures else m.of_loss(loss)
                for m in self._metrics
            },
            self._unit or "tokens": self._count,
        }


class _WeightedSum:
    def __init__(self) -> None:
        self.sum = 0.0
        self.weight = 0.0

    def add(self, value: float, weight: float) -> None:
        self.sum += value * weight
        self.weight += weight

    @property
    def mean(self) -> float | None:
        return self.sum / self.weight if self.weight else None


class Series(Generic[R]):
    """Rows at every stride-th step or epoch, so that a long run has no more than `most` of them.

    Args:
        key: what the stride counts: `step` or `epoch`.
        most: number of rows at which the stride doubles; None: all rows are kept.
        keeps_last: the last row is kept whatever its number, until the next one comes.
    """

    def __init__(self, key: str, most: int | None, keeps_last: bool) -> None:
        self.rows: list[R] = []
        self.stride = 1
        self._key, self._most, self._keeps_last = key, most, keeps_last

    def add(self, row: R) -> None:
        """Append a row, and thin the rows where they have become too many."""
        if self._most is None:
            self.rows.append(row)
            return
        if self._keeps_last and self.rows and not self._is_on_stride(self.rows[-1]):
            self.rows.pop()
        if self._keeps_last or self._is_on_stride(row):
            self.rows.append(row)
        while len(self.rows) > self._most:
            self.stride *= 2
            last = self.rows[-1]
            self.rows = [r for r in self.rows if self._is_on_stride(r) or (self._keeps_last and r is last)]

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Say whether `add` would keep a row."""
        return self._most is None or self._keeps_last or self._is_on_stride(row)

    def _is_on_stride(self, row: Mapping[str, Any]) -> bool:
        return (row.get(self._key) or 0) % self.stride == 0


class Bounds(NamedTuple):
    """Numbers of things that a history keeps; None: all."""

    points: int | None = None
    points_per_epoch: int | None = None
    epochs: int | None = None
    """Epochs and evaluations that are listed."""
    remembered: int | None = None
    """Checkpoints, warnings and resumptions that are listed; all warnings are counted."""
    ranks: int | None = None
    """Ranks whose memory is listed."""


class History:
    """State of a run after the events so far."""

    bounds = Bounds()

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        bounds = self.bounds
        self.facts: dict[str, Any] = {}
        """Keys of `run_started` and `run_resumed`, `started_at` and `resumed_at_steps`."""
        self.metrics: tuple[Metric, ...] = LANGUAGE_METRICS
        self.state = "unknown"
        """`unknown`, `running`, `finished`, `stopped` or `failed`."""
        self.batch = 0
        self.step = 0
        self.seconds = 0.0
        """Time spent training, without interruptions."""
        self.updated_at: float | None = None
        self.outcome: dict[str, Any] = {}
        """End of the run: `ended_at`, `reason` or `error`."""
        self.conclusion: dict[str, Any] = {}
        """Figures of the finished model, by group."""
        self.latest = Row()
        """The last update; empty: there is none."""
        self.best: dict[str, Any] | None = None
        self.checkpoints: list[dict[str, Any]] = []
        self.estimate: dict[str, Any] = {}
        self.memory: dict[str, Any] | None = None
        self.warnings: list[dict[str, Any]] = []
        self.num_warnings = 0
        self.num_skipped = 0
        self.not_finite_at: int | None = None
        """The last update whose loss is not finite; one without a loss, as a foreign loop may report it, is none."""
        self._curve: Series[Row] = Series("step", bounds.points, keeps_last=False)
        self._epochs: Series[dict[str, Any]] = Series("epoch", bounds.epochs, keeps_last=True)
        self._evaluations: Series[Row] = Series("epoch", bounds.epochs, keeps_last=True)
        self._samples: Series[dict[str, Any]] = Series("step", bounds.remembered, keeps_last=True)
        self._open_epoch: EpochSums | None = None
        self._last_time: float | None = None

    @classmethod
    def of(cls, events: Iterable[Event]) -> Self:
        """Fold a whole log; what a resumed run did again counts once."""
        return cls.of_counted(counted(events))

    @classmethod
    def of_counted(cls, events: Iterable[Event]) -> Self:
        """Fold events that all count (`training.record.log.CountedEvents`)."""
        history = cls()
        for event in events:
            history.apply(event)
        return history

    def apply(self, event: Event) -> None:
        """Fold one event in. Unknown events change nothing but the time."""
        self.updated_at = event.get("time")
        handler = _HANDLERS.get(event["event"])
        if handler is not None:
            handler(self, event)

    # -- what follows from it --------------------------------------------------------------------------------------

    @property
    def updates(self) -> list[Row]:
        """Updates of the curve."""
        return self._curve.rows

    @property
    def stride(self) -> int:
        """Updates from one point of the curve to the next."""
        return self._curve.stride

    @property
    def evaluations(self) -> list[Row]:
        """Measurements on the validation data."""
        return self._evaluations.rows

    @property
    def sample_files(self) -> list[dict[str, Any]]:
        """Pictures of samples, `step` and `files` of each, from early to late."""
        return self._samples.rows

    @property
    def epoch_rows(self) -> list[dict[str, Any]]:
        """Means of the epochs so far as plain data; the one that goes on is marked `unfinished`."""
        if self._open_epoch is None:
            return list(self._epochs.rows)
        return [*self._epochs.rows, {**self._open_epoch.to_dict(), "unfinished": True}]

    @property
    def epochs(self) -> list[EpochMean]:
        """Means of the epochs so far, the last one's too."""
        return [EpochMean(e["epoch"], e["step"], e["loss"], bool(e.get("unfinished"))) for e in self.epoch_rows]

    @property
    def total_steps(self) -> int | None:
        """Updates that the run has when it is done."""
        return self.facts.get("total_steps")

    @property
    def unit(self) -> str | None:
        """Unit that the run counts: `tokens` or `samples`; None: no update says so."""
        return unit_of(self.latest)

    # -- one function an event -------------------------------------------------------------------------------------

    def _on_run_started(self, event: Event) -> None:
        self._reset()  # a run that starts has no past
        time = event.get("time")
        self.facts = without(event, "event", "time")
        self.facts["started_at"] = time
        self.metrics = declared_metrics(self.facts)
        self.state, self.updated_at, self._last_time = "running", time, time
        if (most := self.bounds.points_per_epoch) is not None:
            self._curve.stride = max(1, math.ceil((event.get("steps_per_epoch") or 1) / most))

    def _on_run_resumed(self, event: Event) -> None:
        # What came after the step was left out before the fold (`training.record.log`).
        self.state, self.outcome, self.conclusion, self._last_time = "running", {}, {}, event.get("time")
        before = self.facts.get("settings_from") or {}
        self.facts.update(without(event, "event", "time", "step"))
        if now := self.facts.get("settings_from"):  # what was taken over is still set by whoever set it first
            taken_over = {key for key, source in now.items() if source.startswith(RESUMED_RUN)}
            kept = {key: before.get(key) if key in taken_over else source for key, source in now.items()}
            self.facts["settings_from"] = {key: source for key, source in kept.items() if source is not None}
        self.metrics = declared_metrics(self.facts)
        self.facts["resumed_at_steps"] = self._remembered([*self.facts.get("resumed_at_steps", []), event["step"]])

    def _on_metrics_declared(self, event: Event) -> None:
        known = {metric.name for metric in self.metrics}
        further = tuple(metric for metric in declared_metrics(event) if metric.name not in known)
        self.metrics += further
        self.facts["metrics"] = [metric.to_dict() for metric in self.metrics]
        if self._open_epoch is not None:
            self._open_epoch.also(further)

    def _on_step(self, event: Event) -> None:
        epoch = event.get("epoch")
        if self._open_epoch is None or self._open_epoch.epoch != epoch:
            self.close_epoch()
            self._open_epoch = EpochSums(epoch, self.metrics) if epoch is not None else None
        if self._open_epoch is not None:
            self._open_epoch.add(event)
        self.latest = self._row(event)
        self.step, self.batch = event["step"], event.get("batch") or event["step"]
        self.num_skipped += bool(event.get("skipped"))
        if event.get("loss", 0.0) is None:
            self.not_finite_at = event["step"]
        time = event.get("time")
        if self._last_time is not None and time is not None:
            self.seconds += max(0.0, time - self._last_time)
        self._last_time = time
        if self._curve.takes(self.latest):
            self._curve.add(self._point(self.latest))

    def _point(self, row: Row) -> Row:
        """Return what the curve keeps of an update."""
        return row

    def _row(self, event: Event) -> Row:
        """Return the figures of an event, with those that follow from its loss."""
        row = Row(event)
        row.pop("event", None)
        row.pop("time", None)
        for metric in self.metrics:
            if metric.derived == "exp_loss":
                row[metric.name] = metric.of_loss(row.loss)
        return row

    def close_epoch(self) -> None:
        """Note that the present epoch gets no more updates."""
        if self._open_epoch is not None:
            self._epochs.add(self._open_epoch.to_dict())
            self._open_epoch = None

    def _on_eval(self, event: Event) -> None:
        self._evaluations.add(self._row(event))
        self._last_time = event.get("time")

    def _on_best(self, event: Event) -> None:
        self.best = without(event, "event", "time")

    def _on_checkpoint(self, event: Event) -> None:
        self.checkpoints = self._remembered([*self.checkpoints, without(event, "event", "time")])
        self._last_time = event.get("time")

    def _on_samples(self, event: Event) -> None:
        # A run that is resumed at its end draws its last picture again.
        self._samples.rows = [entry for entry in self._samples.rows if entry["step"] != event["step"]]
        self._samples.add(without(event, "event", "time"))
        self._last_time = event.get("time")

    def _on_estimate(self, event: Event) -> None:
        self.estimate.update(without(event, "event", "time", "step"))

    def _on_memory(self, event: Event) -> None:
        peaks, before = event["peak_bytes"][: self.bounds.ranks], self.memory
        if not peaks:
            return  # not rank 0
        if before is not None and before["kind"] == event["kind"] and len(before["peak_bytes"]) == len(peaks):
            # A resumed run's processes start again from nothing; the run's peak is the highest of all.
            peaks = [max(pair) for pair in zip(before["peak_bytes"], peaks, strict=True)]
        self.memory = {"kind": event["kind"], "peak_bytes": peaks}

    def _on_warning(self, event: Event) -> None:
        self.num_warnings += 1
        self.warnings = self._remembered([*self.warnings, without(event, "event")])

    def _on_conclusion(self, event: Event) -> None:
        self.conclusion.update(event["figures"])

    def _on_recitation(self, event: Event) -> None:
        self.conclusion["recitation"] = event["modules"]

    def _on_end(self, event: Event) -> None:
        self.state = event["event"].removeprefix("run_")
        if self.state == "finished" and self._is_epochs_end():
            self.close_epoch()
        self.outcome = {"ended_at": event.get("time"), **without(event, "event", "time")}

    def _is_epochs_end(self) -> bool:
        """Say whether the present epoch has all its updates: a run may end inside one, and go on with it later."""
        length = self.facts.get("steps_per_epoch")
        return self._open_epoch is None or not length or self._open_epoch.last_step % length == 0

    def _remembered(self, items: list[T]) -> list[T]:
        most = self.bounds.remembered
        return items if most is None else items[-most:]


_HANDLERS: Mapping[str, Callable[[History, Event], None]] = {
    "run_started": History._on_run_started,
    "run_resumed": History._on_run_resumed,
    "metrics_declared": History._on_metrics_declared,
    "step": History._on_step,
    "eval": History._on_eval,
    "best": History._on_best,
    "checkpoint": History._on_checkpoint,
    "samples": History._on_samples,
    "estimate": History._on_estimate,
    "memory": History._on_memory,
    "warning": History._on_warning,
    "conclusion": History._on_conclusion,
    "recitation": History._on_recitation,
    "run_finished": History._on_end,
    "run_stopped": History._on_end,
    "run_failed": History._on_end,
}


def unit_of(event: Mapping[str, Any]) -> str | None:
    """Return what an update counts: `samples` where it says so, else `tokens`; None: it counts nothing."""
    for unit in ("samples", "tokens"):
        if event.get(unit) is not None or event.get(f"{unit}_per_second") is not None:
            return unit
    return None


def without(event: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Return an event's other keys."""
    return {key: value for key, value in event.items() if key not in keys}
