"""Content of one picture of the dashboard."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tools.landscape.surface import Surface
from tools.runs.summary import RunSummary
from training.record.trace import Trace


@dataclass(frozen=True)
class RunView:
    """A run at a moment."""

    name: str
    directory: Path
    summary: RunSummary | None
    """None: there is no run."""
    was_deleted: bool
    """There was one."""
    history: Trace
    """Its curves and marks."""


@dataclass(frozen=True)
class Frame:
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
    def landscape(self) -> Surface | None:
        """The surface, if it can be drawn: each point of the grid is measured, and some loss is finite."""
        if self.surface is None or np.isnan(self.surface.losses).any() or not np.isfinite(self.surface.losses).any():
            return None
        return self.surface

    @property
    def last_step(self) -> int:
        """End of the time axes: the same in all frames of an animation."""
        return max((view.history.step for view in (self.run, *self.others)), default=0)

    @property
    def now(self) -> int:
        """Update at which the run is shown."""
        return self.run.history.step if self.replayed_until is None else self.replayed_until

    @property
    def is_midway(self) -> bool:
        """Say whether an animation shows the run before its last update."""
        return self.replayed_until is not None and self.replayed_until < self.run.history.step

    def history(self, view: RunView) -> Trace:
        """Return the curves of one of the runs as far as they are shown."""
        return view.history if self.replayed_until is None else view.history.until(self.replayed_until)

    def until(self, step: int, azimuth: float) -> Frame:
        """Return the same run as it was after an update. The surface is the one that was measured, whenever it was."""
        return replace(self, azimuth=azimuth, replayed_until=step)
