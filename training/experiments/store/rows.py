"""What the index keeps of a run: a function of the files in its directory, and of nothing else. No torch.

So an index that was kept up to date and one that is made again hold the same rows. What changes without a file changing
(a process that dies, a silence that lasts) is not kept: `RunRow` gets it when it is shown.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from training.checkpoints.manifest import checkpoint_directories
from training.checkpoints.run_directory import CONFIG_NAME
from training.checkpoints.run_lock import is_locked, owner_of
from training.checkpoints.run_search import read_settings
from training.errors import UserError, printable
from training.experiments.store.annotations import ANNOTATIONS_NAME, Annotations, read_annotations
from training.experiments.store.identity import directory_of, id_of_relative, name_of
from training.language.messages import Message
from training.record.alerts import Alert, Kind, alerts_of, alerts_of_silence
from training.record.follower import ProgressFollower
from training.record.history import Row
from training.record.log import LOG_NAME, REPORT_NAME
from training.record.run_state import State, allowed_silence, state_of
from training.record.schema import is_number, number, text
from training.record.trace import Trace

SPARKLINE_POINTS = 40
MOST_FIGURES = 500
"""Figures of a run that are kept; a conclusion of a thousand modules is in its report."""
DEEPEST_FIGURE = 4
MOST_SETTINGS = 2000
LONGEST_TEXT = 2000
"""Characters of a setting's text that can be compared; the whole one is kept as JSON."""
MAX_FAULTS = 3
RACY_SECONDS = 2.0
"""A file that changed this shortly before it was read may change again without its time changing."""
_NO_FIGURES = frozenset({"schema_version", "curve_stride", "latest", "best", "started_at", "updated_at", "ended_at"})
"""Parts of a report that are no figures, or whose figures are taken by name."""


@dataclass(frozen=True)
class RunRow:
    """A run as a list shows it. None: not known (yet); a figure that was measured and is not finite is NaN."""

    id: str
    name: str
    """Path below the root, printable."""
    run_id: str | None
    """Name that the run gave itself in its record."""
    state: str
    """A state of `training.record.run_state.State`; of a run that belongs to a job, the job's may say more."""
    reason: str
    """Why the run ended, or why its record cannot be read; empty while it goes on."""
    backend: str | None
    task: str | None
    model: str | None
    device: str | None
    step: int
    total_steps: int | None
    progress: float | None
    """Share of the updates that are done."""
    epoch: int | None
    loss: float | None
    """Loss of the last update."""
    val_loss: float | None
    """Loss of the last validation."""
    best_loss: float | None
    """The lowest loss of an epoch: validation's where there is one, else the training mean."""
    best_step: int | None
    metrics: Mapping[str, float | None]
    """Metrics of the task that are measured: of the last validation, else of the last update."""
    unit: str | None
    """`tokens` or `samples`."""
    speed: float | None
    """Units per second of the last update; None for a run that is not at work."""
    eta_seconds: float | None
    """Time until the last update; None for a run that is not at work."""
    started_at: float | None
    """Unix seconds, as the others."""
    updated_at: float | None
    ended_at: float | None
    training_seconds: float
    """Time spent training, without interruptions."""
    tags: Sequence[str]
    note: str
    archived: bool
    alerts: Sequence[Mapping[str, str]]
    """`kind`, `message` and `message_zh` of each cause for worry."""
    sparkline: Sequence[float | None]
    """The curve of the loss in up to 40 means; None: a part of it that is not finite."""
    num_checkpoints: int
    metric_forms: Mapping[str, str] = field(default_factory=dict)
    """`percent` or `number` by metric: how its value is shown."""
    job: Mapping[str, Any] | None = None
    """What a server knows of the run's job."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: a figure that is not finite is None and stands in `nonfinite`."""
        document = dict(vars(self))
        bad = [name for name, value in document.items() if isinstance(value, float) and not math.isfinite(value)]
        bad += [name for name, value in self.metrics.items() if value is not None and not math.isfinite(value)]
        document |= {name: None for name in bad if name in document}
        document["metrics"] = {name: None if name in bad else value for name, value in self.metrics.items()}
        return {**document, "nonfinite": bad}


@dataclass(frozen=True)
class Pace:
    """What a run's present state is computed from, next to its record's."""

    seconds_per_step: float | None
    units_per_second: float | None
    """Speed of the last update."""
    allowed_silence: float
    """Seconds without an event that are no cause for worry."""


@dataclass(frozen=True)
class IndexedRun:
    """All that the index keeps of a run."""

    path: str
    """Path relative to the root."""
    row: RunRow
    """The row as its files tell it, with the state that stands in the record."""
    pace: Pace
    settings: Mapping[str, Any]
    """Flat, by dotted name."""
    figures: Mapping[str, float]
    """By name; NaN: measured, and not finite."""
    bytes_read: int


@dataclass(frozen=True)
class Signature:
    """What changes when a file changes that a row is made of."""

    text: str
    newest: float
    """Unix seconds of the last change."""

    def is_settled(self, now: float) -> bool:
        """Say whether each later change changes the signature: one in the same tick of the disk's clock does not."""
        return self.newest < now - RACY_SECONDS


def signature_of(run_dir: Path) -> Signature:
    """Return the signature of a run's files.

    Raises:
        FileNotFoundError: there is no such directory, or no record in it.
        OSError: the disk refuses.
    """
    found: list[str] = []
    newest = 0
    has_record = False
    for name in ("", LOG_NAME, REPORT_NAME, CONFIG_NAME, ANNOTATIONS_NAME):
        try:
            status = os.stat(f"{run_dir}/{name}")  # noqa: PTH116  # a path object costs more than the question
        except FileNotFoundError:
            if not name:
                raise
            found.append("-")
            continue
        has_record = has_record or name in (LOG_NAME, REPORT_NAME)
        newest = max(newest, status.st_mtime_ns, status.st_ctime_ns)
        found.append(f"{status.st_ino},{status.st_size},{status.st_mtime_ns},{status.st_ctime_ns}")
    if not has_record:
        raise FileNotFoundError(str(run_dir))
    return Signature(" ".join(found), newest / 1e9)


def read_run(root: Path, path: str, settings_of: Callable[[Path], Mapping[str, Any]] = read_settings) -> IndexedRun:
    """Read a run from its directory: its bounded report, the end of its log, its config and its annotations.

    A record that cannot be used, or annotations that are damaged, are named in the row; the rest is there.

    Args:
        root: directory that holds all runs.
        path: the run directory relative to it (`identity.relative_path`).
        settings_of: reads the settings of a run directory.

    Raises:
        FileNotFoundError: there is no record (any more).
        OSError: the disk refuses; a later attempt may succeed.
    """
    run_dir = directory_of(root, path)
    follower = ProgressFollower(run_dir)
    trace, problem = Trace(), ""
    try:
        reading = follower.look()
    except UserError as error:
        problem = _without_directory(str(error), run_dir)
    else:
        trace = Trace(reading.report, reading.earlier)
        for event in reading.events:
            trace.apply(event)
    settings = settings_of(run_dir)
    faults = [*follower.report_faults, *([str(follower.damaged)] if follower.damaged.count else [])]
    try:
        annotations = read_annotations(run_dir)
    except UserError as error:
        annotations = Annotations()
        faults.append(_without_directory(str(error), run_dir))
    alerts = _alerts(trace, settings, problem, faults)
    row = _row(root, path, trace, settings, annotations)
    row = replace(row, alerts=alerts, num_checkpoints=len(checkpoint_directories(run_dir)))
    if problem:
        row = replace(row, state=State.UNREADABLE.value, reason=problem)
    pace = Pace(trace.seconds_per_step, trace.speed, allowed_silence(trace, settings))
    figures = dict(_figures(trace, row))
    return IndexedRun(path, row, pace, dict(list(settings.items())[:MOST_SETTINGS]), figures, follower.bytes_read)


def _row(root: Path, path: str, trace: Trace, settings: Mapping[str, Any], annotations: Annotations) -> RunRow:
    total = trace.total_steps
    measured = [metric for metric in trace.metrics if metric.derived == "measured"]
    best, last = trace.best or {}, trace.evaluations[-1] if trace.evaluations else Row()
    return RunRow(
        id=id_of_relative(path),
        name=name_of(root, path),
        run_id=_shown(trace.facts.get("run_id")),
        state=trace.state,
        reason=printable(trace.ending),
        backend=_shown(trace.facts.get("backend")) or _shown(settings.get("backend")),
        task=_shown(trace.facts.get("task")) or _shown(settings.get("task")),
        model=_shown(settings.get("model.model")),
        device=_shown(trace.facts.get("device")),
        step=trace.step,
        total_steps=total,
        progress=min(1.0, trace.step / total) if total else None,
        epoch=trace.latest.epoch,
        loss=_figure(trace.latest, "loss"),
        val_loss=_figure(last, "loss"),
        best_loss=_figure(best, "loss"),
        best_step=best.get("step"),
        metrics={metric.name: _last(trace, metric.name) for metric in measured},
        unit=trace.unit,
        speed=None,
        eta_seconds=None,
        started_at=number(trace.facts.get("started_at")),
        updated_at=trace.updated_at,
        ended_at=trace.ended_at,
        training_seconds=round(trace.seconds, 3),
        tags=list(annotations.tags),
        note=annotations.note,
        archived=annotations.archived,
        alerts=(),
        sparkline=_means([row.loss for row in trace.updates] if trace.has_losses else []),
        num_checkpoints=0,
        metric_forms={metric.name: metric.form for metric in measured},
    )


def _shown(value: object) -> str | None:
    found = text(value)
    return printable(found) if found else None


def _figure(row: Mapping[str, Any], name: str) -> float | None:
    """Return a figure of an update or a validation; NaN: it was measured and is not finite."""
    value = row.get(name)
    if is_number(value):
        return float(value)
    is_bad = name in row and value is None and name in (row.get("nonfinite") or ())
    return math.nan if is_bad else None


def _last(trace: Trace, name: str) -> float | None:
    """Return a figure of the last validation that has it, else of the last update."""
    rows = (*reversed(trace.evaluations), trace.latest)
    return next((value for row in rows if (value := _figure(row, name)) is not None), None)


def _means(values: Sequence[float | None]) -> list[float | None]:
    cells = min(SPARKLINE_POINTS, len(values))
    shares = (values[len(values) * n // cells : len(values) * (n + 1) // cells] for n in range(cells))
    return [_mean(share) for share in shares]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    mean = math.fsum(known) / len(known) if len(known) == len(values) else None  # one hole must be seen
    return float(f"{mean:.5g}") if mean is not None else None


def _figures(trace: Trace, row: RunRow) -> Iterator[tuple[str, float]]:
    """Yield every number that the record ends with, by name; of the last validation with `val_` in front."""
    found: dict[str, float] = {}
    report = trace.to_dict()
    facts = {key: value for key, value in report.items() if key not in _NO_FIGURES}
    for name, value in _numbers(facts, "", 0):
        found[name] = value
    last = trace.evaluations[-1] if trace.evaluations else Row()
    for prefix, figures in (("", trace.latest), ("val_", last)):
        for name in figures:
            if (figure := _figure(figures, name)) is not None:
                found[f"{prefix}{name}"] = figure
    for key in ("step", "total_steps", "epoch", "loss", "val_loss", "best_loss", "best_step", "training_seconds"):
        if (value := getattr(row, key)) is not None:
            found[key] = float(value)
    found["num_checkpoints"] = float(row.num_checkpoints)
    if trace.peak_memory_bytes is not None:
        found["peak_memory_bytes"] = float(trace.peak_memory_bytes)
    for name in list(found)[:MOST_FIGURES]:
        yield printable(name), found[name]


def _numbers(value: object, name: str, depth: int) -> Iterator[tuple[str, float]]:
    """Yield the numbers of nested mappings, by dotted name."""
    if isinstance(value, dict) and depth < DEEPEST_FIGURE:
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}.{key}" if name else str(key), depth + 1)
    elif isinstance(value, bool) or is_number(value):
        yield name, float(value)


def _alerts(trace: Trace, settings: Mapping[str, Any], problem: str, faults: Sequence[str]) -> list[Mapping[str, str]]:
    """Return the alerts that follow from the record alone."""
    if problem:
        return [_alert(Alert(Kind.UNREADABLE, problem))]
    recorded = state_of(trace.state, trace.step, 0.0, 1.0)
    alerts = list(alerts_of(trace, recorded, 0.0, settings.get("run.precision")))
    if faults:
        alerts.append(Alert(Kind.UNREADABLE, "; ".join(faults[:MAX_FAULTS])))
    return [_alert(alert) for alert in alerts]


def _alert(alert: Alert) -> Mapping[str, str]:
    message = alert.message
    chinese = message.chinese if isinstance(message, Message) else message
    return {"kind": alert.kind.value, "message": printable(message), "message_zh": printable(chinese)}


def _without_directory(line: str, run_dir: Path) -> str:
    """Return an error line without the path of the directory, which a reader elsewhere knows by its name only."""
    return line.replace(f"{printable(run_dir)}{os.sep}", "")


# -- what the files do not say --------------------------------------------------------------------------------------


def live_state(run_dir: Path, step: int, silent_seconds: float, allowed_seconds: float) -> State:
    """Return the state of a run whose record says that it is running.

    It is lost if its lock file names a process of this computer that is gone. Of a process elsewhere nothing is known
    but its silence.
    """
    owner = owner_of(run_dir)
    if owner is not None and owner.alive is False and not is_locked(run_dir):
        return State.LOST
    return state_of("running", step, silent_seconds, allowed_seconds)


def row_now(kept: Mapping[str, Any], pace: Pace, state: State, now: float) -> RunRow:
    """Return the row of a run with its present state, and with what is only known of a run at work.

    Args:
        kept: fields of the row as its files tell them.
        pace: what the rest is computed from.
        state: its present state.
        now: Unix seconds.
    """
    at_work = state in (State.RUNNING, State.STARTING)
    step, total, updated_at = kept["step"], kept["total_steps"], kept["updated_at"]
    has_eta = at_work and total is not None and pace.seconds_per_step is not None
    silent = max(0.0, now - updated_at) if updated_at is not None else 0.0
    alerts = kept["alerts"]
    if more := [_alert(alert) for alert in alerts_of_silence(state, step, silent)]:
        weights = [kind.value for kind in Kind]
        alerts = sorted([*alerts, *more], key=lambda alert: weights.index(alert["kind"]))
    present = {
        "state": state.value,
        "speed": pace.units_per_second if at_work else None,
        "eta_seconds": max(0, total - step) * (pace.seconds_per_step or 0.0) if has_eta else None,
        "alerts": alerts,
    }
    return RunRow(**{**kept, **present})


def as_it_is_now(row: RunRow, pace: Pace, state: State, now: float) -> RunRow:
    """Return the row of a run that was just read (`read_run`) as `row_now` does."""
    return row_now(vars(row), pace, state, now)
