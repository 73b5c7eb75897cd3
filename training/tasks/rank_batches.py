"""A rank's share of the samples, as batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.machine.ranks import Ranks
from training.machine.seeding import seed_everything
from training.tasks.fingerprints import batch_hash, halves
from training.tasks.objective import Batch, Objective


@dataclass(frozen=True)
class GlobalBatch:
    """What one update is made of on this rank."""

    epoch: int
    """From 0."""
    micro_batches: list[Batch]
    """This rank's share."""
    weight: int
    """Weight of the whole global batch, over all ranks."""
    num_samples: int
    """Samples of the whole global batch, over all ranks."""
    learning_rate: float
    started: float
    """`time.perf_counter` when its samples were asked for."""


class Feed:
    """Cuts lists of samples into batches for each rank.

    Args:
        objective: how samples become a batch.
        dataset: where they come from, by their number.
        ranks: the processes that share each list.
        batch_size: samples of a batch, at most.
    """

    def __init__(self, objective: Objective, dataset: Any, ranks: Ranks, batch_size: int) -> None:
        self._objective, self._dataset, self._ranks, self._batch_size = objective, dataset, ranks, batch_size
        self._weights = objective.weights(dataset)

    def weight(self, indices: NDArray[np.int64]) -> int:
        """What these samples weigh together, over all ranks."""
        return int(self._weights[indices].sum())

    def batches(
        self, indices: Sequence[int] | NDArray[np.int64], seed_of: Callable[[int], int] | None = None
    ) -> Iterator[Batch]:
        """This rank's batches of the samples `indices`.

        A share is every `world_size`-th sample: neighbours are alike in length, so all ranks have as much to do. Every
        rank gets as many batches, since all take part in each forward and backward pass: where samples run short, a
        batch of weight 0 stands in.

        Args:
            indices: the samples of all ranks together.
            seed_of: number of a batch, over all ranks -> the seed of every draw made for it; None: nothing is drawn.
        """
        rank, world, size = self._ranks.rank, self._ranks.world_size, self._batch_size
        share = indices[rank::world]
        for number in range(-(-len(indices) // (world * size))):
            seed = seed_of(number * world + rank) if seed_of else 0
            if seed_of:
                seed_everything(seed, self._ranks.device)
            chosen = share[number * size : (number + 1) * size]
            if len(chosen):
                yield replace(self._objective.collate([self._dataset[int(i)] for i in chosen]), seed=seed)
            else:
                stand_in = self._objective.collate([self._dataset[int(indices[0])]])
                yield replace(stand_in, weight=0, tokens=0, num_samples=0, seed=seed)

    def hash(self, batch: GlobalBatch) -> str:
        """16 hex digits of all ranks' samples of an update, whichever rank has them, in whichever order."""
        own = (number for part in batch.micro_batches if part.weight for number in self._objective.hashes(part))
        return batch_hash(*self._ranks.total(halves(own)))
