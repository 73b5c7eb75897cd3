"""One run under watch: its record is followed, and what it shows at a moment is a `RunSummary`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.figures.wording import figure
from training.checkpoints.run_search import read_settings
from training.errors import UserError
from training.experiments.store.rows import live_state
from training.record.alerts import Alert, Kind, alerts_of
from training.record.follower import ProgressFollower, Reading
from training.record.history import Row
from training.record.log import Marks, scan_marks
from training.record.run_state import State, allowed_silence
from training.record.schema import number, text
from training.record.trace import Trace
from training.tasks.metrics import Metric

MAX_FAULTS = 3
"""Faults of a record that an alert lists."""


@dataclass(frozen=True)
class RunSummary:
    """A run at a moment. None: not known (yet)."""

    name: str
    path: Path
    run_id: str | None
    state: State
    silent_seconds: float
    """Seconds since the last event."""
    reason: str
    """Why the run ended, or why its record cannot be read; empty while it goes on."""
    backend: str | None
    device: str | None
    step: int
    total_steps: int | None
    epoch: int | None
    loss: float | None
    """Loss of the last update."""
    best_loss: float | None
    """The lowest loss of an epoch: validation's where there is one, else the training mean."""
    best_step: int | None
    metrics: tuple[Metric, ...]
    """Metrics of the task that are measured, in its order."""
    figures: Mapping[str, float | None]
    """Value of each of `metrics` by its name: the last validation's, else the last update's."""
    unit: str | None
    """Unit that the run counts: `tokens` or `samples`; None: no update says so."""
    speed: float | None
    """Units per second of the last update of a run that is at work."""
    eta_seconds: float | None
    started_at: float | None
    updated_at: float | None
    ended_at: float | None
    age_seconds: float | None
    """Seconds since the start."""
    alerts: tuple[Alert, ...]
    points: tuple[Row, ...] = field(repr=False)
    """Updates of the curve of the loss; empty: there is none, or no update reports a loss."""
    evaluations: tuple[Row, ...] = field(repr=False)
    settings: dict[str, Any] = field(repr=False)
    facts: dict[str, Any] = field(repr=False)

    @property
    def progress(self) -> float | None:
        """Share of the updates that are done."""
        return min(1.0, self.step / self.total_steps) if self.total_steps else None


class WatchedRun:
    """Follows the record of one run directory.

    Args:
        path: the run directory.
        name: what the user calls it.
        stalled_after: seconds of silence; None: by the run's own pace.
        with_marks: each clipped, skipped and spiking update is wanted, and the open epoch's exact mean: the log is read
            once, not only its end.
    """

    def __init__(self, path: Path, name: str, stalled_after: float | None = None, *, with_marks: bool = False) -> None:
        self.path, self.name = path, name
        self.follower = ProgressFollower(path)
        self.trace = Trace()
        """The run as far as it is known."""
        self._stalled_after = stalled_after
        self._with_marks = with_marks
        self.is_known = False
        """Something of the record could be read."""
        self._settings: dict[str, Any] = {}
        self._problem = ""
        self._heard_at: float | None = None  # by our own clock

    def look(self, now: float) -> None:
        """Read what is new.

        Raises:
            FileNotFoundError: the record is gone.
        """
        try:
            reading = self.follower.look()
            if reading.report is not None:
                trace = Trace(reading.report, reading.earlier, self._marks(reading.report))
        except FileNotFoundError:
            raise
        except UserError as error:
            self.trace, self.is_known, self._problem = Trace(), False, str(error)
            return
        except OSError as error:  # a network disk may come back: what was known stays
            self._problem = f"{self.path}: it cannot be read ({error.strerror or error})"
            return
        self._problem = ""
        if reading.report is not None:
            self._begin(trace, now)
        self._go_on(reading, now)

    def _marks(self, report: Mapping[str, Any]) -> Marks | None:
        if not self._with_marks:
            return None
        latest = report.get("latest")
        try:
            return scan_marks(self.path, latest.get("epoch") if isinstance(latest, dict) else None)
        except OSError:
            self.follower = ProgressFollower(self.path)  # the next look starts again from the report
            raise

    def _begin(self, trace: Trace, now: float) -> None:
        if self.is_known:
            self._heard_at = now
        self.trace, self.is_known = trace, True
        self._settings = read_settings(self.path)

    def _go_on(self, reading: Reading, now: float) -> None:
        if not self.is_known:
            return
        if reading.events and reading.report is None:
            self._heard_at = now
        for event in reading.events:
            self.trace.apply(event)
        if not self._settings:  # written just after the run's first event
            self._settings = read_settings(self.path)

    def summary(self, now: float) -> RunSummary:
        """Return what the run shows at `now` (Unix seconds)."""
        trace = self.trace
        silent = self._silent_seconds(trace, now)
        allowed = self._stalled_after if self._stalled_after is not None else allowed_silence(trace, self._settings)
        is_over = trace.state in (State.FINISHED, State.STOPPED, State.FAILED)
        state = State(trace.state) if is_over else live_state(self.path, trace.step, silent, allowed)
        alerts = tuple(alerts_of(trace, state, silent, self._settings.get("run.precision")))
        if self._problem:
            alerts = (Alert(Kind.UNREADABLE, self._problem), *alerts)
            state = State.UNREADABLE
        else:
            faults = [
                *self.follower.report_faults,
                *([str(self.follower.damaged)] if self.follower.damaged.count else []),
            ]
            if faults:
                alerts = (*alerts, Alert(Kind.UNREADABLE, "; ".join(faults[:MAX_FAULTS])))
        at_work = state in (State.RUNNING, State.STARTING)
        started_at = number(trace.facts.get("started_at"))
        # A record that cannot be read declares nothing.
        measured = tuple(m for m in trace.metrics if m.derived == "measured") if self.is_known else ()
        best = trace.best or {}
        return RunSummary(
            name=self.name,
            path=self.path,
            run_id=text(trace.facts.get("run_id")),
            state=state,
            silent_seconds=silent,
            reason=self._problem or trace.ending,
            backend=text(trace.facts.get("backend")),
            device=text(trace.facts.get("device")),
            step=trace.step,
            total_steps=trace.total_steps,
            epoch=trace.latest.epoch,
            loss=trace.latest.loss,
            best_loss=best.get("loss"),
            best_step=best.get("step"),
            metrics=measured,
            figures={metric.name: _last(trace, metric.name) for metric in measured},
            unit=trace.unit,
            speed=trace.speed if at_work else None,
            eta_seconds=trace.seconds_left if at_work else None,
            started_at=started_at,
            updated_at=trace.updated_at,
            ended_at=trace.ended_at,
            age_seconds=max(0.0, now - started_at) if started_at is not None else None,
            alerts=alerts,
            points=tuple(trace.updates) if trace.has_losses else (),
            evaluations=tuple(trace.evaluations),
            settings=self._settings,
            facts=trace.facts,
        )

    def _silent_seconds(self, trace: Trace, now: float) -> float:
        """Measure by our own clock where an event was seen to arrive: another computer's may be wrong."""
        since = self._heard_at if self._heard_at is not None else trace.updated_at
        return max(0.0, now - since) if since is not None else 0.0


def metric_text(metric: Metric, value: float) -> str:
    """Format a metric's value in at most seven columns: `83.1%`, `0.1234`."""
    return metric.text(value) if metric.form == "percent" else figure(value)


def _last(trace: Trace, name: str) -> float | None:
    """Return a figure of the last validation that has it, else of the last update."""
    rows = (*reversed(trace.evaluations), trace.latest)
    return next((value for row in rows if (value := number(row.get(name))) is not None), None)
