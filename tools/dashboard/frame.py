"""What one picture of the dashboard shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tools.dashboard.followed_run import RunView
from tools.dashboard.history import History
from tools.landscape.surface import Surface


@dataclass(frozen=True)
class Scene:
    """A run, those it is compared with, and its measured surface, at a moment."""

    run: RunView
    others: tuple[RunView, ...]
    surface: Surface | None
    """None: nothing has been measured."""
    azimuth: float
    """Degrees from which the landscape is seen."""
    replayed_until: int | None = None
    """An animation's update; None: the present."""

    @property
    def last_step(self) -> int:
        """Where the time axes end: the same in all frames of an animation."""
        return max((view.history.step for view in (self.run, *self.others)), default=0)

    @property
    def now(self) -> int:
        """The update that the run is shown at."""
        return self.run.history.step if self.replayed_until is None else self.replayed_until

    @property
    def is_midway(self) -> bool:
        """Whether an animation shows the run before its last update."""
        return self.replayed_until is not None and self.replayed_until < self.run.history.step

    def history(self, view: RunView) -> History:
        """The curves of one of the runs as far as they are shown."""
        return view.history if self.replayed_until is None else view.history.until(self.replayed_until)

    def until(self, step: int, azimuth: float) -> Scene:
        """The same run as it was after an update. The surface is the one that was measured, whenever it was."""
        return replace(self, azimuth=azimuth, replayed_until=step)
