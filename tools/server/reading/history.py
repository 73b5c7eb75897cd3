"""The curve of a run from its log: every update is looked at, and what is too much to draw is thinned. No torch.

Updates are put into buckets of 1, 2, 4, … of them. A bucket keeps the lowest and the highest value of each figure, its
last one, and the first update at which the figure was not finite; so no spike and no NaN is lost, whatever the length
of the run. All numbers in an answer are measured ones. Memory is bounded: a curve has at most `MOST_BUCKETS` buckets,
and the cache a number of curves.

What a resumed run did again counts once, as in every reader of a record (`training.record.log.CountedEvents`).
"""

from __future__ import annotations

import math
import os
import threading
from array import array
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tools.server.reading.log_position import START, LogPosition, generation_of
from tools.server.reading.update_lines import Updates, read_updates
from training.record.history import unit_of
from training.record.log import LOG_NAME, CountedEvents, complete_blocks, read_report
from training.record.report import Report
from training.record.schema import Event, declared_metrics, is_number
from training.storage.json_files import open_regular
from training.tasks.metrics import LANGUAGE_METRICS, Metric

MOST_BUCKETS = 8192
"""Buckets of a curve; one more, and pairs of them become one. An even number."""
MOST_KEYS = 64
"""Figures of a curve, the first ones that the log has; a task of this project has a dozen."""
MOST_EVALUATIONS = 4096
MOST_RESUMPTIONS = 1000
DEFAULT_POINTS, MOST_POINTS = 1000, 4000
"""Points of an answer."""
MARK_BYTES = 64
KEPT_BYTES = 96 * 2**20
"""Bytes of all curves that a cache keeps, about: a run of a million updates with a dozen figures takes 3 MB."""
AXES = ("step", "seconds", "tokens", "epoch")
"""Axes along which a curve can be drawn; `tokens` are samples where the run counts those."""
_NO_FIGURES = frozenset({"event", "time", "step", "epoch", "batch", "tokens", "samples", "loss_tokens", "loss_weight"})
"""Keys of an update that are no figure of its curve."""

Floats = NDArray[np.float64]


class Buckets:
    """Rows in the order in which they came, of which at most `most` buckets are kept.

    Args:
        most: number of buckets, even.
    """

    def __init__(self, most: int = MOST_BUCKETS) -> None:
        self._most = most
        self.rows = 0
        """Rows so far."""
        self.stride = 1
        """Rows of a bucket; the last one may have fewer."""
        self.axes = {name: array("d") for name in AXES}
        """Place of the last row of each bucket."""
        self.columns: dict[str, Column] = {}
        """Figures by name."""

    def __len__(self) -> int:
        return len(self.axes["step"])

    def add(self, place: Sequence[float], figures: Mapping[str, float], bad: Iterable[str]) -> None:
        """Take a row.

        Args:
            place: on each of `AXES`; nan: not known.
            figures: finite values by name.
            bad: names of figures that were not finite.
        """
        if self.rows % self.stride == 0:
            if len(self) == self._most:
                self._halve()
            for column in self.columns.values():
                column.open_bucket()
            for values, value in zip(self.axes.values(), place, strict=True):
                values.append(value)
        else:
            for values, value in zip(self.axes.values(), place, strict=True):
                values[-1] = value
        self.rows += 1
        for name, value in figures.items():
            if (named := self.columns.get(name) or self._new_column(name)) is not None:
                named.add(value)
        for name in bad:
            if (named := self.columns.get(name) or self._new_column(name)) is not None:
                named.add_bad(place[0])

    def extend(self, places: Mapping[str, Floats], figures: Mapping[str, Floats]) -> None:
        """Take many rows.

        Args:
            places: by axis; nan: not known.
            figures: values by name, one for each row; nan: not measured.
        """
        total, done = len(places["step"]), 0
        for name in figures:
            if name not in self.columns:
                self._new_column(name)
        while done < total:
            begun = self.rows % self.stride
            if begun == 0 and len(self) == self._most:
                self._halve()
                continue
            if begun or total - done < self.stride:
                count = min(total - done, self.stride - begun)
                self._extend_last(places, figures, done, done + count, is_new=begun == 0)
            else:
                count = min((total - done) // self.stride, self._most - len(self)) * self.stride
                self._extend_whole(places, figures, done, done + count)
            self.rows += count
            done += count

    def _extend_last(
        self, places: Mapping[str, Floats], figures: Mapping[str, Floats], start: int, end: int, *, is_new: bool
    ) -> None:
        """Take rows into the last bucket."""
        if is_new:
            for column in self.columns.values():
                column.open_bucket()
        for name, values in self.axes.items():
            if is_new:
                values.append(math.nan)
            values[-1] = float(places[name][end - 1])
        for name, column in self.columns.items():
            if name in figures:
                column.extend_last(figures[name][start:end])

    def _extend_whole(self, places: Mapping[str, Floats], figures: Mapping[str, Floats], start: int, end: int) -> None:
        """Take rows that fill buckets."""
        for name, values in self.axes.items():
            values.frombytes(np.ascontiguousarray(places[name][start + self.stride - 1 : end : self.stride]).tobytes())
        for name, column in self.columns.items():
            column.extend_whole(figures[name][start:end] if name in figures else None, (end - start) // self.stride)

    def _new_column(self, name: str) -> Column | None:
        if len(self.columns) >= MOST_KEYS:
            return None
        column = self.columns[name] = Column.empty(len(self))
        return column

    def _halve(self) -> None:
        halved = self.thinned_once()
        self.axes, self.columns, self.stride = halved.axes, halved.columns, halved.stride

    def thinned_once(self) -> Buckets:
        """Return the same rows in buckets of twice as many."""
        half = Buckets(self._most)
        half.rows, half.stride = self.rows, 2 * self.stride
        half.axes = {name: _array(_last_of_pairs(_floats(values))) for name, values in self.axes.items()}
        half.columns = {name: column.thinned_once() for name, column in self.columns.items()}
        return half

    def thinned(self, points: int) -> Buckets:
        """Return the same rows in so many buckets at most, more than half as many where there are enough.

        The edges of buckets depend on the rows before them alone, so a curve that grows keeps its earlier points.
        """
        found = self
        while len(found) > max(1, points):
            found = found.thinned_once()
        return found

    @property
    def bytes_held(self) -> int:
        """Bytes of all buckets."""
        return 8 * len(self) * (len(AXES) + 4 * len(self.columns))


@dataclass
class Column:
    """One figure, bucket by bucket; nan: it was not measured there."""

    value: array[float]
    """The last one."""
    low: array[float]
    high: array[float]
    bad_at: array[float]
    """First step at which it was not finite."""

    @classmethod
    def empty(cls, buckets: int) -> Column:
        """Return a figure that no bucket has yet."""
        return cls(*(array("d", [math.nan]) * buckets for _ in range(4)))

    def open_bucket(self) -> None:
        """Begin a bucket."""
        for values in (self.value, self.low, self.high, self.bad_at):
            values.append(math.nan)

    def add(self, value: float) -> None:
        """Take a finite value into the last bucket."""
        self.value[-1] = value
        if not self.low[-1] <= value:  # also where it is nan
            self.low[-1] = value
        if not self.high[-1] >= value:
            self.high[-1] = value

    def extend_last(self, values: Floats) -> None:
        """Take values into the last bucket; nan: not measured."""
        for value in values[~np.isnan(values)]:
            self.add(float(value))

    def extend_whole(self, values: Floats | None, buckets: int) -> None:
        """Take values that fill so many buckets; None: none was measured."""
        missing = array("d", [math.nan]) * buckets
        self.bad_at.extend(missing)
        if values is None:
            for kept in (self.value, self.low, self.high):
                kept.extend(missing)
            return
        table = values.reshape(buckets, -1)
        last = table[:, -1]
        for place in range(table.shape[1] - 2, -1, -1):
            if not (is_missing := np.isnan(last)).any():
                break
            last = np.where(is_missing, table[:, place], last)
        for kept, found in (
            (self.value, last),
            (self.low, np.fmin.reduce(table, 1)),
            (self.high, np.fmax.reduce(table, 1)),
        ):
            kept.frombytes(np.ascontiguousarray(found).tobytes())

    def add_bad(self, step: float) -> None:
        """Note a value that was not finite in the last bucket."""
        if math.isnan(self.bad_at[-1]):
            self.bad_at[-1] = step

    def to_dict(self, with_bands: bool) -> dict[str, list[float | None]]:
        """Return the figure as plain data."""
        bands = {"low": _nullable(self.low), "high": _nullable(self.high)} if with_bands else {}
        return {"value": _nullable(self.value), **bands}

    def thinned_once(self) -> Column:
        """Return the figure with pairs of buckets as one."""
        low, high = (np.stack(_pairs(_floats(values))) for values in (self.low, self.high))
        first, second = _pairs(_floats(self.value))
        bad_first, bad_second = _pairs(_floats(self.bad_at))
        return Column(
            _array(np.where(np.isnan(second), first, second)),
            _array(np.fmin(*low)),
            _array(np.fmax(*high)),
            _array(np.where(np.isnan(bad_first), bad_second, bad_first)),
        )


def _floats(values: array[float]) -> Floats:
    return np.frombuffer(values, dtype=np.float64)


def _array(values: Floats) -> array[float]:
    return array("d", np.ascontiguousarray(values).tobytes())


def _pairs(values: Floats) -> tuple[Floats, Floats]:
    """Return the first and the second of each pair; nan is the second of a last one that is alone."""
    if len(values) % 2:
        values = np.append(values, math.nan)
    return values[::2], values[1::2]


def _last_of_pairs(values: Floats) -> Floats:
    return np.append(values[1::2], values[-1]) if len(values) % 2 else values[1::2]


@dataclass
class Evaluations:
    """Measurements on the validation data. Of too many, each pair keeps the one with the lower loss; the last stays."""

    rows: list[dict[str, float | None]] = field(default_factory=list)
    total: int = 0
    """Measurements so far."""

    def add(self, row: dict[str, float | None]) -> None:
        """Take a measurement."""
        self.total += 1
        self.rows.append(row)
        if len(self.rows) > MOST_EVALUATIONS:
            self.rows = self.thinned(MOST_EVALUATIONS // 2)

    def thinned(self, most: int) -> list[dict[str, float | None]]:
        """Return so many of them at most."""
        rows = self.rows
        while len(rows) > max(2, most):
            before, last = rows[:-1], rows[-1]
            rows = [*(min(before[n : n + 2], key=_loss_of) for n in range(0, len(before), 2)), last]
        return rows


def _loss_of(row: Mapping[str, float | None]) -> float:
    loss = row.get("loss")
    return math.inf if loss is None else loss


class RunCurve:
    """Fold of a run's counted events into what is drawn of it."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.updates = Buckets()
        self.evaluations = Evaluations()
        self.resumed_at: list[int] = []
        """Step behind which each later piece of the run goes on."""
        self.unit: str | None = None
        """Unit of the axis `tokens`: `tokens` or `samples`; None: no update counts anything."""
        self._metrics: tuple[Metric, ...] = LANGUAGE_METRICS
        self._steps_per_epoch: int | None = None
        self._seconds = 0.0
        self._count = 0
        self._last_time: float | None = None

    def apply(self, event: Event) -> None:
        """Fold one event in."""
        match event["event"]:
            case "step":
                self._on_step(event)
            case "eval":
                self._on_eval(event)
                self._last_time = event.get("time")
            case "checkpoint":
                self._last_time = event.get("time")
            case "run_started":
                self._reset()
                self._begin(event)
            case "run_resumed":
                self._begin(event)
                self.resumed_at = [*self.resumed_at, event["step"]][-MOST_RESUMPTIONS:]

    def _begin(self, event: Event) -> None:
        if "metrics" in event:
            self._metrics = declared_metrics(event)
        self._steps_per_epoch = event.get("steps_per_epoch", self._steps_per_epoch)
        self._last_time = event.get("time")

    def _on_step(self, event: Event) -> None:
        time = event.get("time")
        if self._last_time is not None and time is not None:  # as `training.record.history` counts them
            self._seconds += max(0.0, time - self._last_time)
        self._last_time = time
        if self.unit is None:
            self.unit = unit_of(event)
        self._count += event.get(self.unit or "tokens") or 0
        self.updates.add(self._place(event), *self._figures(event))

    def extend(self, updates: Updates) -> None:
        """Fold updates in whose figures are all finite, and the events among them: the same as one by one."""
        others = deque(updates.others)
        while others and (not others[0][0] or not len(updates)):
            self.apply(others.popleft()[1])
        if not len(updates):
            return
        columns, count = updates.columns, len(updates)
        steps = columns["step"]
        seconds = np.add.accumulate(np.concatenate([[self._seconds], self._gaps(columns.get("time"), count, others)]))
        if self.unit is None:
            self.unit = unit_of(columns)
        counted = columns.get(self.unit or "tokens")
        counts = np.zeros(count) if counted is None else counted
        totals = np.add.accumulate(np.concatenate([[self._count], counts]))
        epochs = columns.get("epoch", np.full(count, math.nan))
        places = {
            "step": steps,
            "seconds": seconds[1:],
            "tokens": np.full(count, math.nan) if self.unit is None else totals[1:],
            "epoch": steps / self._steps_per_epoch if self._steps_per_epoch else epochs,
        }
        figures = {name: values for name, values in columns.items() if name not in _NO_FIGURES}
        for metric in self._metrics:
            if metric.derived == "exp_loss" and "loss" in figures:
                derived = [metric.of_loss(loss) for loss in figures["loss"].tolist()]
                if any(value is not None for value in derived):
                    figures[metric.name] = np.array([math.nan if value is None else value for value in derived])
        self.updates.extend(places, figures)
        for before, event in others:
            if event["event"] == "eval":
                self._seconds, self._count = float(seconds[before]), int(totals[before])
                self._on_eval(event)
        self._seconds, self._count = float(seconds[-1]), int(totals[-1])

    def _gaps(self, times: Floats | None, count: int, others: Iterable[tuple[int, Event]]) -> Floats:
        """Return the training seconds of each update, and note the time of the last event.

        They are counted as `training.record.history` does: from the update, validation or checkpoint before.

        Args:
            times: of the updates; None: they have none.
            count: number of updates.
            others: events among them, each with the number of updates before it.
        """
        ends = np.full(count, math.nan) if times is None else times
        before = np.concatenate([[math.nan if self._last_time is None else self._last_time], ends])
        for number, event in others:
            if event["event"] in ("eval", "checkpoint"):
                time = event.get("time")
                before[number] = math.nan if time is None else time
        self._last_time = _known(float(before[-1]))
        gaps: Floats = np.nan_to_num(np.maximum(0.0, ends - before[:-1]), nan=0.0)
        return gaps

    def _place(self, event: Event) -> tuple[float, float, float, float]:
        step, epoch = event["step"], event.get("epoch")
        if self._steps_per_epoch:
            epoch = step / self._steps_per_epoch
        count = self._count if self.unit is not None else math.nan
        return float(step), self._seconds, float(count), math.nan if epoch is None else float(epoch)

    def _figures(self, event: Event) -> tuple[dict[str, float], list[str]]:
        """Return an event's finite figures, and the names of those that were not finite."""
        figures = {name: float(value) for name, value in event.items() if name not in _NO_FIGURES and is_number(value)}
        bad = [name for name in event.get("nonfinite") or () if name not in _NO_FIGURES and name not in figures]
        if "loss" not in figures and "loss" in event and "loss" not in bad:
            bad.append("loss")
        for metric in self._metrics:
            if metric.derived == "exp_loss" and (value := metric.of_loss(figures.get("loss"))) is not None:
                figures[metric.name] = value
        return figures, bad

    def _on_eval(self, event: Event) -> None:
        figures, bad = self._figures(event)
        place = dict(zip(AXES, self._place(event), strict=True))
        self.evaluations.add({**{n: _known(v) for n, v in place.items()}, **figures, **dict.fromkeys(bad)})

    @property
    def bytes_held(self) -> int:
        """Bytes that the curve takes, about."""
        return self.updates.bytes_held + 600 * len(self.evaluations.rows)

    def to_dict(self, points: int, keys: Iterable[str] | None = None, *, with_bands: bool = True) -> dict[str, Any]:
        """Return the curve as plain data, with what is needed to go on with it from later events.

        Args:
            points: buckets and evaluations at most.
            keys: names of figures; None: all.
            with_bands: the lowest and the highest value of each bucket is wanted, not its last one alone.
        """
        thinned = self.updates.thinned(points)
        wanted = (
            list(thinned.columns) if keys is None else [key for key in dict.fromkeys(keys) if key in thinned.columns]
        )
        columns = {key: thinned.columns[key] for key in wanted}
        evaluations = self.evaluations.thinned(points)
        measured = dict.fromkeys(name for row in evaluations for name in row)
        bad = {key: [int(step) for step in column.bad_at if step == step] for key, column in columns.items()}
        return {
            "keys": list(thinned.columns),
            "unit": self.unit,
            "derived": [metric.name for metric in self._metrics if metric.derived == "exp_loss"],
            "steps_per_epoch": self._steps_per_epoch,
            "last_time": self._last_time,
            "step": [int(step) for step in thinned.axes["step"]],
            **{name: _nullable(thinned.axes[name]) for name in AXES[1:]},
            "series": {key: column.to_dict(with_bands) for key, column in columns.items()},
            "nonfinite": {key: steps for key, steps in bad.items() if steps},
            "resumed_at": self.resumed_at,
            "evaluations": {
                name: [row.get(name) if name != "step" else int(row["step"] or 0) for row in evaluations]
                for name in measured or AXES
            },
            "thinned": thinned.stride > 1,
            "updates_per_point": thinned.stride,
            "total_points": self.updates.rows,
        }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _nullable(values: array[float]) -> list[float | None]:
    """Return values with None for nan."""
    if np.isnan(_floats(values)).any():
        return [None if math.isnan(value) else value for value in values]
    return list(values)


# -- read from the disk --------------------------------------------------------------------------------------------


class FollowedCurve:
    """The curve of one log, which goes on from where it was as the log grows.

    Args:
        run_dir: directory of the run.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.lock = threading.Lock()
        """Held while the curve is read or goes on."""
        self.curve = RunCurve()
        self.position: LogPosition | None = None
        """The place in the log up to which it is read; None: the curve is the report's, there is no log."""
        self.bytes_read = 0
        """Bytes of the log so far."""
        self._signature: tuple[int, int, int] | None = None  # of the log, if nothing stands behind what was read
        self._offset = 0
        self._mark = b""  # the bytes before the offset, by which the log is known again
        self._inode = 0

    def look(self) -> None:
        """Read what is new. Call it with the lock.

        Raises:
            FileNotFoundError: there is no record.
            OSError: the disk refuses.
        """
        try:
            with open_regular(self.run_dir / LOG_NAME) as file:
                status = os.fstat(file.fileno())
                if _signature(status) == self._signature:
                    return
                if not self._go_on(file, status):
                    self._read_whole(file, status)
                status = os.fstat(file.fileno())
                # Behind the last line may stand half of one, or what was appended this moment: then look again.
                self._signature = _signature(status) if status.st_size == self._offset else None
        except FileNotFoundError:
            self._read_report()

    def _go_on(self, file: IO[bytes], status: os.stat_result) -> bool:
        """Fold what was appended in; return False where the log has to be read from its beginning."""
        if self.position is None or status.st_ino != self._inode or status.st_size < self._offset:
            return False
        if self._signature is not None and status.st_size == self._offset:
            return False  # written again in the same length
        file.seek(self._offset - len(self._mark))
        if file.read(len(self._mark)) != self._mark:
            return False
        for found in read_updates(self._appended(file)):
            if isinstance(found, Updates):
                self.curve.extend(found)
            elif found["event"] in ("run_started", "run_resumed"):
                return False
            else:
                self.curve.apply(found)
        self.position = LogPosition(self.position.generation, self._offset)
        return True

    def _appended(self, file: IO[bytes]) -> Iterator[tuple[bytes, int | None]]:
        for block in complete_blocks(file):
            self.bytes_read += len(block)
            self._stand_behind(self._offset + len(block), block)
            yield block, None

    def _read_whole(self, file: IO[bytes], status: os.stat_result) -> None:
        self.curve, self._inode = RunCurve(), status.st_ino
        generation = generation_of(file)
        events = CountedEvents(file)
        for found in read_updates(events.blocks()):
            if isinstance(found, Updates):
                self.curve.extend(found)
            else:
                self.curve.apply(found)
        self.bytes_read += 2 * events.length
        self._stand_behind(events.length, events.last_line)
        self.position = LogPosition(generation, events.length)

    def _stand_behind(self, offset: int, line: bytes) -> None:
        self._offset, self._mark = offset, line[-MARK_BYTES:]

    def _read_report(self) -> None:
        """Read the curve of a run whose log was taken away: the report has up to a thousand of its updates."""
        report = read_report(self.run_dir)
        if report is None:
            raise FileNotFoundError(self.run_dir / LOG_NAME)
        self.position, self._signature = None, None
        self.curve = curve_of_report(Report.of_dict(report))


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def curve_of_report(report: Report) -> RunCurve:
    """Return what a report still tells of a curve; seconds and tokens are not known in it."""
    curve = RunCurve()
    curve.apply({"event": "run_started", "time": None, **report.facts})
    curve.unit = None
    for row in report.updates:
        step, epoch = row.step, row.epoch
        place = (float(step), math.nan, math.nan, math.nan if epoch is None else float(epoch))
        curve.updates.add(place, *curve._figures(row))
    for row in report.evaluations:
        figures, bad = curve._figures(row)
        curve.evaluations.add({"step": row.step, "epoch": row.epoch, **figures, **dict.fromkeys(bad)})
    curve.resumed_at = list(report.facts.get("resumed_at_steps") or [])
    return curve


class HistoryCache:
    """Curves of the runs that were asked for last, in bounded memory. For any number of threads.

    Args:
        most_bytes: bytes of all curves, about; the one that is in use may be larger.
    """

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._curves: OrderedDict[Path, FollowedCurve] = OrderedDict()
        self._lock = threading.Lock()

    def history(
        self,
        run_dir: Path,
        points: int = DEFAULT_POINTS,
        keys: Iterable[str] | None = None,
        *,
        with_bands: bool = True,
    ) -> dict[str, Any]:
        """Return the curve of a run as it is now; `RunCurve.to_dict`, with the place in the log to go on from.

        Raises:
            FileNotFoundError: the run has no record (yet).
            OSError: the disk refuses.
        """
        with self._lock:
            followed = self._curves.setdefault(run_dir, FollowedCurve(run_dir))
            self._curves.move_to_end(run_dir)
        with followed.lock:
            try:
                followed.look()
            except BaseException:
                with self._lock:
                    self._curves.pop(run_dir, None)
                raise
            position = followed.position
            found = {
                "generation": None if position is None else position.generation,
                "position": None if position is None else str(position),
                **followed.curve.to_dict(points, keys, with_bands=with_bands),
            }
        self._forget()
        return found

    def empty(self, points: int = DEFAULT_POINTS, keys: Iterable[str] | None = None) -> dict[str, Any]:
        """Return the curve of a run that has recorded nothing yet; its events begin at the beginning."""
        return {"generation": None, "position": str(START), **RunCurve().to_dict(points, keys)}

    def followed(self, run_dir: Path) -> FollowedCurve | None:
        """Return the curve that is kept of a run; None: none is."""
        with self._lock:
            return self._curves.get(run_dir)

    @property
    def bytes_held(self) -> int:
        """Bytes of all curves, about."""
        with self._lock:
            return sum(curve.curve.bytes_held for curve in self._curves.values())

    def _forget(self) -> None:
        """Let the curves go that were not asked for the longest, until the others fit."""
        with self._lock:
            held = {path: curve.curve.bytes_held for path, curve in self._curves.items()}
            total = sum(held.values())
            for path in list(self._curves)[:-1]:
                if total <= self._most_bytes:
                    break
                total -= held[path]
                del self._curves[path]
