"""Trackers behind the reporter: each in a daemon thread behind a bounded queue. No torch.

The training thread appends to a list and goes on; it never waits for a tracker, whatever that does. All it prints comes
from the training thread too, so that no line tears another.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from training.errors import UserError
from training.machine.units import as_duration, as_size
from training.record.log import REPORT_NAME, DamagedLines
from training.record.schema import Event, declared_metrics
from training.tracking.figures import missed_points, not_held, point_of
from training.tracking.secrets import without_secrets
from training.tracking.tensorboard_tracker import LOGS_NAME
from training.tracking.tracker import FileKeeper, Held, Point, RunStart, Tracker

MAX_WAITING = 5000
"""Points that wait for a tracker, about 1 KB each. When they are more, every other one is dropped."""
POINTS_PER_CALL = 200
SECONDS_TO_FINISH = 15.0
"""Time for all trackers together after the last event: enough for a short run to make its first MLflow database, and
half of what a preempted job has to end."""
MAX_KEPT_BYTES = 1_000_000_000
"""Largest model, and largest set of event files, that are sent to a tracker."""
KEPT_BYTES_PER_SECOND = 2_000_000
"""The slowest line that is waited for when these files are sent. Only a finished run sends them, when nothing can be
lost any more."""
SECONDS_FOR_BOARD = 5.0
"""Time in which TensorBoard's tracker should have closed its files, before they are sent."""
SECONDS_IN_A_JOB = 120.0
"""The same for a finished run in a job: nobody starts that again, and a sweep decides by what the tracker received."""

_ENDS = {"run_finished": "finished", "run_stopped": "stopped", "run_failed": "failed"}


class Trackers:
    """A sink that passes the events on to trackers. It never raises and never waits, except in `close`, and there a
    limited time.

    Args:
        trackers: each is used from a thread of its own.
        run_dir: with the run's record.
        params: the resolved config, flat.
        seconds_to_finish: for `close`; what has not finished then is left behind, with one line.
        seconds_when_finished: the same for a run that came to its end, where nothing sends later what is missing.
    """

    def __init__(
        self,
        trackers: Iterable[Tracker],
        run_dir: Path,
        params: Mapping[str, Any],
        seconds_to_finish: float = SECONDS_TO_FINISH,
        seconds_when_finished: float | None = None,
    ) -> None:
        self._lanes = [_Lane(tracker, run_dir) for tracker in trackers]
        self._run_dir = run_dir
        boards = [lane for lane in self._lanes if lane.tracker.name == "tensorboard"]
        for lane in self._lanes:
            lane.boards = boards
        self._params = params
        self._seconds_to_finish = seconds_to_finish
        self._seconds_when_finished = seconds_when_finished or seconds_to_finish
        self._step = 0
        self._metrics = declared_metrics({})

    def event(self, event: Event) -> None:
        """Take one event, in microseconds."""
        kind = event["event"]
        if kind in ("run_started", "run_resumed"):
            self._start(event)
            return
        self._step = event.get("step", self._step)
        point = point_of(event, self._step, self._metrics)
        for lane in self._lanes:
            if point is not None:
                lane.put(point)
            lane.state = _ENDS.get(kind, lane.state)
            if kind == "final_model":
                lane.model = self._run_dir / event["path"]
            lane.say_all()

    def _start(self, event: Event) -> None:
        is_resumed = event["event"] == "run_resumed"
        self._step = event["step"] if is_resumed else 0
        self._metrics = declared_metrics(event)
        facts = {key: value for key, value in event.items() if key not in ("event", "time", "step")}
        run = RunStart(event["run_id"], self._step, event["time"], is_resumed, facts, self._params)
        for lane in self._lanes:
            lane.start(run)

    def close(self) -> None:
        """Let the trackers finish, all at the same time, for a limited time."""
        for lane in self._lanes:
            lane.closing.set()
        began = time.monotonic()
        for lane in self._lanes:
            seconds = self._seconds_when_finished if lane.state == "finished" else self._seconds_to_finish
            lane.leave(began + seconds, seconds)


class _Lane:
    """One tracker, its thread and what waits for it."""

    def __init__(self, tracker: Tracker, run_dir: Path) -> None:
        self.tracker = tracker
        self.state = "stopped"  # as long as no event says how the run ended
        self.model: Path | None = None
        """The finished model's directory, once this part of the run has written it."""
        self.boards: Sequence[_Lane] = ()
        self.closing = threading.Event()
        self._run_dir = run_dir
        self._waiting: list[Point] = []
        self._lock = threading.Lock()
        self._is_off = False
        self._is_slow = False
        self._said: list[str] = []
        self._sending = 0  # bytes of files that are on their way
        self._thread: threading.Thread | None = None
        self._done = threading.Event()  # not Thread.join: a Ctrl-C in it lets the thread pass for ended (Python 3.11)
        self._held = Held()

    # -- the training thread's side --------------------------------------------------------------------------------

    def start(self, run: RunStart) -> None:
        self._thread = threading.Thread(target=self._work, args=(run,), name=f"track-{self.tracker.name}", daemon=True)
        self._thread.start()

    def put(self, point: Point) -> None:
        if self._is_off:
            return
        with self._lock:
            self._waiting.append(point)
            if len(self._waiting) <= MAX_WAITING:
                return
            self._waiting = _thinned(self._waiting)
        if not self._is_slow:
            self._is_slow = True
            self._say(
                f"warning: --track {self.tracker.name} does not keep up and gets fewer points; progress.jsonl has all"
            )

    def say_all(self) -> None:
        """Print what the thread has to say."""
        while self._said:
            # Above the progress bar, where there is one.
            tqdm.write(self._said.pop(0), file=sys.stderr)

    def leave(self, until: float, seconds: float) -> None:
        if self._thread is not None:
            self._done.wait(max(0.0, until - time.monotonic()))
            if not self._done.is_set() and self._sending:
                seconds += self._wait_for_files()
            if not self._done.is_set():
                self._say(
                    f"warning: --track {self.tracker.name} has not finished after {seconds:.3g} s and is left behind; "
                    "progress.jsonl has everything, and --resume sends what is missing"
                )
                self._is_off = True
        self.say_all()

    def _wait_for_files(self) -> float:
        """Wait as long as a slow line needs; return the seconds that this may take."""
        seconds = self._sending / KEPT_BYTES_PER_SECOND
        self._say(
            f"track   {self.tracker.name}: {as_size(self._sending)} of files are on their way; waiting "
            f"{as_duration(seconds)} at most, Ctrl-C leaves them behind"
        )
        with contextlib.suppress(KeyboardInterrupt):  # the run itself is finished
            self.say_all()
            self._done.wait(seconds)
        return seconds

    def _say(self, line: str) -> None:
        self._said.append(line)

    # -- the tracker's thread --------------------------------------------------------------------------------------

    def _work(self, run: RunStart) -> None:
        try:
            self._held = self.tracker.start(run)
            self._say(f"track   {self.tracker.name}: {self.tracker.whereabouts()}")
            if run.is_resumed:
                damaged = DamagedLines()
                self._log(missed_points(self._run_dir, run, self._held, damaged))
                if damaged.count:
                    self._say(f"warning: --track {self.tracker.name} gets no points of them: {damaged}")
            is_over = False
            while not is_over and not self._is_off:
                is_over = self.closing.wait(self.tracker.seconds_between_calls)
                self._log(new for point in self._take(is_over) if (new := not_held(point, self._held)))
            if not self._is_off:
                self.tracker.finish(self.state, self._run_dir / REPORT_NAME)
            if self.state == "finished" and isinstance(self.tracker, FileKeeper):
                self._keep_files(self.tracker)
        except BaseException as error:  # whatever a library raises, SystemExit too: the run goes on
            if not self._is_off:
                self._say(
                    f"warning: --track {self.tracker.name} failed and is switched off ({_in_one_line(error)}); the "
                    "training goes on, progress.jsonl has everything"
                )
        finally:
            self._is_off = True
            with self._lock:
                self._waiting.clear()
            self._done.set()

    def _keep_files(self, keeper: FileKeeper) -> None:
        """Send the finished run's files, one after the other. A fault costs the files, not the tracker's run."""
        for board in self.boards:
            if board._thread is not None:
                board._done.wait(SECONDS_FOR_BOARD)
        files = self._files_to_keep()
        self._sending = sum(file.stat().st_size for file in files)
        for file in files:
            if self._is_off:
                return
            try:
                keeper.keep_file(file, file.relative_to(self._run_dir).as_posix())
            except BaseException as error:  # as in _work
                if not self._is_off:
                    self._say(
                        f"warning: --track {self.tracker.name} did not take {file} ({_in_one_line(error)}); it lies "
                        "there, and --resume sends it again"
                    )
                return

    def _files_to_keep(self) -> list[Path]:
        """Return the event files, where TensorBoard follows the run too, and the model; neither if it is too large."""
        logs = self._run_dir / LOGS_NAME
        groups = {logs: sorted(logs.glob("events.out.tfevents.*"))} if self.boards else {}
        if self.model is not None:
            groups[self.model] = sorted(file for file in self.model.rglob("*") if file.is_file())
        kept: list[Path] = []
        for directory, files in groups.items():
            size = sum(file.stat().st_size for file in files)
            if size <= MAX_KEPT_BYTES:
                kept += files
                continue
            self._say(
                f"warning: --track {self.tracker.name} is not sent {directory} ({as_size(size)}, more than "
                f"{as_size(MAX_KEPT_BYTES)}); docs/TRACKING.md says how to send it"
            )
        return kept

    def _log(self, points: Iterable[Point]) -> None:
        chunk: list[Point] = []
        for point in points:
            if self._is_off:  # left behind; the run may go on elsewhere already, and send the same points
                return
            if len(chunk) >= POINTS_PER_CALL and point.step != chunk[-1].step:
                self.tracker.log(chunk)
                chunk = []
            chunk.append(point)
        if chunk and not self._is_off:
            self.tracker.log(chunk)

    def _take(self, everything: bool) -> list[Point]:
        """Take what waits.

        The newest step stays as long as more figures of it may come (its validation): so a tracker has all or nothing
        of a step, whenever the run is killed, and the last step that it holds says what it lacks.
        """
        with self._lock:
            newest = self._waiting[-1].step if self._waiting and not everything else math.inf
            taken = [point for point in self._waiting if point.step < newest]
            del self._waiting[: len(taken)]
        return taken


def _in_one_line(error: BaseException) -> str:
    """Return what a library says of a fault, without secrets."""
    lines = str(error).strip().splitlines() or [""]
    name = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return without_secrets(f"{name}{lines[0]}".removesuffix(": "))


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Return every other update's point, and every point of another kind; or half of all where these are too many."""
    updates = [point for point in points if "train/loss" in point.figures]
    dropped = {id(point) for point in updates[::2]}
    kept = [point for point in points if id(point) not in dropped]
    return kept if len(kept) <= MAX_WAITING * 3 // 4 else list(points[::2])
