"""The JSON progress record of a run: an append-only event log and the bounded snapshot folded from it. No torch.

`progress.jsonl` has one event a line: run_started, run_resumed, step, eval, best, checkpoint, estimate, memory,
warning, run_finished, run_stopped, run_failed, final_model, recitation. All times come from one clock (`time`, Unix
seconds); units are in the key names; a number that is not finite is written as null and named in the event's
`nonfinite` list. A resumed run rewinds the record: the fold drops what lies after `run_resumed.step`, so no point is
there twice.

`experiment_report.json` is the snapshot that every viewer reads, replaced atomically. This module is the only one that
knows either schema.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from training.errors import UserError
from training.record.report import Report
from training.storage.atomic import write_atomically

LOG_NAME = "progress.jsonl"
REPORT_NAME = "experiment_report.json"

Event = dict[str, Any]


class Sink(Protocol):
    """Another reader of the events as they come: the progress bar, a tracker. It must not be needed by the run."""

    def event(self, event: Event) -> None:
        """Take one event. May raise: the run goes on and says so once."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...


def jsonable(values: Mapping[str, Any]) -> Event:
    """`values` with numbers that are not finite as None, named in `nonfinite`."""
    bad = [key for key, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
    event = {key: None if key in bad else value for key, value in values.items()}
    if bad:
        event["nonfinite"] = bad
    return event


def read_events(path: Path) -> Iterator[Event]:
    """Events of a log, oldest first. An unfinished last line is left out, as is a line that is not an event."""
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            if (event := parse_event(line)) is not None:
                yield event


def parse_event(line: bytes) -> Event | None:
    """The event of one line of the log, or None where it is none."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def read_report(run_dir: Path) -> dict[str, Any] | None:
    """The snapshot of a run, or None where there is none (yet). A report is never seen half written."""
    try:
        report = json.loads((run_dir / REPORT_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None


class ProgressReporter:
    """Writes a run's record. Only rank 0 has one.

    The step path costs one formatted line in memory; the disk is touched every `report_batches` batches and at the
    events that must not be lost. Nothing grows with the run: the snapshot is folded as events come and is bounded.

    Args:
        run_dir: where both files go; None: events reach the sinks only.
        report_batches: batches between two updates on disk.
        sinks: further readers of the events; one that raises is dropped with one message.
    """

    def __init__(self, run_dir: Path | None, report_batches: int = 10, sinks: Sequence[Sink] = ()) -> None:
        self.run_dir = run_dir
        self.report_batches = report_batches
        self.snapshot = Report()
        self._sinks = list(sinks)
        self._lines: list[str] = []
        self._batches_at_write = 0
        self._clock: Callable[[], float] = time.time

    # -- the run ---------------------------------------------------------------------------------------------------

    def run_started(self, **facts: Any) -> None:
        """A run begins at step 0; an older record in the directory is replaced."""
        if self.run_dir is not None:
            (self.run_dir / LOG_NAME).write_bytes(b"")
        self.emit("run_started", facts, durable=True)

    def run_resumed(self, step: int, **facts: Any) -> None:
        """A run goes on after `step`: the old record is read back and rewound."""
        past: list[Event] = []
        log = self.run_dir / LOG_NAME if self.run_dir is not None else None
        if log is not None and log.exists():
            _cut_unfinished_line(log)
            past = list(read_events(log))
        resumed: Event = {"event": "run_resumed", "time": round(self._clock(), 3), "step": step}
        self.snapshot = Report.of([*past, resumed])
        # Folded above together with the rewinding; from here on events come one by one again.
        self.snapshot.facts["resumed_at_steps"].pop()
        self.emit("run_resumed", {"step": step, **facts}, durable=True)
        self._batches_at_write = self.snapshot.batch

    def step(self, **figures: Any) -> None:
        """One optimizer update. Reaches the disk at most every `report_batches` batches."""
        self.emit("step", figures)
        if self.snapshot.batch - self._batches_at_write >= self.report_batches:
            self._batches_at_write = self.snapshot.batch
            self.flush()

    def evaluation(self, **figures: Any) -> None:
        """A measurement on the validation data."""
        self.emit("eval", figures)

    def checkpoint(self, path: Path, step: int) -> None:
        """A checkpoint is safely on disk."""
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        self.emit("checkpoint", {"path": path.name, "step": step, "bytes": size}, durable=True)

    def final_model(self, path: Path, step: int) -> None:
        """The finished model's directory is on disk.

        Args:
            path: of the directory.
            step: whose weights it holds: the best one's, or the last.
        """
        self.emit("final_model", {"path": path.name, "step": step})

    def estimate(self, step: int, figures: Mapping[str, float]) -> None:
        """What the run expects of itself (`training.forecast.run_forecast`). Figures may come one after the other."""
        if figures:
            self.emit("estimate", {"step": step, **figures})

    def memory(self, step: int, kind: str, peak_bytes: Sequence[int]) -> None:
        """The most that each rank has held so far.

        Args:
            step: updates done.
            kind: `resident` (the process) or `cuda_tensors`.
            peak_bytes: by rank; empty on ranks that tell nobody.
        """
        self.emit("memory", {"step": step, "kind": kind, "peak_bytes": list(peak_bytes)})

    def warning(self, message: str, **facts: Any) -> None:
        """Something that the user should know and that did not stop the run."""
        self.emit("warning", {"message": message, **facts})

    def recitation(self, modules: Mapping[str, Any]) -> None:
        """What the finished model answered to its training questions, per module."""
        self.emit("recitation", {"modules": dict(modules)}, durable=True)

    def introduced(self, lines: Sequence[str]) -> None:
        """Say what is about to be trained."""
        self.emit("introduced", {"lines": list(lines)})

    def said(self, lines: Sequence[str]) -> None:
        """Say something about the run."""
        self.emit("said", {"lines": list(lines)})

    def resumed_from(self, path: Path, step: int, total_steps: int, differences: Sequence[str]) -> None:
        """Say which checkpoint the run goes on from, and why it will not be bit for bit, if so."""
        facts = {"path": str(path), "step": step, "total_steps": total_steps, "differences": list(differences)}
        self.emit("resumed_from", facts)

    def conclusion(self, figures: Mapping[str, Any], lines: Sequence[str]) -> None:
        """Record what the task found out about the finished model, and show it."""
        self.emit("conclusion", {"figures": dict(figures), "lines": list(lines)}, durable=True)

    def run_finished(self, **facts: Any) -> None:
        """The run reached its end."""
        self.emit("run_finished", facts, durable=True)

    def run_stopped(self, **facts: Any) -> None:
        """The run was asked to stop and can be resumed."""
        self.emit("run_stopped", facts, durable=True)

    def run_failed(self, error: BaseException) -> None:
        """The run ended by an error. Never raises: the error that ended the run is the one to be seen."""
        facts = {
            "error": f"{type(error).__name__}: {error}",
            "traceback": "".join(traceback.format_exception(error))[-4000:],
        }
        try:
            self.emit("run_failed", facts, durable=True)
        except UserError as second:
            if not isinstance(error, UserError):
                print(f"the failure could not be recorded: {second}", file=sys.stderr)

    # -- writing ---------------------------------------------------------------------------------------------------

    def emit(self, name: str, facts: Mapping[str, Any], durable: bool = False) -> None:
        """Fold, keep and pass on one event; `durable` puts it on disk before returning."""
        event: Event = {"event": name, "time": round(self._clock(), 3), **jsonable(facts)}
        self.snapshot.apply(event)
        if self.run_dir is not None:
            self._lines.append(json.dumps(event, ensure_ascii=False))
        for sink in list(self._sinks):
            try:
                sink.event(event)
            except Exception as error:  # a viewer's fault must not cost the user the run
                self._sinks.remove(sink)
                print(f"warning: {type(sink).__name__} failed and is switched off ({error})", file=sys.stderr)
        if durable:
            self.flush(durable=True)

    def flush(self, durable: bool = False) -> None:
        """Append the kept events to the log and replace the snapshot; `durable` waits for the disk.

        Raises:
            UserError: the disk is full or refuses. A record with a gap would be no record, so the run stops.
        """
        if self.run_dir is None:
            return
        try:
            self._write(self.run_dir, durable)
        except OSError as error:
            raise UserError(
                f"{self.run_dir}: the progress record could not be written ({error.strerror}); the checkpoints are "
                "intact: make room and go on with --resume"
            ) from error

    def _write(self, run_dir: Path, durable: bool) -> None:
        if self._lines:
            with (run_dir / LOG_NAME).open("ab") as file:
                file.write(("\n".join(self._lines) + "\n").encode())
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            self._lines.clear()
        report = json.dumps(self.snapshot.to_dict(), ensure_ascii=False)
        write_atomically(run_dir / REPORT_NAME, report.encode(), durable)

    def close(self) -> None:
        """Let the sinks finish."""
        for sink in self._sinks:
            try:
                sink.close()
            except Exception as error:  # as in emit
                print(f"warning: {type(sink).__name__} failed at the end ({error})", file=sys.stderr)
        self._sinks.clear()


def _cut_unfinished_line(log: Path) -> None:
    """Take off a last line that a kill cut short, so that the next event begins a line of its own."""
    with log.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        position = size
        while position > 0:
            start = max(0, position - 65536)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position != size:
            file.truncate(position)
