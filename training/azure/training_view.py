"""The progress bar of a run whose record arrives here from elsewhere, piece by piece.

The log's events are told as they come. A mounted datastore may keep the log back until it is closed while the report is
replaced as a whole: what the report is ahead of the log is then told from the report. Nothing is told twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from training.record.follower import ProgressFollower, UnreadableRecordError
from training.record.report import MAX_REMEMBERED
from training.record.reporter import Event, read_report
from training.record.terminal import Terminal

LISTED = {"eval": "evaluations", "checkpoint": "checkpoints"}
"""Events that the report keeps, and where."""


class TrainingView:
    """Reads the record in a run directory and shows what is new. What was there at the first look is not told again."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.step = 0
        """The last one shown."""
        self._follower = ProgressFollower(run_dir)
        self._bar = Terminal()
        self._lengths: Event = {}
        self._run: tuple[Any, Any] | None = None  # by what a run that began or went on is told from the one before
        self._told: dict[str, int] = {}  # kind of event -> the last step of it that was told
        self._warnings: deque[tuple[float, str]] = deque(maxlen=2 * MAX_REMEMBERED)  # those told last
        self._complaint = ""

    @property
    def has_begun(self) -> bool:
        """Whether there is a run to show."""
        return self._run is not None

    def look(self) -> None:
        """Show what is new. A record that cannot be read is said once."""
        try:
            reading = self._follower.look()
        except FileNotFoundError:
            return
        except UnreadableRecordError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                self.say(f"warning: {error}")
            return
        if reading.report is not None:
            self._tell_report(reading.report)
        if any(event["event"] == "run_resumed" for event in reading.events):
            # Many updates may come with it, and only the report says of how many there will be.
            self._tell_report(read_report(self.run_dir) or {})
        self._tell(reading.events)
        report = read_report(self.run_dir)
        if report is not None and report.get("step", 0) > self.step:
            self._tell_report(report)

    def say(self, message: str) -> None:
        """Print a line without tearing the bar."""
        self._bar.say(message)

    def close(self) -> None:
        """Leave the bar's last state on the screen; the next update begins a new one."""
        self._bar.close()
        self._bar = Terminal()
        if self._run is not None:
            self._bar.event(self._lengths)

    def _tell_report(self, report: Mapping[str, Any]) -> None:
        if "total_steps" not in report:
            return  # nothing has begun
        step, resumed = report.get("step", 0), report.get("resumed_at_steps", [])
        run = (report.get("started_at"), resumed)
        if run != self._run:
            self._begin(report, run)
        events = [
            {"event": kind, **entry}
            for kind, key in LISTED.items()
            for entry in report.get(key, [])
            if entry["step"] > self._told[kind]
        ]
        events += [{"event": "warning", **entry} for entry in report.get("warnings", [])]
        if report.get("latest") and step > self._told["step"]:
            events.append({"event": "step", **report["latest"]})
        self._tell(events)

    def _begin(self, report: Mapping[str, Any], run: tuple[Any, Any]) -> None:
        is_first, resumed = self._run is None, run[1]
        self._run = run
        facts = {key: report[key] for key in ("total_steps", "num_epochs", "metrics") if key in report}
        self._lengths = {"event": "run_started", **facts}
        self.close()
        if is_first:
            # What happened before the first look is past, but for the step at which the run is now.
            past = report.get("step", 0)
            self._told = {"step": past - 1, "eval": past, "checkpoint": past}
            self._warnings.extend(_mark(warning) for warning in report.get("warnings", []))
            if past:
                self.say(f"the training is at step {past} of {report['total_steps']}")
            return
        last = resumed[-1] if resumed else 0
        self.say(f"the training goes on from step {last}" if resumed else "the training begins anew")
        self._told = {kind: min(told, last) for kind, told in self._told.items()}
        self.step = last

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            kind, step = event["event"], event.get("step")
            if kind == "warning":
                if _mark(event) in self._warnings:
                    continue
                self._warnings.append(_mark(event))
            elif kind in self._told and isinstance(step, int):
                if step <= self._told[kind]:
                    continue
                self._told[kind] = step
            if kind == "step":
                self.step = event["step"]
            if kind not in ("run_started", "run_resumed"):
                self._bar.event(event)


def _mark(warning: Mapping[str, Any]) -> tuple[float, str]:
    return warning["time"], warning["message"]
