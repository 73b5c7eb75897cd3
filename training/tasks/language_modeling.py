"""Language modelling: prediction of some of the tokens of each sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from training.models.protocol import ModelFamily
from training.settings.tree import ModelOptions
from training.tasks.fingerprints import hash_of_row
from training.tasks.metrics import ACCURACY, LANGUAGE_METRICS, Metric
from training.tasks.objective import Batch, LossSum
from training.tasks.token_dataset import EncodedSample


class LanguageModeling:
    """Objective: prediction of the next token at every position with a loss.

    Args:
        family: builds the network, which is called as `model(tokens_BT, positions_N)` and returns logits (N, V).
        options: the network's options, completed with the vocabulary's size.
        vocabulary: number of tokens.
        pad_id: token that fills short rows; it is never read.
        label_smoothing: share of the target's probability that is spread over all tokens during training.
        metrics: metrics that the task declares; accuracy is measured, perplexity follows from the loss.
    """

    def __init__(
        self,
        family: ModelFamily,
        options: ModelOptions,
        vocabulary: int,
        pad_id: int = 0,
        label_smoothing: float = 0.0,
        metrics: Sequence[Metric] = LANGUAGE_METRICS,
    ) -> None:
        self.metrics = tuple(metrics)
        self.family, self.options, self.vocabulary = family, options, vocabulary
        self.pad_id = pad_id
        self.label_smoothing = label_smoothing

    def build_model(self) -> nn.Module:
        """Return a network of the family with new weights."""
        return self.family.build(self.options, self.vocabulary)

    def lengths(self, dataset: Any) -> NDArray[np.int64]:
        """Return the number of tokens of each sample."""
        lengths: NDArray[np.int64] = dataset.lengths
        return lengths

    def weights(self, dataset: Any) -> NDArray[np.int64]:
        """Return the number of tokens with a loss of each sample."""
        weights: NDArray[np.int64] = dataset.weights
        return weights

    def collate(self, samples: Sequence[EncodedSample]) -> Batch:
        """Pad on the right and list the positions that have a loss.

        `tokens` (B, T) int64 does not contain each sample's last token: nothing is predicted from it. `positions` (N,)
        int64 are indices into the flattened (B·T), `targets` (N,) int64 the tokens to predict there. Neither contains
        padding.
        """
        width = max(len(s.tokens) for s in samples) - 1
        tokens_BT = np.full((len(samples), width), self.pad_id, dtype=np.int64)
        positions: list[NDArray[np.int64]] = []
        targets: list[NDArray[np.int32]] = []
        read = 0
        for row, sample in enumerate(samples):
            length = len(sample.tokens)
            tokens_BT[row, : length - 1] = sample.tokens[:-1]
            positions.append(np.arange(row * width + sample.loss_start - 1, row * width + length - 1))
            targets.append(sample.tokens[sample.loss_start :])
            read += length - 1
        positions_N = np.concatenate(positions)
        return Batch(
            tensors={
                "tokens": torch.from_numpy(tokens_BT),
                "positions": torch.from_numpy(positions_N),
                "targets": torch.from_numpy(np.concatenate(targets).astype(np.int64)),
            },
            weight=len(positions_N),
            tokens=read,
            num_samples=len(samples),
        )

    def hashes(self, batch: Batch) -> Iterator[int]:
        """Yield a hash of each sample: its tokens, the positions with a loss and the targets there."""
        tokens_BT, positions_N = batch.tensors["tokens"], batch.tensors["positions"]
        width = tokens_BT.shape[1]
        rows_N = positions_N // width
        for row, tokens_T in enumerate(tokens_BT):
            mine = rows_N == row
            places, targets = positions_N[mine] - row * width, batch.tensors["targets"][mine]
            read = tokens_T[: int(places[-1]) + 1]  # padding begins after the last predicted position
            yield hash_of_row(*(tensor.numpy().tobytes() for tensor in (read, places, targets)))

    def loss(self, model: nn.Module, batch: Batch) -> LossSum:
        """Sum the cross-entropy over the positions with a loss, in fp32; logits are computed only at those positions.

        In training mode labels are smoothed if the option is set; an evaluation always uses the true labels.
        """
        logits_NV = model(batch.tensors["tokens"], batch.tensors["positions"]).float()
        targets_N = batch.tensors["targets"]
        smoothing = self.label_smoothing if model.training else 0.0
        loss = F.cross_entropy(logits_NV, targets_N, reduction="sum", label_smoothing=smoothing)
        return LossSum(loss, {ACCURACY.name: (logits_NV.detach().argmax(dim=-1) == targets_N).sum()})
