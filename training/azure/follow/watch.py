"""Follow a submitted job to its end: its states, then the progress bar of its record. Ctrl-C leaves it running."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from training.azure.follow.job_outcome import outcome_of
from training.azure.follow.record_mirror import RecordMirror
from training.azure.follow.training_view import TrainingView
from training.azure.service.errors import ServiceError, outage_of, refusal, service_refusals
from training.azure.service.interrupts import Detached, signals_detach
from training.azure.service.job_file import JobHandle, command
from training.azure.service.jobs import JobState, look_at
from training.azure.service.waiting import Heartbeat, Outage
from training.errors import printable
from training.machine.units import as_duration

if TYPE_CHECKING:
    from training.azure.service.workspace import Workspace

FAREWELL_SECONDS = 30.0
"""Seconds to wait for the end of the record once the job has ended."""


@dataclass(frozen=True)
class Pace:
    """Seconds between two looks, at the job and at its record."""

    state: float = 3.0
    record: float = 2.0
    heartbeat: float = 30.0
    tick: float = 0.5
    """Seconds between two updates of the line that is shown while the job waits."""


class _Progress(Protocol):
    """The view of a job that runs: one training, or a sweep's trials."""

    @property
    def has_begun(self) -> bool:
        """True once there is anything to show."""
        ...

    def look(self, state: JobState) -> None:
        """Copy and show what is new. Raises AzureError where the storage refuses."""
        ...

    @property
    def status(self) -> str | None:
        """Text of the line where there is no bar; None: the job's state."""
        ...

    def say(self, message: str) -> None:
        """Print a line without tearing the bar."""
        ...

    def summary(self) -> list[str]:
        """Return the lines to print at the end."""
        ...

    def close(self) -> None:
        """Leave the last state on the screen."""
        ...


def follow(workspace: Workspace, handle: JobHandle, run_dir: Path, pace: Pace | None = None) -> int:
    """Show a job until it has ended, and keep its record in `run_dir`. The caller holds the directory.

    Returns:
        0 (completed), the exit status of the job's own process or 1 (failed), 130 (cancelled); 130 or 143 where the
        user left by Ctrl-C or SIGTERM, which does nothing to the job.

    Raises:
        UserError: there is no such job, or the service refuses to show it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    watch = _Watch(workspace, handle, run_dir, pace or Pace())
    try:
        with signals_detach():
            return watch.run()
    except Detached as left:
        watch.close()
        name = "Ctrl-C" if left.number == signal.SIGINT else left.number.name
        print(f"{name}: job {handle.job} goes on in Azure. To follow it again: {command('stream', run_dir)}")
        print(f"To cancel it: {command('cancel', run_dir)}", flush=True)
        return 128 + left.number
    finally:
        watch.close()


class _Watch:
    def __init__(self, workspace: Workspace, handle: JobHandle, run_dir: Path, pace: Pace) -> None:
        self._workspace, self._handle, self._run_dir, self._pace = workspace, handle, run_dir, pace
        self._heartbeat = Heartbeat(pace.heartbeat)
        self._progress: _Progress | None = None
        self._service = Outage("Azure ML", self._say, pace.state)
        self._storage = Outage("the job's storage", self._say, pace.record)
        self._disk = Outage(str(run_dir), self._say, pace.record, "cannot be written", "can be written again")
        self._status = ""
        self._since = time.time()

    def run(self) -> int:
        """Follow until the job has ended; return its exit code."""
        state = self._first_look()
        while not state.has_ended:
            if not state.is_waiting:
                self._look_at_record(state)
            self._wait(state)
            state = self._next_state(state)
        self._last_of_record(state)
        self.close()
        outcome = outcome_of(self._workspace, state, self._run_dir)
        for line in [*(self._progress.summary() if self._progress else ()), *outcome.lines]:
            print(printable(line), flush=True)
        return outcome.exit_code

    def close(self) -> None:
        self._heartbeat.clear()
        if self._progress is not None:
            self._progress.close()

    def _say(self, message: str) -> None:
        self._heartbeat.clear()
        if self._progress is not None:
            self._progress.say(message)
        else:
            print(printable(message), flush=True)

    # -- the job's state -------------------------------------------------------------------------------------------

    def _first_look(self) -> JobState:
        while (state := self._look()) is None:
            time.sleep(self._pace.tick)
        print(f"Studio: {state.studio_url or 'the service gives no address'}", flush=True)
        if state.created is not None:
            self._since = state.created
        self._status = state.status
        if not state.has_ended:
            self._say(f"job {state.job}: {state.status}")
        return state

    def _next_state(self, before: JobState) -> JobState:
        """Return the state now, or the one before."""
        state = self._look()
        if state is None:
            return before
        if state.status != self._status:
            self._say_change(state)
        return state

    def _look(self) -> JobState | None:
        """Ask for the state; None: it is not yet time to ask, or there is no answer."""
        if not self._service.is_due():
            return None
        with service_refusals(f"looking at job {self._handle.job}"):
            try:
                state = look_at(self._workspace, self._handle.job)
            except Exception as error:
                why = outage_of(error)
                if why is None:
                    raise
                self._service.failed(why)
                return None
        self._service.succeeded()
        return state

    def _say_change(self, state: JobState) -> None:
        now = time.time()
        line = f"job {state.job}: {state.status} (after {as_duration(max(0.0, now - self._since))} {self._status})"
        if self._status == "Running" and state.is_waiting:
            if self._progress is not None:
                self._progress.close()
            line += "; its machine was taken away, it goes on from its last checkpoint by itself"
        self._status, self._since = state.status, now
        if not state.has_ended:  # the outcome has lines of its own
            self._say(line)

    # -- the record ------------------------------------------------------------------------------------------------

    def _look_at_record(self, state: JobState) -> bool:
        """Copy and show what is new; return True if the storage answered and the disk took it."""
        if not (self._storage.is_due() and self._disk.is_due()):
            return self._storage.is_over and self._disk.is_over
        try:
            if self._progress is None:
                self._progress = self._begin_progress(state)
            if not self._progress.has_begun:
                self._heartbeat.clear()  # the first line shown would stand behind this one
            self._progress.look(state)
        except Exception as error:
            # No error about the record ends the loop: the job's own state decides.
            why = outage_of(error) or refusal(error) or (str(error) if isinstance(error, ServiceError) else None)
            if why is not None:
                self._storage.failed(why)
            elif isinstance(error, OSError) and error.strerror is not None and not isinstance(error, BrokenPipeError):
                self._disk.failed(error.strerror)
            else:
                raise
            return False
        self._storage.succeeded()
        self._disk.succeeded()
        return True

    def _begin_progress(self, state: JobState) -> _Progress:
        self._heartbeat.clear()
        if state.is_sweep:
            from training.azure.follow.sweep import SweepProgress

            sweep: _Progress = SweepProgress(self._workspace, self._handle, self._run_dir, self._pace.state)
            return sweep
        return _TrainingProgress(self._workspace, self._handle, self._run_dir)

    def _last_of_record(self, state: JobState) -> None:
        until = time.monotonic() + FAREWELL_SECONDS
        self._storage.hurry()
        self._disk.hurry()
        while not self._look_at_record(state) and time.monotonic() < until:
            time.sleep(self._pace.tick)

    def _wait(self, state: JobState) -> None:
        if state.status != "Running" or self._progress is None or not self._progress.has_begun:
            status = self._progress.status if self._progress is not None and state.status == "Running" else None
            self._heartbeat.beat(status or f"job {state.job}: {state.status}", self._since)
        time.sleep(self._pace.tick)


class _TrainingProgress:
    """The view of one training: its record, and the bar that is drawn from the copy."""

    def __init__(self, workspace: Workspace, handle: JobHandle, run_dir: Path) -> None:
        if handle.path is None:
            raise ValueError(f"{handle.job}: a job without trials has a run directory")
        self._container = partial(workspace.container, handle.datastore)
        self._mirror = RecordMirror(handle.path, run_dir)
        self._view = TrainingView(run_dir)

    @property
    def has_begun(self) -> bool:
        return self._view.has_begun

    def look(self, state: JobState) -> None:
        if self._mirror.look(self._container()):
            self._view.look()

    status = None

    def say(self, message: str) -> None:
        self._view.say(message)

    def summary(self) -> list[str]:
        return []

    def close(self) -> None:
        self._view.close()
