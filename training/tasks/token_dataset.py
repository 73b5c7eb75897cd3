"""Dataset of token sequences in flat arrays: a million samples in a few hundred megabytes. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class EncodedSample(NamedTuple):
    """Sequence of token ids."""

    tokens: NDArray[np.int32]
    loss_start: int
    """Index of the first token with a loss (at least 1: nothing predicts the first token)."""


class TokenDataset:
    """Dataset of token sequences: `dataset[i]` is an `EncodedSample`.

    `dataset.lengths` holds the samples' lengths in tokens, `dataset.weights` the number of tokens with a loss; both
    int64 (N,).

    Args:
        sequences: ids of each sample, two or more each.
        loss_starts: index of the first token with a loss of each sample.
    """

    def __init__(self, sequences: Sequence[NDArray[np.int32]], loss_starts: Sequence[int]) -> None:
        self.lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        self._ends = np.cumsum(self.lengths)
        self._tokens = np.concatenate(sequences)
        self._starts = np.array(loss_starts, dtype=np.int32)
        self.weights = self.lengths - self._starts

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> EncodedSample:
        end = int(self._ends[index])
        return EncodedSample(self._tokens[end - int(self.lengths[index]) : end], int(self._starts[index]))
