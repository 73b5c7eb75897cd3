"""The curves of a run as the dashboard draws them, folded from the report and from the events after it. Bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tools.dashboard.log_history import Past
from tools.runs.spikes import SpikeWatch
from tools.runs.trace import integer, number
from training.record.history import EpochSums
from training.record.report import MAX_EPOCHS, MAX_POINTS
from training.record.reporter import Event

MAX_MARKS = 20_000
"""Of each kind, the last ones: more than a picture has columns."""
FACTS = ("steps_per_epoch", "num_epochs", "num_parameters", "world_size")
_FIGURES = (
    "loss", "accuracy", "grad_norm", "learning_rate", "tokens_per_second", "forward_ms", "backward_ms",
)  # fmt: skip


class Update(NamedTuple):
    """One update on the curves; None: not finite or not recorded."""

    step: int
    epoch: int | None
    loss: float | None
    accuracy: float | None
    grad_norm: float | None
    """Before stabilizer and clipping."""
    learning_rate: float | None
    tokens_per_second: float | None
    forward_ms: float | None
    backward_ms: float | None


class EpochMean(NamedTuple):
    """An epoch's mean loss over its answer tokens, at its last update so far."""

    epoch: int
    step: int
    loss: float | None
    is_open: bool


class Mark(NamedTuple):
    """An update to be marked, at its value."""

    step: int
    value: float


class _SpikeMarks:
    """The updates at which a curve left its range (`SpikeWatch`)."""

    def __init__(self) -> None:
        self._watch = SpikeWatch()
        self.marks: list[Mark] = []

    def add(self, step: int, value: float | None) -> None:
        if value is None:
            return
        before = self._watch.count
        self._watch.add(step, value)
        if self._watch.count > before:
            self.marks = [*self.marks, Mark(step, value)][-MAX_MARKS:]


class History:
    """A run's curves and marks.

    Args:
        report: as `training.record.reporter.read_report` gives it; {}: nothing has happened.
        past: what the log holds beyond the report.
    """

    def __init__(self, report: dict[str, Any], past: Past) -> None:
        self.step = integer(report.get("step")) or 0
        self.updates = _updates(report.get("curve"))
        self.latest: Update | None = _update(report.get("latest"))
        # The log may be ahead of the report; what it has more comes by `apply`.
        self.clipped = [step for step in past.clipped if step <= self.step][-MAX_MARKS:]
        self.skipped = [step for step in past.skipped if step <= self.step][-MAX_MARKS:]
        self.peak_memory_bytes = _peak(report.get("memory"))
        self.memory_kind = _memory_kind(report.get("memory"))
        """`resident`, or `cuda_tensors`."""
        self.facts = {key: integer(report.get(key)) for key in FACTS}
        self._loss_spikes, self._norm_spikes = _SpikeMarks(), _SpikeMarks()
        for update in self.updates:
            self._watch(update)
        self._stride = max(1, integer(report.get("curve_stride")) or 1)
        self._epochs, self._open_epoch = _epochs(report.get("epochs"), past)

    @property
    def loss_spikes(self) -> list[Mark]:
        """Updates whose loss lay far above those before."""
        return self._loss_spikes.marks

    @property
    def norm_spikes(self) -> list[Mark]:
        """Updates whose gradient norm lay far above those before."""
        return self._norm_spikes.marks

    @property
    def epochs(self) -> list[EpochMean]:
        """Means of the epochs so far, the last one's too."""
        if self._open_epoch is None:
            return list(self._epochs)
        return [*self._epochs, _mean(self._open_epoch.to_dict(), is_open=True)]

    def apply(self, event: Event) -> None:
        """Take one event that came after the report. One that was told before changes nothing."""
        if event["event"] == "memory":
            peak = _peak(event)
            if peak is not None and (self.peak_memory_bytes is None or peak > self.peak_memory_bytes):
                self.peak_memory_bytes, self.memory_kind = peak, _memory_kind(event)
        if event["event"] != "step":
            return
        update = _update(event)
        if update is None or update.step <= self.step:
            return
        self.step, self.latest = update.step, update
        if event.get("clipped") is True:
            self.clipped = [*self.clipped, update.step][-MAX_MARKS:]
        if event.get("skipped") is True:
            self.skipped = [*self.skipped, update.step][-MAX_MARKS:]
        self._watch(update)
        if update.step % self._stride == 0:
            self.updates.append(update)
            while len(self.updates) > MAX_POINTS:
                self._stride *= 2
                self.updates = [u for u in self.updates if u.step % self._stride == 0]
        self._add_to_epoch(event, update)

    def until(self, step: int) -> History:
        """The same run as it was after update `step`, as far as its curves tell it."""
        then = History({}, Past())
        then.updates = [u for u in self.updates if u.step <= step]
        then.latest = then.updates[-1] if then.updates else None
        then.step, then.facts = step, self.facts
        then.peak_memory_bytes, then.memory_kind = self.peak_memory_bytes, self.memory_kind
        then.clipped = [s for s in self.clipped if s <= step]
        then.skipped = [s for s in self.skipped if s <= step]
        then._loss_spikes.marks = [m for m in self.loss_spikes if m.step <= step]
        then._norm_spikes.marks = [m for m in self.norm_spikes if m.step <= step]
        then._epochs = [e for e in self.epochs if e.step <= step]
        return then

    def _watch(self, update: Update) -> None:
        self._loss_spikes.add(update.step, update.loss)
        self._norm_spikes.add(update.step, update.grad_norm)

    def _add_to_epoch(self, event: Event, update: Update) -> None:
        if update.epoch is None:
            return
        if self._open_epoch is None or self._open_epoch.epoch != update.epoch:
            if self._open_epoch is not None:
                self._epochs.append(_mean(self._open_epoch.to_dict(), is_open=False))
            if self._epochs and self._epochs[-1].epoch == update.epoch:  # whose updates the log no longer tells
                self._epochs.pop()
            self._open_epoch = EpochSums(update.epoch)
            if len(self._epochs) > MAX_EPOCHS:
                self._epochs = self._epochs[::2]
        self._open_epoch.add(_clean(event))


def values(updates: list[Update], of: Callable[[Update], float | None]) -> tuple[list[int], list[float]]:
    """The steps at which a figure is known, and the figure."""
    known = [(update.step, value) for update in updates if (value := of(update)) is not None]
    return [step for step, _ in known], [value for _, value in known]


def _clean(event: Event) -> Event:
    """An update with figures of their types, so that one strange line cannot end the fold."""
    return {
        "step": event["step"],
        "loss": number(event.get("loss")),
        "accuracy": number(event.get("accuracy")),
        "loss_tokens": max(1, integer(event.get("loss_tokens", event.get("loss_weight"))) or 1),
        "tokens": integer(event.get("tokens")) or 0,
    }


def _update(figures: object) -> Update | None:
    if not isinstance(figures, dict) or (step := integer(figures.get("step"))) is None:
        return None
    return Update(step, integer(figures.get("epoch")), *(number(figures.get(key)) for key in _FIGURES))


def _updates(curve: object) -> list[Update]:
    if not isinstance(curve, dict) or not isinstance(steps := curve.get("step"), list):
        return []
    columns = {key: column for key in ("step", "epoch", *_FIGURES) if isinstance(column := curve.get(key), list)}
    rows = ({key: column[n] for key, column in columns.items() if n < len(column)} for n in range(len(steps)))
    return [update for row in rows if (update := _update(row)) is not None]


def _epochs(rows: object, past: Past) -> tuple[list[EpochMean], EpochSums | None]:
    """The epochs that are over, and the sums of the one that is not."""
    known = [row for row in rows if isinstance(row, dict) and integer(row.get("epoch")) is not None] if isinstance(
        rows, list
    ) else []  # fmt: skip
    over = [_mean(row, is_open=False) for row in known if not row.get("unfinished")]
    unfinished = next((row for row in known if row.get("unfinished")), None)
    if unfinished is None:
        return over, None
    if not past.open_epoch:
        return [*over, _mean(unfinished, is_open=True)], None
    sums = EpochSums(unfinished["epoch"])
    for event in past.open_epoch:
        if integer(event.get("step")) is not None and event["step"] <= unfinished["step"]:
            sums.add(_clean(event))
    return over, sums


def _mean(row: dict[str, Any], is_open: bool) -> EpochMean:
    return EpochMean(row["epoch"], integer(row.get("step")) or 0, number(row.get("loss")), is_open)


def _peak(memory: object) -> float | None:
    peaks = memory.get("peak_bytes") if isinstance(memory, dict) else None
    known = [peak for peak in map(number, peaks) if peak is not None] if isinstance(peaks, list) else []
    return max(known, default=None)


def _memory_kind(memory: object) -> str:
    return str(memory.get("kind", "")) if isinstance(memory, dict) else ""
