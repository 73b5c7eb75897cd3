"""Reading the runs and the surface behind the pictures: each look reads what is new and returns the content to draw."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tools.dashboard.panels.frame import Frame, RunView
from tools.landscape.surface import Surface, read_surface
from tools.runs.summary import WatchedRun
from training.record.trace import Trace

FIRST_AZIMUTH = -58.0
DEGREES_PER_SECOND = 1.5
"""Speed of the landscape's slow turn, live."""


class FollowedRun:
    """Follows the record of one run directory, whether the run is there yet or not.

    Args:
        directory: directory of the run.
        name: what the picture calls it.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self._watch_again()
        self._was_there = False

    def _watch_again(self) -> None:
        self._watched = WatchedRun(self.directory, self.name, with_marks=True)
        self._history = Trace()
        self._is_there = False

    def look(self, now: float) -> RunView:
        """Read what is new; return the run as it is at `now` (Unix seconds)."""
        try:
            self._watched.look(now)
        except FileNotFoundError:
            if self._is_there:
                self._watch_again()
            return RunView(self.name, self.directory, None, self._was_there, self._history)
        self._is_there = self._was_there = True
        if self._watched.is_known:  # else what was drawn stays
            self._history = self._watched.trace
        return RunView(self.name, self.directory, self._watched.summary(now), False, self._history)


class Reader:
    """Follows a run and those to compare it with.

    Args:
        directory: directory of the run; it need not be there yet.
        others: directories of runs.
    """

    def __init__(self, directory: Path, others: Sequence[Path]) -> None:
        names = names_of([directory, *others])
        self.run = FollowedRun(directory, names[0])
        self.others = [FollowedRun(other, name) for other, name in zip(others, names[1:], strict=True)]
        self._began = time.monotonic()

    def azimuth(self) -> float:
        """Return the direction from which the landscape is seen now, in degrees."""
        return (FIRST_AZIMUTH + DEGREES_PER_SECOND * (time.monotonic() - self._began)) % 360.0

    def look(self) -> Frame:
        """Return what is to be drawn now."""
        now = time.time()
        run = self.run.look(now)
        return Frame(run, tuple(other.look(now) for other in self.others), _surface(run), self.azimuth())


def _surface(run: RunView) -> Surface | None:
    """Return the run's measured surface; not one that was left by an earlier run in the same directory."""
    if run.summary is None:
        return None
    return read_surface(run.directory, since=run.summary.started_at or 0.0)


def names_of(directories: Sequence[Path]) -> list[str]:
    """Return what a picture calls runs: the names of the directory and the one above it, more where these are alike."""
    paths = [directory.absolute().parts for directory in directories]
    for depth in range(2, max(map(len, paths)) + 1):
        names = ["/".join(parts[-depth:]) for parts in paths]
        if len(set(names)) == len(set(paths)):
            break
    return names
