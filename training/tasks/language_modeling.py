"""Language modelling: prediction of some of the tokens of each sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from training.models.protocol import ModelFamily
from training.settings.tree import ModelOptions
from training.tasks.fingerprints import hash_of_row
from training.tasks.metrics import ACCURACY, LANGUAGE_METRICS, Metric
from training.tasks.objective import Batch, LossSum
from training.tasks.token_dataset import EncodedSample


class LanguageModeling:
    """Objective: prediction of the next token at every position with a loss.

    Args:
        family: builds the network and computes its logits.
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

        `tokens` (B, T) int64 does not contain each row's last token: nothing is predicted from it. `positions` (N,)
        int64 are indices into the flattened (B·T), `targets` (N,) int64 the tokens to predict there. Neither contains
        padding, and no position is the last token of a sample.

        If a row holds several packed samples, there are two more tensors (B, T): `position_ids` int64 counts from 0
        in each sample, `segments` int32 numbers the samples of a row from 1; both are 0 at padding. A token may
        attend to earlier ones of its own segment only.

        Raises:
            ValueError: the first token of a sample is marked as trained: nothing of its own sample predicts it.
        """
        lengths_B = np.array([len(sample.tokens) for sample in samples])
        width = int(lengths_B.max()) - 1
        tokens_BT = np.full((len(samples), width), self.pad_id, dtype=np.int64)
        for row, sample in enumerate(samples):
            tokens_BT[row, : len(sample.tokens) - 1] = sample.tokens[:-1]
        offsets_B = np.cumsum(lengths_B) - lengths_B
        trained = np.concatenate([sample.trained for sample in samples])
        is_packed = any(len(sample.starts) > 1 for sample in samples)
        if trained[offsets_B].any() or (is_packed and any(s.trained[list(s.starts)].any() for s in samples)):
            raise ValueError("the first token of a sample is marked as trained; nothing predicts it")
        trained_N = trained.nonzero()[0]
        rows_N = np.searchsorted(offsets_B, trained_N, side="right") - 1
        positions_N = trained_N + (np.arange(len(samples)) * width - offsets_B - 1)[rows_N]
        targets_N = np.concatenate([sample.tokens for sample in samples])[trained_N].astype(np.int64)
        tensors = {
            "tokens": torch.from_numpy(tokens_BT),
            "positions": torch.from_numpy(positions_N),
            "targets": torch.from_numpy(targets_N),
        }
        if is_packed:
            tensors |= _packed(samples, width)
        read = int(lengths_B.sum()) - len(samples)
        return Batch(tensors, weight=len(positions_N), tokens=read, num_samples=len(samples))

    def hashes(self, batch: Batch) -> Iterator[int]:
        """Yield a hash of each row: its tokens, the positions with a loss and the targets there.

        Of a row with several packed samples the hash also covers which token belongs to which sample. A row with one
        has the same hash in every batch. Tokens behind the last position with a loss change nothing and do not count.
        """
        tokens_BT, positions_N = batch.tensors["tokens"], batch.tensors["positions"]
        segments_BT = batch.tensors.get("segments")
        width = tokens_BT.shape[1]
        rows_N = positions_N // max(width, 1)
        for row, tokens_T in enumerate(tokens_BT):
            mine = rows_N == row
            places, targets = positions_N[mine] - row * width, batch.tensors["targets"][mine]
            # Padding begins behind the last predicted position.
            length = int(places[-1]) + 1 if len(places) else 0
            pieces = [tokens_T[:length], places, targets]
            if segments_BT is not None and length and int(segments_BT[row, length - 1]) > 1:
                pieces.append(segments_BT[row, :length])
            yield hash_of_row(*(tensor.numpy().tobytes() for tensor in pieces))

    def loss(self, model: nn.Module, batch: Batch) -> LossSum:
        """Sum the cross-entropy over the positions with a loss, in fp32; logits are computed only at those positions.

        In training mode labels are smoothed if the option is set; an evaluation always uses the true labels.
        """
        logits_NV = self.family.logits(model, batch.tensors).float()
        targets_N = batch.tensors["targets"]
        smoothing = self.label_smoothing if model.training else 0.0
        loss = F.cross_entropy(logits_NV, targets_N, reduction="sum", label_smoothing=smoothing)
        return LossSum(loss, {ACCURACY.name: (logits_NV.detach().argmax(dim=-1) == targets_N).sum()})


def _packed(samples: Sequence[EncodedSample], width: int) -> dict[str, Tensor]:
    """Return the tensors by which packed samples do not see each other; see `LanguageModeling.collate`."""
    position_ids_BT = np.zeros((len(samples), width), dtype=np.int64)
    segments_BT = np.zeros((len(samples), width), dtype=np.int32)
    for row, sample in enumerate(samples):
        read = len(sample.tokens) - 1
        starts = np.array(sample.starts, dtype=np.int64)
        lengths = np.diff(starts, append=len(sample.tokens))
        position_ids_BT[row, :read] = np.arange(read) - np.repeat(starts, lengths)[:read]
        segments_BT[row, :read] = np.repeat(np.arange(1, len(starts) + 1), lengths)[:read]
    return {"position_ids": torch.from_numpy(position_ids_BT), "segments": torch.from_numpy(segments_BT)}
