"""One run as the dashboard follows it: its state by the monitor's rules, and its curves from the same one reading."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tools.dashboard.history import History
from tools.dashboard.log_history import Past, read_past
from tools.runs.summary import RunSummary, WatchedRun
from tools.runs.trace import integer


@dataclass(frozen=True)
class RunView:
    """A run at a moment."""

    name: str
    directory: Path
    summary: RunSummary | None
    """None: there is no run."""
    was_deleted: bool
    """There was one."""
    history: History


class FollowedRun:
    """Follows the record of one run directory, whether the run is there yet or not.

    Args:
        directory: of the run.
        name: what the picture calls it.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self.watched = WatchedRun(directory, name)
        self._history = History({}, Past())
        self._is_there = self._was_there = False

    def look(self, now: float) -> RunView:
        """Read what is new; the run as it is at `now` (Unix seconds)."""
        watched = self.watched
        try:
            reading = watched.look(now)
        except FileNotFoundError:
            if self._is_there:
                self.watched = WatchedRun(self.directory, self.name)
                self._history = History({}, Past())
            self._is_there = False
            return RunView(self.name, self.directory, None, self._was_there, self._history)
        self._is_there = self._was_there = True
        if reading is not None:
            if reading.report is not None:
                open_epoch = integer((reading.report.get("latest") or {}).get("epoch"))
                self._history = History(reading.report, self._past(open_epoch))
            for event in reading.events:
                self._history.apply(event)
        return RunView(self.name, self.directory, watched.summary(now), False, self._history)

    def _past(self, open_epoch: int | None) -> Past:
        try:
            return read_past(self.directory, open_epoch)
        except OSError:  # a network disk may come back: the next look tells the run anew
            self.watched = WatchedRun(self.directory, self.name)
            return Past()
