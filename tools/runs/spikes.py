"""Spikes of the loss: updates that lie far above what came shortly before."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass

WINDOW = 50
"""Losses that a new one is compared with."""
FEWEST = 20
"""Losses that are needed before anything is called a spike."""
FENCE = 3.0
"""Interquartile ranges above the upper quartile; beyond, a value is "far out" (Tukey, Exploratory Data Analysis)."""
LEAST_RATIO = 1.5
"""Over the median."""
LEAST_SHARE = 0.05
"""Of the run's first loss: the bounces of a loss that is nearly zero are no spikes."""


@dataclass(frozen=True)
class Spike:
    """The update at which the loss left its range."""

    step: int
    loss: float
    median: float
    """Of the losses before."""


class SpikeWatch:
    """Compares each loss with those before it, in time that does not grow with the run.

    A loss that stays high counts once, and is the new normal after half a window.
    """

    def __init__(self) -> None:
        self.count = 0
        self.last: Spike | None = None
        self._first_loss: float | None = None
        self._recent: deque[float] = deque()
        self._in_order: list[float] = []
        self._is_high = False

    def add(self, step: int, loss: float) -> None:
        """Take the loss of the next update."""
        if self._first_loss is None:
            self._first_loss = loss
        if len(self._in_order) >= FEWEST:
            is_high = self._is_far_out(loss)
            if is_high and not self._is_high:
                self.count += 1
                self.last = Spike(step, loss, self._quantile(0.5))
            self._is_high = is_high
        self._recent.append(loss)
        insort(self._in_order, loss)
        if len(self._recent) > WINDOW:
            del self._in_order[bisect_left(self._in_order, self._recent.popleft())]

    def _is_far_out(self, loss: float) -> bool:
        median = self._quantile(0.5)
        assert self._first_loss is not None
        if loss < median + max((LEAST_RATIO - 1.0) * abs(median), LEAST_SHARE * abs(self._first_loss)):
            return False
        lower, upper = self._quantile(0.25), self._quantile(0.75)
        return loss > upper + FENCE * (upper - lower)

    def _quantile(self, share: float) -> float:
        return self._in_order[int(share * (len(self._in_order) - 1))]
