"""The runs and the surface behind the pictures: each look reads what is new and gives the scene."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tools.dashboard.followed_run import FollowedRun, RunView
from tools.dashboard.frame import Scene
from tools.landscape.surface import Surface, read_surface

FIRST_AZIMUTH = -58.0
DEGREES_PER_SECOND = 1.5
"""Of the landscape's slow turn, live."""


class Stage:
    """Follows a run and those to compare it with.

    Args:
        directory: of the run; it need not be there yet.
        others: directories of runs.
    """

    def __init__(self, directory: Path, others: Sequence[Path]) -> None:
        self.run = FollowedRun(directory, name_of(directory))
        self.others = [FollowedRun(other, name_of(other)) for other in others]
        self._began = time.monotonic()

    def azimuth(self) -> float:
        """From where the landscape is seen now, in degrees."""
        return (FIRST_AZIMUTH + DEGREES_PER_SECOND * (time.monotonic() - self._began)) % 360.0

    def look(self) -> Scene:
        """The scene as it is now."""
        now = time.time()
        run = self.run.look(now)
        return Scene(run, tuple(other.look(now) for other in self.others), _surface(run), self.azimuth())


def _surface(run: RunView) -> Surface | None:
    """The run's measured surface; not one that was left by an earlier run in the same directory."""
    if run.summary is None:
        return None
    return read_surface(run.directory, since=run.summary.started_at or 0.0)


def name_of(directory: Path) -> str:
    """What a picture calls a run: its directory's name and the one above it."""
    return "/".join(directory.absolute().parts[-2:])
