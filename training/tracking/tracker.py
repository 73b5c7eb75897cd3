"""The protocol of a tracker: a service that keeps figures of runs (W&B, MLflow, TensorBoard). No heavy import.

A tracker may raise, be slow or hang for ever. It runs in a thread of its own (`training.tracking.background`), so
none of this reaches the training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable


@dataclass(frozen=True)
class RunStart:
    """Start or resumption of a run: what a tracker receives first."""

    run_id: str
    """Our own name of the run; the same in every part of a run that was resumed."""
    step: int
    """Updates already done: 0, or the step from which the run is resumed."""
    time: float
    """Unix seconds of the event."""
    is_resumed: bool
    facts: Mapping[str, Any]
    """Keys of the `run_started` or `run_resumed` event."""
    params: Mapping[str, Any]
    """The resolved config, flat: `optimizer.learning_rate -> 0.0003`."""

    @property
    def tags(self) -> dict[str, str]:
        """Facts by which runs are found and compared."""
        names = ("backend", "run_id", "curve_hash", "device", "world_size", "num_parameters", "data_fingerprint")
        return {name: str(self.facts[name]) for name in names if self.facts.get(name) is not None}


@dataclass(frozen=True)
class Point:
    """Figures of one step."""

    step: int
    time: float
    """Unix seconds at which it was measured, not sent. Sent twice, a point is the same point."""
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Held:
    """Points that a tracker already holds of a run that is resumed."""

    step: int = 0
    """All figures up to this step are there."""
    by_figure: Mapping[str, int] = field(default_factory=dict)
    """Figure -> last step of it that is there, where the tracker can tell."""

    def holds(self, figure: str, step: int) -> bool:
        """Say whether that point would be there twice."""
        return step <= max(self.step, self.by_figure.get(figure, 0))


class Tracker(Protocol):
    """One run in one service. All methods are called from one thread, in this order."""

    name: ClassVar[str]
    """Name in `--track`."""
    seconds_between_calls: ClassVar[float]
    """Points are collected for so long before `log` is called."""

    def start(self, run: RunStart) -> Held:
        """Begin the run in the service, or go on with it. This may take long."""
        ...

    def whereabouts(self) -> str:
        """Say in one line where the user finds the run. Called after `start`."""
        ...

    def log(self, points: Sequence[Point]) -> None:
        """Take points, the steps in ascending order. Returns when they are safe or on their way."""
        ...

    def finish(self, state: str, report: Path) -> None:
        """End the run.

        Args:
            state: `finished`, `stopped` (it can be resumed) or `failed`.
            report: `experiment_report.json`, to be kept with the run; it may be missing.
        """
        ...


@runtime_checkable
class FileKeeper(Protocol):
    """A tracker that also keeps the files of a finished run: its model, and TensorBoard's event files."""

    def keep_file(self, file: Path, name: str) -> None:
        """Take a copy of a file. Called after `finish`, once for each file; it may take long.

        Args:
            file: in the run directory; it is complete.
            name: relative to the run directory, with slashes: `final_model/config.json`.
        """
        ...
