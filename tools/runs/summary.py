"""One run under watch: its record is followed, and what it shows at a moment is a `RunSummary`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.errors import UserError
from tools.runs.alerts import Alert, Kind, alerts_of
from tools.runs.settings import read_settings
from tools.runs.state import State, allowed_silence, state_of
from tools.runs.trace import Evaluation, Point, Trace
from training.record.follower import ProgressFollower, Reading


@dataclass(frozen=True)
class RunSummary:
    """A run at a moment. None: not known (yet)."""

    name: str
    path: Path
    run_id: str | None
    state: State
    silent_seconds: float
    """Since the last event."""
    reason: str
    """Why the run ended, or why its record cannot be read; empty while it goes on."""
    backend: str | None
    device: str | None
    step: int
    total_steps: int | None
    epoch: int | None
    loss: float | None
    """Of the last update."""
    best_loss: float | None
    """The lowest of an epoch: validation's where there is one, else the training mean."""
    best_step: int | None
    accuracy: float | None
    """The last validation's, else the last update's."""
    tokens_per_second: float | None
    """Of the last update of a run that is at work."""
    eta_seconds: float | None
    started_at: float | None
    updated_at: float | None
    ended_at: float | None
    age_seconds: float | None
    """Since the start."""
    alerts: tuple[Alert, ...]
    points: tuple[Point, ...] = field(repr=False)
    evaluations: tuple[Evaluation, ...] = field(repr=False)
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
    """

    def __init__(self, path: Path, name: str, stalled_after: float | None = None) -> None:
        self.path, self.name = path, name
        self.follower = ProgressFollower(path)
        self._stalled_after = stalled_after
        self._trace: Trace | None = None
        self._settings: dict[str, Any] = {}
        self._problem = ""
        self._heard_at: float | None = None  # by our own clock

    def look(self, now: float) -> Reading | None:
        """Read what is new, and give it to whoever keeps more of it; None: nothing could be read.

        Raises:
            FileNotFoundError: the record is gone.
        """
        try:
            reading = self.follower.look()
        except FileNotFoundError:
            raise
        except UserError as error:
            self._trace, self._problem = None, str(error)
            return None
        except OSError as error:  # a network disk may come back: what was known stays
            self._problem = f"{self.path}: it cannot be read ({error.strerror or error})"
            return None
        self._problem = ""
        if reading.report is not None:
            if self._trace is not None:
                self._heard_at = now
            self._trace = Trace(reading.report, reading.earlier)
            self._settings = read_settings(self.path)
        if self._trace is not None:
            if reading.events and reading.report is None:
                self._heard_at = now
            for event in reading.events:
                self._trace.apply(event)
            if not self._settings:  # written just after the run's first event
                self._settings = read_settings(self.path)
        return reading

    def summary(self, now: float) -> RunSummary:
        """What the run shows at `now` (Unix seconds)."""
        trace = self._trace if self._trace is not None else Trace({})
        silent = self._silent_seconds(trace, now)
        allowed = self._stalled_after if self._stalled_after is not None else allowed_silence(trace, self._settings)
        state = state_of(trace, silent, allowed)
        alerts = tuple(alerts_of(trace, state, silent, self._settings.get("run.precision")))
        if self._problem:
            alerts = (Alert(Kind.UNREADABLE, self._problem), *alerts)
            state = State.UNREADABLE
        elif damaged := self.follower.num_damaged_lines:
            alerts = (*alerts, Alert(Kind.UNREADABLE, f"{damaged:,} damaged lines in the log were passed over"))
        at_work = state in (State.RUNNING, State.STARTING)
        measured = [e.accuracy for e in trace.evaluations if e.accuracy is not None]
        return RunSummary(
            name=self.name,
            path=self.path,
            run_id=_text(trace.facts["run_id"]),
            state=state,
            silent_seconds=silent,
            reason=self._problem or trace.ending,
            backend=_text(trace.facts["backend"]),
            device=_text(trace.facts["device"]),
            step=trace.step,
            total_steps=trace.total_steps,
            epoch=trace.epoch,
            loss=trace.loss,
            best_loss=trace.best,
            best_step=trace.best_step,
            accuracy=measured[-1] if measured else trace.accuracy,
            tokens_per_second=trace.tokens_per_second if at_work else None,
            eta_seconds=trace.seconds_left if at_work else None,
            started_at=trace.started_at,
            updated_at=trace.updated_at,
            ended_at=trace.ended_at,
            age_seconds=max(0.0, now - trace.started_at) if trace.started_at is not None else None,
            alerts=alerts,
            points=tuple(trace.points),
            evaluations=tuple(trace.evaluations),
            settings=self._settings,
            facts=trace.facts,
        )

    def _silent_seconds(self, trace: Trace, now: float) -> float:
        """By our own clock where an event was seen to arrive: another computer's may be wrong."""
        since = self._heard_at if self._heard_at is not None else trace.updated_at
        return max(0.0, now - since) if since is not None else 0.0


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
