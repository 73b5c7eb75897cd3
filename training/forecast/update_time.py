"""How long updates take: their work in floating-point operations, and a line through some that were timed. No torch.

Batches are of unequal length, so a few timed updates are no fair sample of an epoch; their work is known exactly for
every update of the plan. The time of an update is taken as `fixed + per_operation * work`, fitted to those that were
timed, and summed over the real mix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.models.cost import BatchShape
from training.tasks.batch_plan import BatchPlan

MAX_UPDATES_LOOKED_AT = 2000
"""Of an epoch, evenly spaced; the mean work of more would not differ."""


def largest_of(updates: Iterable[Iterable[BatchShape]]) -> BatchShape:
    """The micro-batch with most tokens, padding counted: the one that needs most memory."""
    return max(
        (batch for batches in updates for batch in batches), key=lambda batch: (batch.padded_tokens, batch.positions)
    )


class Mix:
    """The micro-batches of each update of an epoch, on one rank.

    Args:
        plan: the run's global batches.
        weights: (samples,) tokens of each sample that have a loss.
        batch_size: samples of a micro-batch, at most.
        ranks: that share each global batch, a sample to each in turn.
    """

    def __init__(self, plan: BatchPlan, weights: NDArray[np.int64], batch_size: int, ranks: int) -> None:
        self.plan, self._weights = plan, weights
        self._batch_size, self._ranks = batch_size, ranks

    def shapes(self, epoch: int, index: int) -> list[BatchShape]:
        """Rank 0's micro-batches of one update: no other rank has more samples."""
        share, size = self.plan.indices(epoch, index)[:: self._ranks], self._batch_size
        found = []
        for start in range(0, len(share), size):
            chosen = share[start : start + size]
            width = max(1, int(self.plan.lengths[chosen].max()) - 1)
            found.append(BatchShape(len(chosen), width, int(self._weights[chosen].sum())))
        return found

    def updates(self, epoch: int = 0, limit: int | None = None) -> list[list[BatchShape]]:
        """Updates of an epoch, or evenly spaced ones of a long one.

        Args:
            epoch: from 0.
            limit: of the first so many updates alone, where a run has no more.
        """
        count = min(self.plan.steps_per_epoch, limit or self.plan.steps_per_epoch)
        chosen = np.unique(np.linspace(0, count - 1, min(count, MAX_UPDATES_LOOKED_AT)).astype(int))
        return [self.shapes(epoch, int(index)) for index in chosen]


class Pace(NamedTuple):
    """Seconds of an update as a line over its work."""

    fixed: float
    per_operation: float

    def seconds(self, amount: float) -> float:
        """Of an update of that much work."""
        return self.fixed + self.per_operation * amount


def fit_pace(amounts: Sequence[float], seconds: Sequence[float]) -> Pace:
    """The least-squares line through timed updates, with neither a negative slope nor a negative start.

    Args:
        amounts: work of each timed update.
        seconds: what each took; one at least.
    """
    x, y = np.asarray(amounts, dtype=np.float64), np.asarray(seconds, dtype=np.float64)
    spread = float(((x - x.mean()) ** 2).sum())
    if spread <= 1e-6 * float((x**2).sum()):  # all alike: nothing is known about other lengths
        return Pace(0.0, float(y.mean() / x.mean())) if x.mean() else Pace(float(y.mean()), 0.0)
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    fixed = float(y.mean()) - slope * float(x.mean())
    if slope < 0.0:
        return Pace(float(y.mean()), 0.0)
    if fixed < 0.0:
        return Pace(0.0, float((x * y).sum() / (x * x).sum()))
    return Pace(fixed, slope)


def extra_seconds(pace: Pace, amounts: Sequence[float], seconds: Sequence[float]) -> float:
    """What updates took beyond their pace, together; 0 where they took less.

    Args:
        pace: of later updates.
        amounts: work of each.
        seconds: what each took.
    """
    return max(0.0, sum(seconds) - sum(pace.seconds(amount) for amount in amounts))
