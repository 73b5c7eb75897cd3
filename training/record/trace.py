"""A run as its record tells it, for every viewer: the report's curves, and what only a viewer wants of them: the pace,
the spikes, each clipped and each skipped update, the times at which it was at work."""

from __future__ import annotations

import itertools
import statistics
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.record.history import Row
from training.record.log import LOG_NAME, Marks
from training.record.report import Report
from training.record.schema import Event, fits, integer, number, parse_event

RECENT_UPDATES = 200
"""Updates whose times tell the present pace."""
FEWEST_FOR_PACE = 10
MAX_MARKS = 20_000
"""Marks of one kind, the last ones: more than a picture has columns."""


# -- spikes --------------------------------------------------------------------------------------------------------

WINDOW = 50
"""Values that a new one is compared with."""
FEWEST = 20
"""Values that are needed before anything is called a spike."""
FENCE = 3.0
"""Interquartile ranges above the upper quartile; beyond, a value is "far out" (Tukey, Exploratory Data Analysis)."""
LEAST_RATIO = 1.5
"""Smallest ratio of a spike to the median."""
LEAST_SHARE = 0.05
"""Smallest share of the run's first value by which a spike rises: the bounces of a loss near zero are no spikes."""


@dataclass(frozen=True)
class Spike:
    """The update at which a figure left its range."""

    step: int
    value: float
    median: float
    """Median of the values before."""


class SpikeWatch:
    """Compares each value of a curve with those before it, in time that does not grow with the run.

    A value that stays high counts once, and is the new normal after half a window.
    """

    def __init__(self) -> None:
        self.count = 0
        self.spikes: deque[Spike] = deque(maxlen=MAX_MARKS)
        self._first: float | None = None
        self._recent: deque[float] = deque()
        self._in_order: list[float] = []
        self._is_high = False

    @property
    def last(self) -> Spike | None:
        """The last spike."""
        return self.spikes[-1] if self.spikes else None

    def add(self, step: int, value: float) -> None:
        """Take the value of the next update."""
        if self._first is None:
            self._first = value
        if len(self._in_order) >= FEWEST:
            is_high = self._is_far_out(value)
            if is_high and not self._is_high:
                self.count += 1
                self.spikes.append(Spike(step, value, self._quantile(0.5)))
            self._is_high = is_high
        self._recent.append(value)
        insort(self._in_order, value)
        if len(self._recent) > WINDOW:
            del self._in_order[bisect_left(self._in_order, self._recent.popleft())]

    def _is_far_out(self, value: float) -> bool:
        median = self._quantile(0.5)
        assert self._first is not None
        if value < median + max((LEAST_RATIO - 1.0) * abs(median), LEAST_SHARE * abs(self._first)):
            return False
        lower, upper = self._quantile(0.25), self._quantile(0.75)
        return value > upper + FENCE * (upper - lower)

    def _quantile(self, share: float) -> float:
        return self._in_order[int(share * (len(self._in_order) - 1))]


# -- the run -------------------------------------------------------------------------------------------------------


class Trace(Report):
    """A run's report, gone on with from the events after it. Bounded in size.

    Whatever is not of its type counts as not recorded; events that are taken a second time change nothing.

    Args:
        report: as `training.record.log.read_report` gives it; {}: nothing has happened.
        earlier: events that the report holds already, the last before its end: they tell the pace.
        marks: what the log holds beyond the report (`training.record.log.scan_marks`); None: no picture is drawn of the
            run, and neither marks nor spikes of its gradient are kept.
    """

    def __init__(
        self, report: Mapping[str, Any] | None = None, earlier: Sequence[Event] = (), marks: Marks | None = None
    ) -> None:
        super().__init__()
        self._has_marks = marks is not None
        self._restore(report or {}, marks.open_epoch if marks is not None else ())
        # The log may be ahead of the report; what it has more comes by `apply`.
        self.clipped = [s for s in marks.clipped if s <= self.step][-MAX_MARKS:] if marks is not None else []
        """Updates whose gradient was clipped."""
        self.skipped = [s for s in marks.skipped if s <= self.step][-MAX_MARKS:] if marks is not None else []
        """Updates that were left out because loss or gradient was not finite."""
        self.spikes, self._norm_spikes = SpikeWatch(), SpikeWatch()
        for row in self.updates:
            self._watch(row)
        self._times: deque[tuple[int, float]] = deque(maxlen=RECENT_UPDATES)
        for event in earlier:
            self._note_time(event)

    def apply(self, event: Event) -> None:
        """Take one event that came after the report. Beginnings come with a new report, not by this."""
        if not fits(event):
            return
        self._note_time(event)
        match event["event"]:
            case "run_started" | "run_resumed":
                return
            case "step" if event["step"] <= self.step:
                return
            case "eval" if event.get("epoch") is None:
                return
            case "eval" if self.evaluations and event["step"] <= self.evaluations[-1].step:
                return
        super().apply(event)
        if event["event"] == "step":
            self._watch(self.latest)
            if self._has_marks:
                for kind, marks in (("clipped", self.clipped), ("skipped", self.skipped)):
                    if event.get(kind) is True:
                        marks.append(self.step)
                        del marks[:-MAX_MARKS]

    def _watch(self, row: Row) -> None:
        if (loss := row.loss) is not None:
            self.spikes.add(row.step, loss)
        if self._has_marks and (norm := number(row.get("grad_norm"))) is not None:
            self._norm_spikes.add(row.step, norm)

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

    # -- what follows from it --------------------------------------------------------------------------------------

    @property
    def loss_spikes(self) -> Sequence[Spike]:
        """Updates whose loss lay far above those before."""
        return list(self.spikes.spikes)

    @property
    def has_losses(self) -> bool:
        """Say whether any update reports a loss, finite or not; those of a loop that is not ours need not."""
        return self.not_finite_at is not None or any(row.loss is not None for row in self.updates)

    @property
    def norm_spikes(self) -> Sequence[Spike]:
        """Updates whose gradient norm lay far above those before."""
        return list(self._norm_spikes.spikes)

    @property
    def ending(self) -> str:
        """Why the run ended; empty while it goes on."""
        return str(self.outcome.get("error") or self.outcome.get("reason") or "")

    @property
    def ended_at(self) -> float | None:
        """Unix seconds."""
        return number(self.outcome.get("ended_at"))

    @property
    def peak_memory_bytes(self) -> int | None:
        """The most that a rank has held."""
        return max(self.memory["peak_bytes"]) if self.memory else None

    @property
    def memory_kind(self) -> str:
        """`resident`, or `cuda_tensors`; empty where nothing was measured."""
        return str(self.memory["kind"]) if self.memory else ""

    @property
    def speed(self) -> float | None:
        """Tokens or samples per second (`unit`) of the last update."""
        return number(self.latest.get(f"{self.unit}_per_second"))

    @property
    def seconds_per_step(self) -> float | None:
        """Present pace, validation and checkpoints included; the whole run's where few updates are known."""
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
        """Time until the last update at the present pace; None where that is not known."""
        pace, total = self.seconds_per_step, self.total_steps
        return max(0, total - self.step) * pace if pace is not None and total is not None else None

    def until(self, step: int) -> Trace:
        """Return the same run as it was after update `step`, as far as its curves tell."""
        then = Trace()
        then.facts, then.metrics, then.memory, then.step = self.facts, self.metrics, self.memory, step
        then._curve.rows = [row for row in self.updates if row.step <= step]
        then.latest = then.updates[-1] if then.updates else Row()
        then._evaluations.rows = [row for row in self.evaluations if row.step <= step]
        then._epochs.rows = [row for row in self.epoch_rows if row["step"] <= step]
        then._samples.rows = [entry for entry in self.sample_files if entry["step"] <= step]
        then.clipped = [s for s in self.clipped if s <= step]
        then.skipped = [s for s in self.skipped if s <= step]
        then.spikes.spikes.extend(spike for spike in self.loss_spikes if spike.step <= step)
        then._norm_spikes.spikes.extend(spike for spike in self.norm_spikes if spike.step <= step)
        return then


def curve_of(rows: Sequence[Row], key: str) -> tuple[list[int], list[float]]:
    """Return the steps at which a figure is known, and the figure."""
    known = [(row.step, value) for row in rows if (value := number(row.get(key))) is not None]
    return [step for step, _ in known], [value for _, value in known]


# -- when it was at work -------------------------------------------------------------------------------------------

SAMPLES = 200
"""Places of the log that are looked at, evenly spaced: a log of any length costs the same."""
BLOCK_BYTES = 4096
PAUSE_SECONDS = 60.0
PAUSE_GAPS = 5.0
"""A silence is a pause if it is longer than a minute and than five usual gaps between two samples."""

Span = tuple[float, float]
"""Unix seconds of beginning and end."""


def spans(run_dir: Path) -> list[Span]:
    """Return the spans of time without a long silence, oldest first; none where the log cannot be read."""
    try:
        times = sorted(_sampled_times(run_dir / LOG_NAME))
    except OSError:
        return []
    if not times:
        return []
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    pause = max(PAUSE_SECONDS, PAUSE_GAPS * statistics.median(gaps)) if gaps else PAUSE_SECONDS
    found, start = [], times[0]
    for n, gap in enumerate(gaps):
        if gap > pause:
            found.append((start, times[n]))
            start = times[n + 1]
    return [*found, (start, times[-1])]


def _sampled_times(log: Path) -> Iterator[float]:
    with log.open("rb") as file:
        size = log.stat().st_size
        if size <= SAMPLES * BLOCK_BYTES:
            yield from _times(file.read().splitlines())
            return
        for n in range(SAMPLES):
            file.seek((size - BLOCK_BYTES) * n // (SAMPLES - 1))
            # The first and the last line may be torn; what is left of them is no event.
            yield from _times(file.read(BLOCK_BYTES).splitlines())


def _times(lines: list[bytes]) -> Iterator[float]:
    for line in lines:
        event = parse_event(line)
        time = number(event.get("time")) if event is not None else None
        if time is not None:
            yield time
