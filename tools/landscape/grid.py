"""The points at which a surface is measured: coarse to fine, with the centre always among them. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.errors import UserError

COARSE = 4
"""Intervals of the coarsest grid, so it has 5 x 5 points."""
LARGEST = 401


def strides(resolution: int) -> tuple[int, ...]:
    """Return the distances between the points of each grid, in points of the finest: 25 -> (6, 3, 1), 5, 9, 25 a side.

    Each divides the one before it, so a finer grid keeps every point of the coarser ones.
    """
    stride = (resolution - 1) // COARSE
    found = [stride]
    while stride > 1:
        stride //= next(factor for factor in range(2, stride + 1) if stride % factor == 0)
        found.append(stride)
    return tuple(found)


def check_resolution(resolution: int) -> int:
    """Return the resolution, if it contains a 5 x 5 grid.

    Raises:
        UserError: it does not; the message names the nearest one that does.
    """
    if (resolution - 1) % COARSE or not COARSE < resolution <= LARGEST:
        near = COARSE * round((min(max(resolution, COARSE + 1), LARGEST) - 1) / COARSE) + 1
        raise UserError(
            f"--resolution {resolution}: the points of a side must be one more than a multiple of {COARSE}, from "
            f"{COARSE + 1} to {LARGEST}, so that it contains a coarse grid of 5 x 5; the nearest is {near}"
        )
    return resolution


def axis(low: float, high: float, resolution: int) -> NDArray[np.float64]:
    """Return evenly spaced values (resolution,) from `low` or below to `high` or above, with 0 exactly among them.

    0, where the weights are the run's own, is a point of the coarsest grid too. The spacing is the smallest possible.

    Args:
        low: 0 or less.
        high: 0 or more; not both are 0.
        resolution: a resolution that `check_resolution` accepts.
    """
    stride = (resolution - 1) // COARSE
    spacings: list[tuple[float, int]] = []
    for below in range(COARSE + 1):  # coarse intervals on the side of `low`
        above = COARSE - below
        if (below or low == 0.0) and (above or high == 0.0):
            spacings.append((max(-low / below if below else 0.0, high / above if above else 0.0), below))
    spacing, below = min(spacings)
    return np.asarray((np.arange(resolution) - below * stride) * (spacing / stride), dtype=np.float64)
