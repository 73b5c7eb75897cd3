"""The progress bar of a run whose record arrives from another machine, piece by piece.

Events of the log are shown as they come. A mounted datastore may hold the log back until it is closed, while the report
is replaced as a whole: events that only the report has are then shown from it. Nothing is shown twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from training.errors import printable
from training.record.follower import ProgressFollower, UnreadableRecordError
from training.record.report import MAX_REMEMBERED
from training.record.reporter import Event, read_report
from training.record.terminal import Terminal

LISTED = {"eval": "evaluations", "checkpoint": "checkpoints"}
"""Kind of event that the report keeps -> its key there."""


class TrainingView:
    """Shows what is new in the record of a run directory. What was there at the first look is not shown."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.step = 0
        """Last step shown."""
        self._follower = ProgressFollower(run_dir)
        self._bar = Terminal()
        self._lengths: Event = {}
        self._run: tuple[Any, Any] | None = None  # changes when the run starts again or is resumed
        self._shown: dict[str, int] = {}  # kind of event -> last step of it that was shown
        self._warnings: deque[tuple[float, str]] = deque(maxlen=2 * MAX_REMEMBERED)  # those shown last
        self._complaint = ""

    @property
    def has_begun(self) -> bool:
        """True once there is a run to show."""
        return self._run is not None

    def look(self) -> None:
        """Show what is new. An unreadable record is reported once."""
        try:
            reading = self._follower.look()
        except FileNotFoundError:
            return
        except UnreadableRecordError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                self.say(f"warning: {error}")
            return
        self._complain()
        if reading.report is not None:
            self._show_report(reading.report)
        if any(event["event"] == "run_resumed" for event in reading.events):
            # Many updates may come with it, and only the report has their total number.
            self._show_report(read_report(self.run_dir) or {})
        self._show(reading.events)
        report = read_report(self.run_dir)
        if report is not None and report.get("step", 0) > self.step:
            self._show_report(report)

    def _complain(self) -> None:
        """Say what of the record cannot be read, once."""
        damaged = self._follower.damaged
        faults = [*self._follower.report_faults, *([str(damaged)] if damaged.count else [])]
        if faults and (complaint := "; ".join(faults)) != self._complaint:
            self._complaint = complaint
            self.say(f"warning: {self.run_dir}: {printable(complaint)}")

    def say(self, message: str) -> None:
        """Print a line without tearing the bar."""
        self._bar.say(message)

    def close(self) -> None:
        """Leave the bar's last state on the screen; the next update begins a new one."""
        self._bar.close()
        self._bar = Terminal()
        if self._run is not None:
            self._bar.event(self._lengths)

    def _show_report(self, report: Mapping[str, Any]) -> None:
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
            if entry["step"] > self._shown[kind]
        ]
        events += [{"event": "warning", **entry} for entry in report.get("warnings", [])]
        if report.get("latest") and step > self._shown["step"]:
            events.append({"event": "step", **report["latest"]})
        self._show(events)

    def _begin(self, report: Mapping[str, Any], run: tuple[Any, Any]) -> None:
        is_first, resumed = self._run is None, run[1]
        self._run = run
        facts = {key: report[key] for key in ("total_steps", "num_epochs", "metrics") if key in report}
        self._lengths = {"event": "run_started", **facts}
        self.close()
        if is_first:
            # Events before the first look are not shown, except for the present step.
            past = report.get("step", 0)
            self._shown = {"step": past - 1, "eval": past, "checkpoint": past}
            self._warnings.extend(_mark(warning) for warning in report.get("warnings", []))
            if past:
                self.say(f"the training is at step {past} of {report['total_steps']}")
            return
        last = resumed[-1] if resumed else 0
        self.say(f"the training goes on from step {last}" if resumed else "the training starts again")
        self._shown = {kind: min(step, last) for kind, step in self._shown.items()}
        self.step = last

    def _show(self, events: Iterable[Event]) -> None:
        for event in events:
            kind, step = event["event"], event.get("step")
            if kind == "warning":
                if _mark(event) in self._warnings:
                    continue
                self._warnings.append(_mark(event))
            elif kind in self._shown and isinstance(step, int):
                if step <= self._shown[kind]:
                    continue
                self._shown[kind] = step
            if kind == "step":
                self.step = event["step"]
            if kind not in ("run_started", "run_resumed", "conclusion"):  # the conclusion is shown with the results
                self._bar.event(event)


def _mark(warning: Mapping[str, Any]) -> tuple[float, str]:
    return warning["time"], warning["message"]
