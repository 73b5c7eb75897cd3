"""Time of updates: a line through a few timed ones, over their work in floating-point operations. No torch.

Batches have unequal lengths, so a few timed updates do not represent an epoch; but the work of every update of the plan
is known exactly. The time of an update is modelled as `fixed + per_operation * work`, fitted to the timed ones, and
summed over the real mix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.models.cost import BatchShape
from training.tasks.batch_plan import BatchPlan

MAX_UPDATES_LOOKED_AT = 2000
"""Largest number of updates of an epoch, evenly spaced, whose work is computed; more would give the same mean."""


def largest_of(updates: Iterable[Iterable[BatchShape]]) -> BatchShape:
    """Return the micro-batch with most tokens, including padding: the one that needs most memory."""
    return max(
        (batch for batches in updates for batch in batches), key=lambda batch: (batch.padded_tokens, batch.positions)
    )


class Mix:
    """Micro-batches of each update of an epoch, on one rank.

    Args:
        plan: the run's global batches.
        weights: (samples,) number of tokens with a loss of each sample.
        batch_size: largest number of samples of a micro-batch.
        ranks: number of ranks that share each global batch, a sample to each in turn.
    """

    def __init__(self, plan: BatchPlan, weights: NDArray[np.int64], batch_size: int, ranks: int) -> None:
        self.plan, self._weights = plan, weights
        self._batch_size, self._ranks = batch_size, ranks

    def shapes(self, epoch: int, index: int) -> list[BatchShape]:
        """Return rank 0's micro-batches of one update: no other rank has more samples."""
        share, size = self.plan.indices(epoch, index)[:: self._ranks], self._batch_size
        found = []
        for start in range(0, len(share), size):
            chosen = share[start : start + size]
            width = max(1, int(self.plan.lengths[chosen].max()) - 1)
            found.append(BatchShape(len(chosen), width, int(self._weights[chosen].sum())))
        return found

    def updates(self, epoch: int = 0, limit: int | None = None) -> list[list[BatchShape]]:
        """Return the updates of an epoch, or evenly spaced ones of a long epoch.

        Args:
            epoch: number of the epoch, from 0.
            limit: use only this number of first updates, if a run has no more.
        """
        count = min(self.plan.steps_per_epoch, limit or self.plan.steps_per_epoch)
        chosen = np.unique(np.linspace(0, count - 1, min(count, MAX_UPDATES_LOOKED_AT)).astype(int))
        return [self.shapes(epoch, int(index)) for index in chosen]


class Pace(NamedTuple):
    """Time of an update in seconds, as a linear function of its work."""

    fixed: float
    per_operation: float

    def seconds(self, amount: float) -> float:
        """Return the seconds of an update of that work."""
        return self.fixed + self.per_operation * amount


def fit_pace(amounts: Sequence[float], seconds: Sequence[float]) -> Pace:
    """Fit a least-squares line to timed updates, with neither a negative slope nor a negative intercept.

    Args:
        amounts: work of each timed update.
        seconds: time of each, at least one.
    """
    x, y = np.asarray(amounts, dtype=np.float64), np.asarray(seconds, dtype=np.float64)
    spread = float(((x - x.mean()) ** 2).sum())
    if spread <= 1e-6 * float((x**2).sum()):  # all have the same work: nothing is known about other lengths
        return Pace(0.0, float(y.mean() / x.mean())) if x.mean() else Pace(float(y.mean()), 0.0)
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    fixed = float(y.mean()) - slope * float(x.mean())
    if slope < 0.0:
        return Pace(float(y.mean()), 0.0)
    if fixed < 0.0:
        return Pace(0.0, float((x * y).sum() / (x * x).sum()))
    return Pace(fixed, slope)


def extra_seconds(pace: Pace, amounts: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the total time of updates beyond their pace; 0 if they took less.

    Args:
        pace: pace of later updates.
        amounts: work of each update.
        seconds: time of each update.
    """
    return max(0.0, sum(seconds) - sum(pace.seconds(amount) for amount in amounts))
