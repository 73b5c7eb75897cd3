"""Writing a run's record: the append-only event log and the bounded report folded from it. No torch.

`progress.jsonl` has one event a line; `training.record.schema` says which, and with which keys. All times come from one
clock (`time`, Unix seconds); units are in the key names; a number that is not finite is written as null and named in
the event's `nonfinite` list. A resumed run rewinds the record: what lies after `run_resumed.step` no longer counts.

`experiment_report.json` is the report that every viewer reads, replaced atomically.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from training.errors import UserError, printable
from training.machine.output import complain
from training.record.log import LOG_NAME as LOG_NAME
from training.record.log import REPORT_NAME as REPORT_NAME
from training.record.log import DamagedLines
from training.record.log import read_events as read_events
from training.record.log import read_report as read_report
from training.record.report import Report
from training.record.schema import Event as Event
from training.record.schema import parse_event as parse_event
from training.storage.atomic import replacing, write_atomically
from training.tasks.metrics import Metric


class Sink(Protocol):
    """Another reader of the events as they come: the terminal, a tracker. The run must not depend on it."""

    def event(self, event: Event) -> None:
        """Take one event. May raise: the run goes on and says so once."""
        ...

    def close(self) -> None:
        """End with the run."""
        ...


def jsonable(values: Mapping[str, Any]) -> Event:
    """Return `values` with numbers that are not finite as None, named in `nonfinite`."""
    bad = [key for key, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
    event = {key: None if key in bad else value for key, value in values.items()}
    if bad:
        event["nonfinite"] = bad
    return event


class ProgressReporter:
    """Writes a run's record. Only rank 0 has one.

    The step path costs one formatted line in memory; the disk is touched every `report_batches` batches and at the
    events that must not be lost. Nothing grows with the run: the report is folded as events come and is bounded.

    Args:
        run_dir: directory of both files; None: events reach the sinks only.
        report_batches: batches between two updates on disk.
        sinks: further readers of the events; one that raises is dropped with one message.
        check_directory: called before each write; raises UserError where the directory is no longer the run's.
    """

    def __init__(
        self,
        run_dir: Path | None,
        report_batches: int = 10,
        sinks: Sequence[Sink] = (),
        check_directory: Callable[[], None] = lambda: None,
    ) -> None:
        self.run_dir = run_dir
        self.report_batches = report_batches
        self.report = Report()
        self._sinks = list(sinks)
        self._check_directory = check_directory
        self._lines: list[str] = []
        self._batches_at_write = 0
        self._clock: Callable[[], float] = time.time

    # -- the run ---------------------------------------------------------------------------------------------------

    def run_started(self, **facts: Any) -> None:
        """Begin a run at step 0; an older record in the directory is replaced.

        Args:
            facts: what the run says of itself, `metrics` among them (`Metric.to_dict` of each).
        """
        if self.run_dir is not None:
            write_atomically(self.run_dir / LOG_NAME, b"", durable=False)
        self.emit("run_started", facts, durable=True)

    def run_resumed(self, step: int, **facts: Any) -> None:
        """Go on with a run after `step`: the old record is read back and rewound.

        What of it cannot be read is skipped, counted and said: the record is a reader's comfort, and never stands
        between a run and its checkpoints.

        Raises:
            UserError: the log is no file that can be read and written.
        """
        earlier: list[Event] = []
        damaged = DamagedLines()
        log = self.run_dir / LOG_NAME if self.run_dir is not None else None
        if log is not None and log.exists():
            if not log.is_file():
                raise UserError(
                    f"{log}: not a regular file, so nothing can be recorded; move it away, and --resume again"
                )
            try:
                _own(log)
                _cut_unfinished_line(log)
                earlier = list(read_events(log, damaged))
            except OSError as error:
                raise UserError(f"{log}: the record cannot be continued ({error.strerror})") from error
        resumed: Event = {"event": "run_resumed", "time": round(self._clock(), 3), "step": step}
        self.report = Report.of([*earlier, resumed])
        # Folded above together with the rewinding; from here on events come one by one again.
        self.report.facts["resumed_at_steps"].pop()
        self.emit("run_resumed", {"step": step, **facts}, durable=True)
        self._batches_at_write = self.report.batch
        if damaged.count:
            self.warning(f"{damaged}; the run goes on from its checkpoint, which they do not concern", step=step)

    def metrics_declared(self, metrics: Sequence[Metric]) -> None:
        """Declare further metrics, which the run did not know when it began; a foreign loop's may come at any time."""
        self.emit("metrics_declared", {"metrics": [metric.to_dict() for metric in metrics]})

    def step(self, **figures: Any) -> None:
        """Report one optimizer update; it is on disk after at most `report_batches` batches.

        Args:
            figures: `step`, `epoch`, `batch`, `loss`, each measured metric under its name, … (`schema.EVENTS`).
        """
        self.emit("step", figures)
        if self.report.batch - self._batches_at_write >= self.report_batches:
            self._batches_at_write = self.report.batch
            self.flush()

    def evaluation(self, **figures: Any) -> None:
        """Report a measurement on the validation data.

        Args:
            figures: `step`, `epoch`, `loss` and each measured metric under its name.
        """
        self.emit("eval", figures)

    def checkpoint(self, path: Path, step: int) -> None:
        """Report a checkpoint that is safely on disk."""
        try:
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        except FileNotFoundError:  # removed this very moment; where its directory is gone too, `flush` says so
            size = 0
        self.emit("checkpoint", {"path": path.name, "step": step, "bytes": size}, durable=True)

    def final_model(self, path: Path, step: int, lines: Sequence[str] = ()) -> None:
        """Report the finished model, whose directory is on disk.

        Args:
            path: its directory.
            step: update whose weights it holds: the best one's, or the last.
            lines: printed as they are.
        """
        facts: dict[str, Any] = {"path": path.name, "step": step}
        self.emit("final_model", facts | ({"lines": list(lines)} if lines else {}))

    def samples(self, step: int, files: Sequence[str]) -> None:
        """Report pictures of samples that are on disk.

        Args:
            step: updates done.
            files: their paths in the run directory, with `/` between the parts.
        """
        self.emit("samples", {"step": step, "files": list(files)})

    def estimate(self, step: int, figures: Mapping[str, float]) -> None:
        """Report what the run expects of itself (`training.forecast.run_forecast`). Figures may come one by one."""
        if figures:
            self.emit("estimate", {"step": step, **figures})

    def memory(self, step: int, kind: str, peak_bytes: Sequence[int]) -> None:
        """Report the most memory that each rank has held so far.

        Args:
            step: updates done.
            kind: `resident` (the process) or `cuda_tensors`.
            peak_bytes: by rank; empty on other ranks than 0.
        """
        self.emit("memory", {"step": step, "kind": kind, "peak_bytes": list(peak_bytes)})

    def warning(self, message: str, **facts: Any) -> None:
        """Report something that the user should know and that did not stop the run."""
        self.emit("warning", {"message": message, **facts})

    # -- what the run says: the terminal prints it ------------------------------------------------------------------

    def introduced(self, lines: Sequence[str]) -> None:
        """Say what is about to be trained, on what and where. The lines are printed as they are."""
        self.emit("introduced", {"lines": list(lines)})

    def resumed_from(self, path: Path, step: int, total_steps: int, differences: Sequence[str] = ()) -> None:
        """Say which checkpoint the run goes on from.

        Args:
            path: the checkpoint.
            step: updates that it holds.
            total_steps: updates that the run has when it is done.
            differences: why the run will not go on bit for bit; empty: it will.
        """
        facts = {"path": str(path), "step": step, "total_steps": total_steps, "differences": list(differences)}
        self.emit("resumed_from", facts)

    def said(self, lines: Sequence[str]) -> None:
        """Say something else. The lines are printed as they are."""
        self.emit("said", {"lines": list(lines)})

    def conclusion(self, figures: Mapping[str, Any], lines: Sequence[str] = ()) -> None:
        """Report what the task found out about the finished model.

        Args:
            figures: plain data by group, such as `{"recitation": {"a": {"right": 3, "asked": 4}}}`; each group becomes
                a key of the report.
            lines: printed as they are.
        """
        self.emit("conclusion", {"figures": dict(figures), "lines": list(lines)}, durable=True)

    def recitation(self, modules: Mapping[str, Any]) -> None:
        """Report what the finished model answered to its training questions, by module."""
        self.emit("recitation", {"modules": dict(modules)}, durable=True)

    # -- the end ---------------------------------------------------------------------------------------------------

    def run_finished(self, **facts: Any) -> None:
        """Report that the run reached its end."""
        self.emit("run_finished", facts, durable=True)

    def run_stopped(self, **facts: Any) -> None:
        """Report that the run was asked to stop and can be resumed."""
        self.emit("run_stopped", facts, durable=True)

    def run_failed(self, error: BaseException) -> None:
        """Report that the run ended by an error. Never raises: that error is the one to be seen."""
        facts = {
            "error": f"{type(error).__name__}: {error}",
            "traceback": "".join(traceback.format_exception(error))[-4000:],
        }
        try:
            self.emit("run_failed", facts, durable=True)
        except UserError as second:
            if not isinstance(error, UserError):
                complain(f"the failure could not be recorded: {second}")

    # -- writing ---------------------------------------------------------------------------------------------------

    def emit(self, name: str, facts: Mapping[str, Any], durable: bool = False) -> None:
        """Fold, keep and pass on one event; `durable` puts it on disk before returning."""
        event: Event = {"event": name, "time": round(self._clock(), 3), **jsonable(facts)}
        self.report.apply(event)
        if self.run_dir is not None:
            self._lines.append(json.dumps(event, ensure_ascii=False))
        for sink in list(self._sinks):
            try:
                sink.event(event)
            except Exception as error:  # a viewer's fault must not cost the user the run
                self._sinks.remove(sink)
                complain(f"warning: {type(sink).__name__} failed and is switched off ({printable(error)})")
        if durable:
            self.flush(durable=True)

    def flush(self, durable: bool = False) -> None:
        """Append the kept events to the log and replace the report; `durable` waits for the disk.

        Raises:
            UserError: the disk is full or refuses, or the directory is no longer the run's: a record with a gap would
                be no record, so the run stops.
        """
        self._write(durable, with_report=True)

    def append(self) -> None:
        """Append the kept events to the log alone; the report follows with the next `flush`.

        For events that come one by one and must survive a kill of the process: readers go on from the report.

        Raises:
            UserError: see `flush`.
        """
        self._write(durable=False, with_report=False)

    def _write(self, durable: bool, with_report: bool) -> None:
        if self.run_dir is None:
            return
        self._check_directory()
        try:
            self._append(self.run_dir, durable)
            if with_report:
                report = json.dumps(self.report.to_dict(), ensure_ascii=False)
                write_atomically(self.run_dir / REPORT_NAME, _bytes_of(report), durable)
        except OSError as error:
            self._check_directory()  # it may have gone this very moment
            raise UserError(
                f"{self.run_dir}: the progress record could not be written ({error.strerror}); the checkpoints are "
                "intact: make room and go on with --resume"
            ) from error

    def _append(self, run_dir: Path, durable: bool) -> None:
        if self._lines:
            with (run_dir / LOG_NAME).open("ab") as file:
                file.write(_bytes_of("\n".join(self._lines) + "\n"))
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            self._lines.clear()

    def close(self) -> None:
        """Let the sinks finish."""
        for sink in self._sinks:
            try:
                sink.close()
            except Exception as error:  # as in emit
                complain(f"warning: {type(sink).__name__} failed at the end ({printable(error)})")
        self._sinks.clear()


def _bytes_of(text: str) -> bytes:
    r"""Encode JSON. Half of a surrogate pair, as in a path that is no text, becomes JSON's own escape `\udcff`."""
    return text.encode("utf-8", "backslashreplace")


def _own(log: Path) -> None:
    """Replace a log that is a link or has other names by a copy, so that no other file changes with it."""
    if log.is_file() and (log.is_symlink() or log.stat().st_nlink > 1):
        with log.open("rb") as before, replacing(log, durable=True) as copy:
            shutil.copyfileobj(before, copy)


def _cut_unfinished_line(log: Path) -> None:
    """Remove a last line that a kill cut short, so that the next event begins a line of its own."""
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
