"""Assignment of samples to batches: a pure function of (seed, epoch, index). No torch.

No random generator is used whose state would have to be saved: a run resumed at update k of epoch e asks for exactly
that update's samples, and so does each of several ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1


def mix(*numbers: int) -> int:
    """Mix numbers into one well-spread 64-bit number (SplitMix64's finaliser, Steele et al. 2014, on each in turn)."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = (state + number * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def shuffled(count: int, seed: int) -> NDArray[np.int64]:
    """Return a permutation of range(count), the same on every machine and with every release of NumPy."""
    x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed & _MASK)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(x ^ (x >> np.uint64(31)), kind="stable")


class BatchPlan:
    """Plan of the global batches of each epoch, with little padding.

    An epoch shuffles all samples, cuts them into windows of `window` global batches, sorts each window by length and
    cuts it into batches of neighbours; the batches are then shuffled. Every sample comes once per epoch. The last,
    smaller batch of an epoch holds the remaining samples.

    Args:
        lengths: length of each sample in tokens, or zeros if it does not matter.
        global_batch_size: samples of one optimizer update, over all ranks and accumulated batches.
        seed: determines the order, together with the epoch.
        window: global batches that are sorted by length together; 1 leaves the order random.
    """

    def __init__(
        self, lengths: Sequence[int] | NDArray[np.int64], global_batch_size: int, seed: int, window: int
    ) -> None:
        self.lengths = np.asarray(lengths, dtype=np.int64)
        if len(self.lengths) == 0:
            raise ValueError("a batch plan needs at least one sample")
        self.global_batch_size = global_batch_size
        self.seed = seed
        self.window = window
        self._order = lru_cache(maxsize=2)(self._epoch_order)

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of optimizer updates per epoch, including the smaller last one."""
        return -(-len(self.lengths) // self.global_batch_size)

    def indices(self, epoch: int, index: int) -> NDArray[np.int64]:
        """Return the sample numbers of global batch `index` of `epoch`, both counted from 0."""
        if not 0 <= index < self.steps_per_epoch:
            raise IndexError(f"epoch has batches 0 to {self.steps_per_epoch - 1}, not {index}")
        order, starts = self._order(epoch)
        start = int(starts[index])
        return order[start : start + self.global_batch_size]

    def _epoch_order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        size, count = self.global_batch_size, len(self.lengths)
        order = shuffled(count, mix(self.seed, epoch, 1))
        if self.window > 1:
            # Only whole batches are sorted; the remainder stays at the end, so that it is a random choice of samples.
            whole = count - count % size if count >= size else count
            window_of = np.arange(whole) // (size * self.window)
            by_window_and_length = np.lexsort((self.lengths[order[:whole]], window_of))
            order = np.concatenate([order[:whole][by_window_and_length], order[whole:]])
        num_whole = count // size
        starts = shuffled(num_whole, mix(self.seed, epoch, 2)) * size
        if count % size:
            starts = np.append(starts, num_whole * size)
        order.setflags(write=False)  # `indices` returns views of it
        return order, starts
