"""Measuring a surface: coarse to fine within a budget, published as it grows, continued where it was interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from tools.landscape.directions import Plane
from tools.landscape.flat_weights import FlatWeights
from tools.landscape.grid import strides
from tools.landscape.path import WeightPath
from tools.landscape.surface import Surface

PUBLISH_SECONDS = 5.0
"""Seconds after which an unfinished grid is published too, so that a kill loses little."""


@dataclass
class Budget:
    """The time that may be spent. Only the last forward pass may exceed it, because it is not broken off.

    Args:
        seconds: seconds from now.
        clock: returns monotonic seconds.
    """

    seconds: float
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._began = self.clock()

    @property
    def spent(self) -> float:
        """Seconds since it started."""
        return self.clock() - self._began

    def allows(self, seconds: float) -> bool:
        """Return whether that many more seconds fit."""
        return self.spent + seconds <= self.seconds


class _OutOfTimeError(Exception):
    """The signal that leaves the loops over points; the points measured until then are kept."""


class Measurement:
    """The measurement of the points that a surface lacks.

    Args:
        weights: the model, whose own tensors are not written to.
        loss: forward pass of the probe, returns the mean loss per token.
        plane: the plane through the weights' centre.
        path: the path, at whose points the true losses are measured.
        surface: the surface with everything that is known already. The centre alone is measured at any budget.
        publish: called with the surface as far as it is measured, at least after each finished grid.
    """

    def __init__(
        self,
        weights: FlatWeights,
        loss: Callable[[], float],
        plane: Plane,
        path: WeightPath,
        surface: Surface,
        publish: Callable[[Surface], None],
    ) -> None:
        self._weights, self._loss = weights, loss
        self._plane, self._path = plane, path
        self._surface = _with_arrays_of_its_own(surface)
        self._publish = publish
        self._seconds_before = surface.seconds
        self._longest = 0.0
        self._published = 0.0
        self.forward_passes = 0

    def run(self, budget: Budget) -> Surface:
        """Measure until everything is known or the budget is spent; publish and return the result."""
        self._budget = budget
        self._began = self._published = budget.clock()
        if self._surface.finished:
            return self._surface
        coarsest, *finer = strides(self._surface.resolution)
        with self._weights.borrowed():
            self._measure_center()
            try:
                self._measure_grid(coarsest)
                self._measure_path()
                for stride in finer:
                    self._measure_grid(stride)
            except _OutOfTimeError:
                self._show()
        return self._surface

    # -- what is measured, in order --------------------------------------------------------------------------------

    def _measure_center(self) -> None:
        surface = self._surface
        loss = surface.center_loss
        if math.isnan(loss):
            self._weights.move_to(self._weights.center)
            loss = self._forward(whatever_the_budget=True)
            self._surface = surface = replace(surface, center_loss=loss)
        surface.losses[surface.betas == 0.0, surface.alphas == 0.0] = loss
        here = surface.path_steps == surface.center_step
        surface.path_loss[here] = surface.path_plane_loss[here] = loss

    def _measure_grid(self, stride: int) -> None:
        surface = self._surface
        missing = np.isnan(surface.losses[::stride, ::stride])
        for row in np.flatnonzero(missing.any(axis=1)) * stride:
            start = self._along_second(surface.betas[row])
            for column in np.flatnonzero(np.isnan(surface.losses[row, ::stride])) * stride:
                self._weights.move_along(start, self._plane.first, float(surface.alphas[column]))
                surface.losses[row, column] = self._forward()
        self._show()

    def _measure_path(self) -> None:
        surface = self._surface
        numbers = {snapshot.step: number for number, snapshot in enumerate(self._path.snapshots)}
        for point in np.flatnonzero(np.isnan(surface.path_loss)):
            self._weights.move_to(self._path.vector(numbers[int(surface.path_steps[point])]))
            surface.path_loss[point] = self._forward()
        for point in np.flatnonzero(np.isnan(surface.path_plane_loss)):
            alpha, beta = surface.path_plane[point]
            self._weights.move_along(self._along_second(beta), self._plane.first, float(alpha))
            surface.path_plane_loss[point] = self._forward()
        self._show()

    # -- one point -------------------------------------------------------------------------------------------------

    def _along_second(self, beta: float) -> Tensor:
        return self._weights.center.add(self._plane.second, alpha=float(beta))

    def _forward(self, whatever_the_budget: bool = False) -> float:
        if not whatever_the_budget and not self._budget.allows(self._longest):
            raise _OutOfTimeError
        began = self._budget.clock()
        loss = self._loss()
        ended = self._budget.clock()
        self.forward_passes += 1
        self._longest = max(self._longest, ended - began)
        if ended - self._published > PUBLISH_SECONDS:
            self._show()
        return loss if math.isfinite(loss) else math.inf

    def _show(self) -> None:
        now = self._budget.clock()
        self._surface = replace(self._surface, seconds=round(self._seconds_before + now - self._began, 3))
        self._publish(_with_arrays_of_its_own(self._surface))
        self._published = now


def _with_arrays_of_its_own(surface: Surface) -> Surface:
    """Copy the arrays that are written to while measuring, so that no reader sees them change."""
    return replace(
        surface,
        losses=surface.losses.copy(),
        path_loss=surface.path_loss.copy(),
        path_plane_loss=surface.path_plane_loss.copy(),
    )
