"""Common parts of both pictures of the measured surface: heights, the path so far, and words that keep them honest."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tools.dashboard.panels.drawing_style import Pen
from tools.dashboard.panels.frame import Frame
from tools.figures.wording import figure
from tools.landscape.surface import Surface
from training.language.messages import Message
from training.machine.units import as_duration

Floats = NDArray[np.float64]
LOG_RATIO = 8.0
"""Ratio of highest to lowest loss from which heights are logarithms: else a valley could not be seen in its walls."""


class Path(NamedTuple):
    """The part of the path that the frame shows: P points that are measured."""

    steps: NDArray[np.int64]
    plane: Floats
    """(P, 2)"""
    distance: Floats
    loss: Floats
    """True losses."""
    plane_loss: Floats
    """Losses of the nearest points of the plane."""


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
        """Return the heights of some losses; what is not finite is as high as the highest."""
        cut = np.where(np.isposinf(losses), self.highest, losses)
        return np.log10(cut) if self.is_log else np.asarray(cut, dtype=np.float64)

    def marks(self, lowest: float) -> list[float]:
        """Return the heights to be marked, from a lowest one on: beneath it is only room for the contours."""
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
        """Return the loss at a height."""
        return 10.0**height if self.is_log else height


def num_measured(surface: Surface) -> int:
    """Return the number of points of the grid that are measured."""
    return int((~np.isnan(surface.losses)).sum())


def path_of(surface: Surface, frame: Frame) -> Path:
    """Return the path up to the update that is shown."""
    until = frame.now if frame.replayed_until is not None else np.iinfo(np.int64).max
    shown = (surface.path_steps <= until) & np.isfinite(surface.path_loss) & np.isfinite(surface.path_plane_loss)
    return Path(
        surface.path_steps[shown], surface.path_plane[shown], surface.path_distance[shown], surface.path_loss[shown],
        surface.path_plane_loss[shown],
    )  # fmt: skip


def axis_names(surface: Surface) -> tuple[Message, Message]:
    """Return the names of the two directions, with the share of the path that each explains."""
    if surface.explained_variance is None:
        return Message("random 1"), Message("random 2")
    first, second = surface.explained_variance
    return Message("PC1 ({share:.1%})", share=first), Message("PC2 ({share:.1%})", share=second)


def plane_text(surface: Surface, pen: Pen) -> str:
    """Say how much of the path the plane holds."""
    if surface.explained_variance is None:
        return pen.typeface.label(Message("plane: two random directions, filter-normalised"))
    share = float(surface.explained_variance.sum())
    return pen.typeface.label(Message("plane: PCA of the path, explains {share:.1%} of it", share=share))


def center_text(surface: Surface, heights: Heights) -> Message:
    """Say what was measured, and at what cost."""
    words = Message(
        "centre: step {step:,}, loss {loss} on {tokens:,} tokens; {points:,} points in {time}",
        step=surface.center_step,
        loss=figure(surface.center_loss),
        tokens=surface.probe_tokens,
        points=num_measured(surface),
        time=as_duration(surface.seconds),
    )
    cut = [Message("{count} not finite, cut off", count=heights.num_cut)] if heights.num_cut else []
    return Message.joined("; ", [words, *cut])


def now_text(path: Path, frame: Frame) -> Message:
    """Describe the last point of the path: its true loss, the plane's, and its distance from the plane."""
    if not len(path.steps):
        return Message("no snapshot of the run up to here: no path (snapshots: 64 keeps some)")
    words = Message(
        "step {step:,}{behind}: true loss {loss}, the plane's {plane_loss}, distance {distance:.2g}",
        step=int(path.steps[-1]),
        behind=Message(", the run is at {step:,}", step=frame.now) if frame.now > path.steps[-1] else "",
        loss=figure(float(path.loss[-1])),
        plane_loss=figure(float(path.plane_loss[-1])),
        distance=float(path.distance[-1]),
    )
    farthest = int(path.distance.argmax())
    if path.distance[farthest] <= path.distance[-1]:
        return words
    most = Message(
        "at most {distance:.2g} (step {step:,})",
        distance=float(path.distance[farthest]),
        step=int(path.steps[farthest]),
    )
    return Message.joined("; ", [words, most])
