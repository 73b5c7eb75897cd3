"""Dataset of token sequences in flat arrays: a million samples in a few hundred megabytes. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class EncodedSample(NamedTuple):
    """Sequence of token ids: one sample, or several packed into one row."""

    tokens: NDArray[np.int32]
    """Shape (T,)."""
    trained: NDArray[np.bool_]
    """Tokens with a loss, shape (T,). False at every index of `starts`: nothing predicts a sample's first token."""
    starts: tuple[int, ...] = (0,)
    """Index of the first token of each packed sample, ascending; the first is 0."""


class TokenSamples(Protocol):
    """Source of encoded samples, in memory or on a disk."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the samples' lengths in tokens, int64 (N,)."""
        ...

    @property
    def weights(self) -> NDArray[np.int64]:
        """Return the number of tokens with a loss of each sample, int64 (N,)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> EncodedSample: ...


class TokenDataset:
    """Dataset of token sequences: `dataset[i]` is an `EncodedSample`.

    `dataset.lengths` holds the samples' lengths in tokens, `dataset.weights` the number of tokens with a loss; both
    int64 (N,).

    Args:
        sequences: ids of each sample, two or more each.
        loss_starts: index of the first token with a loss of each sample, at least 1; all later ones have a loss too.

    Raises:
        ValueError: a loss starts at a sample's first token, which nothing predicts, or behind its end.
    """

    def __init__(self, sequences: Sequence[NDArray[np.int32]], loss_starts: Sequence[int]) -> None:
        self.lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        starts = np.array(loss_starts, dtype=np.int64)
        if np.any(starts < 1) or np.any(starts > self.lengths):
            wrong = int(np.flatnonzero((starts < 1) | (starts > self.lengths))[0])
            raise ValueError(
                f"sample {wrong}: a loss starts at token {starts[wrong]} of {self.lengths[wrong]}; 1 is the first"
            )
        self._ends = np.cumsum(self.lengths)
        self._tokens = np.concatenate(sequences)
        self._trained = _ranges(self._ends - self.lengths + starts, self._ends, len(self._tokens))
        self.weights = self.lengths - starts

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> EncodedSample:
        end = int(self._ends[index])
        own = slice(end - int(self.lengths[index]), end)
        return EncodedSample(self._tokens[own], self._trained[own])


def _ranges(begins: NDArray[np.int64], ends: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Return which of `size` places lie in a range; ranges do not overlap. It needs one byte for each place."""
    steps = np.zeros(size + 1, dtype=np.int8)
    steps[begins] += 1
    steps[ends] -= 1
    return np.cumsum(steps, dtype=np.int8, out=steps)[:-1].view(np.bool_)
