"""Broken parts of the training loop; see apt_faulty_backends.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from training.loop.schedules import learning_rate_at
from training.settings.tree import ScheduleConfig
from training.tasks.batch_plan import BatchPlan


class OtherOrder(BatchPlan):
    """Each whole batch comes a step early; the first one comes last."""

    def indices(self, epoch: int, index: int) -> NDArray[np.int64]:
        """See `BatchPlan.indices`."""
        num_whole = len(self.lengths) // self.global_batch_size
        return super().indices(epoch, (index + 1) % num_whole if index < num_whole else index)


class Reshuffled(BatchPlan):
    """Another seed than the config's."""

    def __init__(
        self, lengths: Sequence[int] | NDArray[np.int64], global_batch_size: int, seed: int, window: int
    ) -> None:
        super().__init__(lengths, global_batch_size, seed + 1, window)


class PaddedLastBatch(BatchPlan):
    """Every batch is whole."""

    def indices(self, epoch: int, index: int) -> NDArray[np.int64]:
        """See `BatchPlan.indices`."""
        chosen = super().indices(epoch, index)
        first = super().indices(epoch, 0)
        return np.concatenate([chosen, first[: self.global_batch_size - len(chosen)]])


def one_step_ahead(
    config: ScheduleConfig, learning_rate: float, steps_per_epoch: int, total_steps: int
) -> Callable[[int], float]:
    """`learning_rate_at` of the update that comes next."""
    rate = learning_rate_at(config, learning_rate, steps_per_epoch, total_steps)
    return lambda step: rate(step + 1)
