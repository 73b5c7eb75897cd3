"""The report of a run, `experiment_report.json`: the bounded form of its history. No torch.

The report on disk and a fold of the log always agree. Every viewer starts from it and goes on with the events after it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import zip_longest
from typing import Any, Self

from training.record.history import Bounds, EpochSums, History, Row
from training.record.schema import (
    EVENTS,
    RUN_FACTS,
    SCHEMA_VERSION,
    Event,
    declared_metrics,
    integer,
    is_count,
    is_flag,
    is_measured,
    is_texts,
    mapping,
    number,
    text,
)
from training.tasks.metrics import Metric

MAX_POINTS_PER_EPOCH = 100
MAX_POINTS = 1000
MAX_EPOCHS = 500
MAX_REMEMBERED = 50
"""Checkpoints and warnings that are listed; all warnings are counted."""
MAX_RANKS = 64
"""Ranks whose memory is listed."""

STATES = ("running", "finished", "stopped", "failed")
_OUTCOME = ("ended_at", "reason", "error", "traceback")
_STATE = (
    "schema_version", "state", "updated_at", "step", "batch", "training_seconds", "latest", "best", "curve",
    "curve_stride", "epochs", "evaluations", "checkpoints", "estimate", "memory", "warnings", "num_warnings",
    "num_skipped_updates", "loss_not_finite_at", "sample_files",
)  # fmt: skip
"""Keys of a report next to the run's facts, its outcome and the figures of its conclusion."""


class Report(History):
    """State of a run after the events so far, bounded in size whatever the length of the run."""

    bounds = Bounds(MAX_POINTS, MAX_POINTS_PER_EPOCH, MAX_EPOCHS, MAX_REMEMBERED, MAX_RANKS)

    def __init__(self) -> None:
        super().__init__()
        self._seam: float | None = None  # time of the last event of a report that was read

    # -- to a file -------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for `experiment_report.json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            **self.facts,
            "state": self.state,
            "updated_at": self.updated_at,
            "step": self.step,
            "batch": self.batch,
            "training_seconds": round(self.seconds, 3),
            "latest": self.latest,
            "best": self.best,
            "curve": {key: [row.get(key) for row in self.updates] for key in self.curve_keys},
            "curve_stride": self.stride,
            "epochs": self.epoch_rows,
            "evaluations": list(self.evaluations),
            "checkpoints": list(self.checkpoints),
            "estimate": self._estimate_and_fact(),
            "memory": self.memory,
            "warnings": list(self.warnings),
            "num_warnings": self.num_warnings,
            "num_skipped_updates": self.num_skipped,
            **({} if self._curve_tells_not_finite() else {"loss_not_finite_at": self.not_finite_at}),
            **({"sample_files": list(self.sample_files)} if self.sample_files else {}),
            **self.outcome,
            **{key: value for key, value in self.conclusion.items() if key not in _STATE},
        }

    def _curve_tells_not_finite(self) -> bool:
        """Say whether the curve alone shows where the loss was last not finite: every update had one."""
        return _last_without_loss(self.updates) == self.not_finite_at

    @property
    def curve_keys(self) -> tuple[str, ...]:
        """Columns of the curve: the run's own metrics among them, and no other's."""
        return _curve_keys(self.metrics, self.unit or "tokens")

    def _point(self, row: Row) -> Row:
        return Row(zip(keys := self.curve_keys, map(row.get, keys), strict=True))

    def _estimate_and_fact(self) -> dict[str, dict[str, float | None]]:
        """Return what was expected, and what came true; None: not yet known."""
        ended = self.state == "finished" and self.step == self.total_steps
        facts = {
            "peak_memory_bytes": max(self.memory["peak_bytes"]) if self.memory else None,
            "checkpoint_bytes": self.checkpoints[-1].get("bytes") if self.checkpoints else None,
            "training_seconds": round(self.seconds, 3) if ended else None,
        }
        return {key: {"expected": self.estimate[key], "actual": facts[key]} for key in facts if key in self.estimate}

    # -- from a file -----------------------------------------------------------------------------------------------

    @classmethod
    def of_dict(cls, data: Mapping[str, Any], open_epoch: Iterable[Event] = ()) -> Self:
        """Return the state that a report holds, to go on from with the events after it.

        Whatever is not of its type in a report of unknown origin counts as not recorded. An event of the report's last
        millisecond that it holds already changes nothing when it is applied.

        Args:
            data: as `training.record.log.read_report` gives it; {}: nothing has happened.
            open_epoch: the updates of the epoch that goes on, from the log (`training.record.log.scan_marks`): without
                them its mean can be shown, but not continued.
        """
        report = cls()
        report._restore(data, open_epoch)
        return report

    def _restore(self, data: Mapping[str, Any], open_epoch: Iterable[Event]) -> None:
        self.facts = _facts(data)
        self.metrics = declared_metrics(self.facts)
        self.state = str(data.get("state", "unknown"))
        self.step = _count(data.get("step")) or 0
        self.batch = _count(data.get("batch")) or self.step
        self.seconds = number(data.get("training_seconds")) or 0.0
        self.updated_at = self._last_time = self._seam = number(data.get("updated_at"))
        self.outcome = {key: data[key] for key in _OUTCOME if key in data}
        self.latest = _row(data.get("latest")) or Row()
        self.best = _best(data.get("best"))
        self._curve.rows = _points(data.get("curve"))
        self._curve.stride = max(1, _count(data.get("curve_stride")) or 1)
        rows = map(_row, _list(data.get("evaluations")))
        self._evaluations.rows = [row for row in rows if row is not None and row.epoch is not None]
        self.checkpoints = [e for e in _list(data.get("checkpoints")) if _fits("checkpoint", e)]
        self._samples.rows = [e for e in _list(data.get("sample_files")) if _fits("samples", e)]
        self.warnings = [e for e in _list(data.get("warnings")) if _fits("warning", e)]
        self.num_warnings = _count(data.get("num_warnings")) or len(self.warnings)
        self.num_skipped = _count(data.get("num_skipped_updates")) or 0
        recorded = data.get("loss_not_finite_at", _last_without_loss(self._curve.rows))
        self.not_finite_at = _count(recorded)
        expected = {key: number(mapping(entry).get("expected")) for key, entry in mapping(data.get("estimate")).items()}
        self.estimate = {key: value for key, value in expected.items() if value is not None}
        memory = mapping(data.get("memory"))
        self.memory = memory if _fits("memory", memory) and memory["peak_bytes"] else None
        self._read_epochs(data.get("epochs"), open_epoch)

    def _read_epochs(self, rows: object, open_epoch: Iterable[Event]) -> None:
        for row in _list(rows):
            if not isinstance(row, dict) or _count(row.get("epoch")) is None:
                continue
            figures = {key: value if is_measured(value) else None for key, value in row.items() if key != "unfinished"}
            means = {**figures, "step": _count(row.get("step")) or 0, "loss": number(row.get("loss"))}
            if not row.get("unfinished"):
                self._epochs.rows.append(means)
                continue
            self._open_epoch = EpochSums.reported(means, self.metrics)
            for event in open_epoch:
                if event.get("epoch") == means["epoch"] and event["step"] <= means["step"]:
                    self._open_epoch.add(event)

    def apply(self, event: Event) -> None:
        """Fold one event in. See `History.apply`."""
        if self._seam is not None:
            if event.get("time") == self._seam and self._holds(event):
                return
            if (number(event.get("time")) or 0.0) > self._seam:
                self._seam = None
        super().apply(event)

    def _holds(self, event: Event) -> bool:
        """Say whether the report that was read was folded from this event too."""
        own = {key: value for key, value in event.items() if key not in ("event", "time")}
        match event["event"]:
            case "run_started":
                return bool(self.facts.get("started_at") == event["time"])
            case "run_resumed":
                return bool(self.facts.get("resumed_at_steps", [])[-1:] == [event["step"]])
            case "step":
                return bool(event["step"] <= self.step)
            case "eval":
                return any(own.items() <= row.items() for row in self.evaluations if row.step == event["step"])
            case "checkpoint":
                return own in self.checkpoints
            case "samples":
                return own in self.sample_files
            case "warning":
                return {**own, "time": event["time"]} in self.warnings
        return False  # taken twice, the others change nothing


@lru_cache
def _curve_keys(metrics: tuple[Metric, ...], unit: str) -> tuple[str, ...]:
    return (
        "step", "epoch", "loss", *(metric.name for metric in metrics if metric.at == "updates"), "grad_norm",
        "learning_rate", f"{unit}_per_second", "forward_ms", "backward_ms", "skipped",
    )  # fmt: skip


def _facts(data: Mapping[str, Any]) -> dict[str, Any]:
    checks = {**RUN_FACTS, "started_at": is_measured, "resumed_at_steps": _are_counts}
    known = {key: value for key, value in data.items() if key not in _STATE and key not in _OUTCOME}
    return {key: value for key, value in known.items() if key not in checks or checks[key](value)}


def _are_counts(value: object) -> bool:
    return isinstance(value, list) and all(map(is_count, value))


def _last_without_loss(curve: list[Row]) -> int | None:
    return next((row.step for row in reversed(curve) if row.loss is None), None)


def _count(value: object) -> int | None:
    return integer(value) if is_count(value) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _fits(name: str, value: object) -> bool:
    """Say whether a report's entry has what its event must have."""
    return isinstance(value, dict) and all(
        key in value and check(value[key]) for key, check in EVENTS[name].required.items()
    )


def _best(value: object) -> dict[str, Any] | None:
    row = mapping(value)
    if not row:
        return None
    return {**row, "step": _count(row.get("step")), "loss": number(row.get("loss"))}


def _row(value: object) -> Row | None:
    if not isinstance(value, dict) or _count(value.get("step")) is None:
        return None
    row = Row({key: figure for key, figure in value.items() if _is_figure(figure)})
    if "epoch" in row:
        row["epoch"] = _count(row["epoch"])
    return row


def _is_figure(value: object) -> bool:
    return is_measured(value) or is_flag(value) or text(value) is not None or is_texts(value)


def _points(curve: object) -> list[Row]:
    columns = {key: _column(key, column) for key, column in mapping(curve).items() if isinstance(column, list)}
    if "step" not in columns:
        return []
    rows = (Row(zip(columns, values, strict=True)) for values in zip_longest(*columns.values()))
    return [row for row in rows if row["step"] is not None]


def _column(key: str, values: list[Any]) -> Iterable[Any]:
    """Return a column with None for what is no figure; the usual column, of finite floats, is looked at in one sum."""
    if key in ("step", "epoch"):
        return map(_count, values)
    if set(map(type, values)) <= {float, type(None)} and math.isfinite(sum(filter(None, values))):
        return values
    return _figures(values)


def _figures(values: list[Any]) -> Iterator[Any]:
    return (value if is_measured(value) or is_flag(value) else None for value in values)
