"""Batches of a rank's share of the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.machine.ranks import Ranks
from training.machine.seeding import seed_everything
from training.tasks.batch_plan import mix
from training.tasks.fingerprints import batch_hash, halves
from training.tasks.objective import Batch, Objective


@dataclass(frozen=True)
class GlobalBatch:
    """Batches of one update on this rank."""

    epoch: int
    """Epoch, counted from 0."""
    micro_batches: list[Batch]
    """Batches of this rank's share."""
    weight: int
    """Total weight of the global batch, over all ranks."""
    num_samples: int
    """Number of samples of the global batch, over all ranks."""
    learning_rate: float
    started: float
    """Value of `time.perf_counter` when its samples were requested."""


class Feed:
    """Source of a rank's batches: it cuts lists of samples into batches for each rank.

    Args:
        objective: how samples become a batch.
        dataset: dataset of the samples, indexed by their numbers. If it has a method `drawn(index, seed)`, samples come
            from there: their random draws (crops, noise) are then a function of the sample and of the seed, the same
            for any number of ranks and any size of batches.
        ranks: the processes that share each list.
        batch_size: largest number of samples of a batch.
    """

    def __init__(self, objective: Objective, dataset: Any, ranks: Ranks, batch_size: int) -> None:
        self._objective, self._dataset, self._ranks, self._batch_size = objective, dataset, ranks, batch_size
        self._weights = objective.weights(dataset)
        self._drawn: Callable[[int, int], Any] | None = getattr(dataset, "drawn", None)

    def weight(self, indices: NDArray[np.int64]) -> int:
        """Return the total weight of these samples, over all ranks."""
        return int(self._weights[indices].sum())

    def batches(
        self,
        indices: Sequence[int] | NDArray[np.int64],
        seed_of: Callable[[int], int] | None = None,
        seed_of_sample: Callable[[int], int] = mix,
    ) -> Iterator[Batch]:
        """Yield this rank's batches of the samples `indices`.

        A share is every `world_size`-th sample: neighbours are similar in length, so all ranks have the same amount of
        work. Every rank gets the same number of batches, since all take part in each forward and backward pass: a rank
        without samples gets a batch of weight 0.

        Args:
            indices: sample numbers of all ranks together.
            seed_of: function from a batch's number, over all ranks, to the seed of its random draws; None: no draws.
            seed_of_sample: function from a sample's number to the seed of its own draws, for a dataset that has
                `drawn`.
        """
        rank, world, size = self._ranks.rank, self._ranks.world_size, self._batch_size
        share = indices[rank::world]
        for number in range(-(-len(indices) // (world * size))):
            seed = seed_of(number * world + rank) if seed_of else 0
            if seed_of:
                seed_everything(seed, self._ranks.device)
            chosen = share[number * size : (number + 1) * size]
            if len(chosen):
                samples = [self._sample(int(i), seed_of_sample) for i in chosen]
                yield replace(self._objective.collate(samples), seed=seed)
            else:
                stand_in = self._objective.collate([self._sample(int(indices[0]), seed_of_sample)])
                yield replace(stand_in, weight=0, tokens=0, num_samples=0, seed=seed)

    def _sample(self, index: int, seed_of_sample: Callable[[int], int]) -> Any:
        if self._drawn is None:
            return self._dataset[index]
        return self._drawn(index, seed_of_sample(index))

    def hash(self, batch: GlobalBatch) -> str:
        """Return 16 hex digits of the samples of an update, independent of their order and of their ranks."""
        own = (number for part in batch.micro_batches if part.weight for number in self._objective.hashes(part))
        return batch_hash(*self._ranks.total(halves(own)))
