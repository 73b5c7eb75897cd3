"""What both pictures of the measured surface need: heights, the path so far, and the words that keep them honest."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tools.dashboard.drawing_style import Pen
from tools.dashboard.frame import Scene
from tools.figures.wording import figure
from tools.landscape.surface import Surface
from training.machine.units import as_duration

Floats = NDArray[np.float64]
LOG_RATIO = 8.0
"""Highest over lowest loss from which on heights are logarithms: a valley is else not to be seen beside its walls."""


class Path(NamedTuple):
    """The part of the path that the scene shows: P points that are measured."""

    steps: NDArray[np.int64]
    plane: Floats
    """(P, 2)"""
    distance: Floats
    loss: Floats
    """True."""
    plane_loss: Floats
    """Of the nearest points of the plane."""


class Heights:
    """Losses as heights: themselves, or their decimal logarithms."""

    def __init__(self, surface: Surface) -> None:
        known = np.concatenate([np.ravel(a) for a in (surface.losses, surface.path_loss, surface.path_plane_loss)])
        finite = known[np.isfinite(known)]
        self.lowest, self.highest = float(finite.min()), float(finite.max())
        self.is_log = bool(self.lowest > 0.0 and self.highest / self.lowest > LOG_RATIO)
        self.num_cut = int(np.isinf(surface.losses).sum())
        """Points of the grid without a finite loss: they are drawn as high as the highest."""

    def of(self, losses: Floats) -> Floats:
        """Heights of some losses; what is not finite is as high as the highest."""
        cut = np.where(np.isposinf(losses), self.highest, losses)
        return np.log10(cut) if self.is_log else np.asarray(cut, dtype=np.float64)

    def marks(self, lowest: float) -> list[float]:
        """Heights to be marked, from a lowest one on: what lies beneath is only room for the contours."""
        highest = float(self.of(np.array([self.highest]))[0])
        if not self.is_log:
            ticks: Iterable[float] = MaxNLocator(5).tick_values(lowest, highest)
        else:
            num_decades = math.ceil(highest - lowest)
            decades = range(math.floor(lowest), math.ceil(highest) + 1, 1 + num_decades // 7)
            ticks = [
                decade + math.log10(digit) for decade in decades for digit in ((1, 3) if num_decades < 4 else (1,))
            ]
        return [float(tick) for tick in ticks if lowest <= tick <= highest]

    def loss(self, height: float) -> float:
        """The loss at a height."""
        return 10.0**height if self.is_log else height


def is_drawable(surface: Surface) -> bool:
    """Whether each point of the grid is measured, and some loss is finite."""
    return not np.isnan(surface.losses).any() and bool(np.isfinite(surface.losses).any())


def num_measured(surface: Surface) -> int:
    """Points of the grid that are measured."""
    return int((~np.isnan(surface.losses)).sum())


def path_of(surface: Surface, scene: Scene) -> Path:
    """The path up to the update that is shown."""
    until = scene.now if scene.replayed_until is not None else np.iinfo(np.int64).max
    shown = (surface.path_steps <= until) & np.isfinite(surface.path_loss) & np.isfinite(surface.path_plane_loss)
    return Path(
        surface.path_steps[shown], surface.path_plane[shown], surface.path_distance[shown], surface.path_loss[shown],
        surface.path_plane_loss[shown],
    )  # fmt: skip


def axis_names(surface: Surface) -> tuple[str, str]:
    """What the two directions are, with the share of the path that each explains."""
    if surface.explained_variance is None:
        return "random 1", "random 2"
    first, second = surface.explained_variance
    return f"PC1 ({first:.1%})", f"PC2 ({second:.1%})"


def plane_told(surface: Surface, pen: Pen) -> str:
    """How much of the path the plane holds."""
    if surface.explained_variance is None:
        return pen.typeface.label("平面：两个随机方向", "plane: two random directions, filter-normalised")
    share = float(surface.explained_variance.sum())
    return pen.typeface.label("平面：路径主成分", f"plane: PCA of the path, explains {share:.1%} of it")


def center_told(surface: Surface, heights: Heights) -> str:
    """What was measured, and at what cost."""
    told = (
        f"centre: step {surface.center_step:,}, loss {figure(surface.center_loss)} on {surface.probe_tokens:,} tokens; "
        f"{num_measured(surface):,} points in {as_duration(surface.seconds)}"
    )
    return told + (f"; {heights.num_cut} not finite, cut off" if heights.num_cut else "")


def now_told(path: Path, scene: Scene) -> str:
    """The last point of the path: its true loss beside the plane's, and its distance from the plane."""
    if not len(path.steps):
        return "no snapshot of the run up to here: no path (snapshots: 64 keeps some)"
    behind = f", the run is at {scene.now:,}" if scene.now > path.steps[-1] else ""
    told = (
        f"step {path.steps[-1]:,}{behind}: true loss {figure(float(path.loss[-1]))}, the plane's "
        f"{figure(float(path.plane_loss[-1]))}, distance {path.distance[-1]:.2g}"
    )
    farthest = int(path.distance.argmax())
    if path.distance[farthest] <= path.distance[-1]:
        return told
    return f"{told}; at most {path.distance[farthest]:.2g} (step {path.steps[farthest]:,})"
