"""TensorBoard: event files in `<run_dir>/logs/`.

The files are written with TensorBoard's own record writer and messages, one file for each part of a run.
`torch.utils.tensorboard` would do no more, but imports torch, and its writer has a queue and a thread of its own behind
ours; a point would be on disk two threads later, and a kill would lose both queues.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from training.storage.run_files import RunFile
from training.tracking.tracker import Held, Point, RunStart
from training.tracking.tracker_file import TrackerFile

LOGS_NAME = "logs"
RUN_FILES = (RunFile(f"{LOGS_NAME}/events.out.tfevents.*"),)  # the directory may hold files of the user's


class TensorBoardTracker:
    """Writes one run's event files.

    A resumed run writes a new file that begins with the order to forget what lies behind the step from which it goes
    on; TensorBoard's readers carry it out (they call it a purge).
    """

    name: ClassVar[str] = "tensorboard"
    seconds_between_calls: ClassVar[float] = 2.0

    def __init__(self, run_dir: Path, file: TrackerFile) -> None:
        self.directory = run_dir / LOGS_NAME
        self._file = file
        self._last_step = 0

    def start(self, run: RunStart) -> Held:
        """Open a new event file. See `Tracker.start`."""
        # Only what is safely on disk by our own count is kept; the rest is purged and sent again.
        held = min(run.step, self._file.recall(self.name, run).get("step", 0))
        self._run, self._last_step = run, held
        self._open()
        self._purge_behind(held)
        if held == 0:
            self._write_settings()
        self._events.flush()
        return Held(held)

    def _open(self) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._messages: Any = event_pb2
        self.directory.mkdir(parents=True, exist_ok=True)
        now = time.time()
        # TensorBoard reads the files in the order of their names: microseconds keep the parts of a run in theirs.
        name = f"events.out.tfevents.{now:017.6f}.{socket.gethostname()}"
        self._events: Any = RecordWriter((self.directory / name).open("xb"))
        self._write(wall_time=now, file_version="brain.Event:2")

    def _purge_behind(self, step: int) -> None:
        start = self._messages.SessionLog(status=self._messages.SessionLog.START)
        self._write(wall_time=self._run.time, step=step + 1 if step else 0, session_log=start)

    def _write_settings(self) -> None:
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.plugins.text.summary_v2 import text_pb

        settings = {key: _plain(value) for key, value in self._run.params.items()}
        self._write(wall_time=self._run.time, summary=hparams_pb(settings, trial_id=self._run.run_id))
        for tag, values in (("run", self._run.tags), ("config", settings)):
            self._write(wall_time=self._run.time, summary=text_pb(tag, _table(values)))

    def whereabouts(self) -> str:
        """See `Tracker.whereabouts`."""
        return f"tensorboard --logdir {self.directory}"

    def log(self, points: Sequence[Point]) -> None:
        """Write points and flush them. See `Tracker.log`."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        for point in points:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in point.figures.items()]
            self._write(wall_time=point.time, step=point.step, summary=Summary(value=values))
        self._events.flush()
        self._last_step = points[-1].step
        self._file.keep(self.name, self._run, step=self._last_step)

    def finish(self, state: str, report: Path) -> None:
        """Close the file. The report is already next to `logs/`."""
        self._events.close()

    def _write(self, **event: Any) -> None:
        self._events.write(self._messages.Event(**event).SerializeToString())


def _plain(value: Any) -> bool | float | str:
    """Return a value that TensorBoard's table of settings can hold."""
    return value if isinstance(value, bool | int | float | str) else json.dumps(value, ensure_ascii=False)


def _table(values: Mapping[str, Any]) -> str:
    return "\n".join(["| setting | value |", "|---|---|", *(f"| {key} | {value} |" for key, value in values.items())])
