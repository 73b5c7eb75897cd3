"""Packing: several samples in one row, so that rows of unlike samples need little padding. No torch.

Which samples share a row is a pure function of their lengths, so every rank and every resumed run has the same rows.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.tasks.token_dataset import EncodedSample, TokenSamples

_BLOCK = 10
"""Bits of a number that stay within one block of `_Numbers`: a word of 1,024 bits is handled in less than 0.1 µs."""


@dataclass(frozen=True)
class Bins:
    """Bins of samples; `bins[i]` holds the ascending numbers of the samples in bin i, int64."""

    order: NDArray[np.int64]
    """Numbers of all samples, bin after bin, shape (N,)."""
    starts: NDArray[np.int64]
    """Index of each bin's first sample in `order`, shape (R,)."""

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        start = int(self.starts[index])
        if index in (-1, len(self) - 1):
            return self.order[start:]
        return self.order[start : int(self.starts[index + 1])]


def pack(lengths: Sequence[int] | NDArray[np.int64], capacity: int) -> Bins:
    """Distribute samples over few bins: best fit, the longest samples first.

    Each sample goes into the fullest bin that has room for it. Among samples of one length the first goes first, among
    bins of one fill the oldest is taken. It takes O(n log n), a million samples some seconds.

    Args:
        lengths: lengths of the samples, at least 1.
        capacity: largest sum of the lengths in one bin.

    Raises:
        ValueError: a sample is empty, or longer than a bin.
    """
    lengths_N = np.asarray(lengths, dtype=np.int64)
    wrong = np.flatnonzero((lengths_N < 1) | (lengths_N > capacity))
    if len(wrong):
        raise ValueError(f"sample {wrong[0]} has {lengths_N[wrong[0]]} tokens and should have 1 to {capacity}")
    by_length = np.argsort(-lengths_N, kind="stable")
    bin_of_sample = np.empty(len(lengths_N), dtype=np.int64)
    bin_of_sample[by_length] = _best_fit(lengths_N[by_length].tolist(), capacity)
    order = np.argsort(bin_of_sample, kind="stable")
    counts = np.bincount(bin_of_sample)
    return Bins(order, np.cumsum(counts) - counts)


def _best_fit(lengths: list[int], capacity: int) -> list[int]:
    """Return the bin of each sample, for lengths in descending order."""
    rooms = _Numbers()
    bins_with: dict[int, list[int]] = {}
    """Numbers of the bins with this much room, as a heap."""
    chosen: list[int] = []
    opened = 0
    for length in lengths:
        room = rooms.smallest_from(length)
        if room is None:
            number, room = opened, capacity
            opened += 1
        else:
            number = heapq.heappop(bins_with[room])
            if not bins_with[room]:
                rooms.remove(room)
        chosen.append(number)
        if left := room - length:
            same = bins_with.setdefault(left, [])
            if not same:
                rooms.add(left)
            heapq.heappush(same, number)
    return chosen


class _Numbers:
    """Set of whole numbers in which the next larger one is found quickly: bits in blocks, and a bit for each block."""

    def __init__(self) -> None:
        self._blocks: dict[int, int] = {}
        self._used = 0

    def add(self, number: int) -> None:
        block = number >> _BLOCK
        self._blocks[block] = self._blocks.get(block, 0) | 1 << (number & (1 << _BLOCK) - 1)
        self._used |= 1 << block

    def remove(self, number: int) -> None:
        block = number >> _BLOCK
        self._blocks[block] ^= 1 << (number & (1 << _BLOCK) - 1)
        if not self._blocks[block]:
            self._used ^= 1 << block

    def smallest_from(self, number: int) -> int | None:
        """Return the smallest member that is at least `number`; None: there is none."""
        block, within = number >> _BLOCK, number & (1 << _BLOCK) - 1
        rest = self._blocks.get(block, 0) >> within
        if rest:
            return number + _lowest(rest)
        later = self._used >> block + 1
        if not later:
            return None
        block += 1 + _lowest(later)
        return (block << _BLOCK) + _lowest(self._blocks[block])


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


class PackedDataset:
    """Dataset of rows that hold several samples each: `dataset[i]` is an `EncodedSample` with several `starts`.

    `dataset.lengths` holds the rows' lengths in tokens, `dataset.weights` the number of tokens with a loss; both int64
    (R,).

    Args:
        base: the samples.
        capacity: largest number of tokens of a row.

    Raises:
        ValueError: a sample has more tokens, or none.
    """

    def __init__(self, base: TokenSamples, capacity: int) -> None:
        self.base, self.capacity = base, capacity
        self.bins = pack(base.lengths, capacity)
        self.lengths = self._sums(base.lengths)
        self.weights = self._sums(base.weights)

    @property
    def facts(self) -> dict[str, Any]:
        """Return figures for the report: numbers of samples and rows, and the share of the rows that is no padding."""
        rows = len(self)
        fill = float(self.lengths.sum() / (rows * self.capacity)) if rows else 1.0
        return {"samples": len(self.base), "rows": rows, "fill": fill}

    def __len__(self) -> int:
        return len(self.bins)

    def __getitem__(self, index: int) -> EncodedSample:
        samples = [self.base[int(number)] for number in self.bins[index]]
        starts: list[int] = []
        length = 0
        for sample in samples:
            starts.extend(length + start for start in sample.starts)
            length += len(sample.tokens)
        tokens = np.concatenate([sample.tokens for sample in samples])
        return EncodedSample(tokens, np.concatenate([sample.trained for sample in samples]), tuple(starts))

    def _sums(self, of_samples: NDArray[np.int64]) -> NDArray[np.int64]:
        if not len(self):
            return np.zeros(0, dtype=np.int64)
        sums: NDArray[np.int64] = np.add.reduceat(of_samples[self.bins.order], self.bins.starts)
        return sums
