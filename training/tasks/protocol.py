"""What is learned: a model, how samples become a batch, and the loss. Any task runs on any backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from apt_model.config import ModelConfig
from apt_model.model import APT
from training.errors import ConfigError
from training.machine.seeding import seed_everything
from training.settings.tree import TrainingConfig
from training.tasks.fingerprints import hash_of_row
from training.tasks.hlbd.dataset import EncodedSample, HLBDDataset


@dataclass(frozen=True)
class Batch:
    """What one forward pass reads."""

    tensors: dict[str, Tensor]
    weight: int
    """What the summed loss is divided by: answer tokens for HLBD, known on the host without asking the GPU."""
    tokens: int
    """Tokens read, never padding: the unit of throughput."""
    num_samples: int
    seed: int = 0
    """Of every draw made for this batch (dropout): a function of run seed, step and number of the batch."""

    def to(self, device: torch.device) -> Self:
        """The same batch on a device."""
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()}
        return replace(self, tensors=moved)


class LossSum(NamedTuple):
    """A batch's loss summed (not averaged) over its weight, with what was right of it."""

    loss: Tensor
    """Scalar that can be differentiated."""
    correct: Tensor
    """Scalar: how many of the weight's tokens the most probable choice got right."""


LossFunction = Callable[[nn.Module, Batch], LossSum]


class Task(Protocol):
    """Model, batching and loss of something that can be learned."""

    def build_model(self) -> nn.Module:
        """A new model; its weights are drawn from torch's global generator, which the caller seeds."""
        ...

    def lengths(self, dataset: Any) -> NDArray[np.int64]:
        """Length of each sample, for batches with little padding; zeros where lengths do not matter."""
        ...

    def weights(self, dataset: Any) -> NDArray[np.int64]:
        """What each sample adds to `Batch.weight`: every rank knows the weight of a whole global batch by it."""
        ...

    def collate(self, samples: Sequence[Any]) -> Batch:
        """Samples to one batch on the CPU."""
        ...

    def hashes(self, batch: Batch) -> Iterator[int]:
        """64 bits for each sample of a batch on the CPU, the same whatever other samples are in the batch."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> LossSum:
        """Forward pass and summed loss."""
        ...


class LanguageModeling:
    """HLBD: predict the answer's tokens (or all tokens) of `[BOS] prompt [SEP] answer [EOS]`."""

    def __init__(self, config: ModelConfig, pad_id: int = 0, label_smoothing: float = 0.0) -> None:
        self.config = config
        self.pad_id = pad_id
        self.label_smoothing = label_smoothing

    def build_model(self) -> APT:
        """An APT with fresh weights."""
        return APT(self.config)

    def lengths(self, dataset: Any) -> NDArray[np.int64]:
        """Tokens of each sample."""
        lengths: NDArray[np.int64] = dataset.lengths
        return lengths

    def weights(self, dataset: Any) -> NDArray[np.int64]:
        """Tokens of each sample that have a loss."""
        weights: NDArray[np.int64] = dataset.weights
        return weights

    def collate(self, samples: Sequence[EncodedSample]) -> Batch:
        """Pad on the right and list the positions that have a loss.

        `tokens` (B, T) int64 lacks each sample's last token: nothing is predicted from it. `positions` (N,) int64 are
        indices into the flattened (B·T), `targets` (N,) int64 the tokens to predict there. Padding is in neither.
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
        """Of each sample's tokens, of where a loss is taken and of what is to be predicted there."""
        tokens_BT, positions_N = batch.tensors["tokens"], batch.tensors["positions"]
        width = tokens_BT.shape[1]
        rows_N = positions_N // width
        for row, tokens_T in enumerate(tokens_BT):
            mine = rows_N == row
            places, targets = positions_N[mine] - row * width, batch.tensors["targets"][mine]
            read = tokens_T[: int(places[-1]) + 1]  # padding begins where nothing more is predicted
            yield hash_of_row(*(tensor.numpy().tobytes() for tensor in (read, places, targets)))

    def loss(self, model: nn.Module, batch: Batch) -> LossSum:
        """Cross-entropy summed over the positions that count, in fp32; logits are made at those positions only.

        A model in training mode gets smoothed labels, if that is asked for; an evaluation is always of the true ones.
        """
        logits_NV = model(batch.tensors["tokens"], batch.tensors["positions"]).float()
        targets_N = batch.tensors["targets"]
        smoothing = self.label_smoothing if model.training else 0.0
        loss = F.cross_entropy(logits_NV, targets_N, reduction="sum", label_smoothing=smoothing)
        return LossSum(loss, (logits_NV.detach().argmax(dim=-1) == targets_N).sum())


def language_modeling_of(config: TrainingConfig, dataset: Any) -> tuple[TrainingConfig, LanguageModeling]:
    """The task of a dataset that brings none, and the config with the vocabulary of its tokenizer.

    Raises:
        ConfigError: it is no `HLBDDataset`.
    """
    if not isinstance(dataset, HLBDDataset):
        raise ConfigError(
            "a dataset of another kind than HLBDDataset needs a task (training.tasks.protocol.ModuleTask)"
        )
    vocab_size = config.model.vocab_size or dataset.tokenizer.vocab_size
    model = config.model.model_copy(update={"vocab_size": vocab_size})
    task = LanguageModeling(model.network(), label_smoothing=config.data.label_smoothing)
    return config.model_copy(update={"model": model}), task


class ModuleTask:
    """Any `nn.Module` and dataset in our loop, for notebooks.

    Args:
        model: builds the module; it is called once, after seeding.
        loss: (module, stacked tensors of a batch) -> summed loss, or (summed loss, number right).
        collate: samples to named tensors; by default `torch.utils.data.default_collate` on samples that are
            dictionaries.
    """

    def __init__(
        self,
        model: Callable[[], nn.Module],
        loss: Callable[[nn.Module, dict[str, Tensor]], Tensor | tuple[Tensor, Tensor]],
        collate: Callable[[list[Any]], dict[str, Tensor]] | None = None,
    ) -> None:
        self._model, self._loss = model, loss
        self._collate = collate or torch.utils.data.default_collate

    def build_model(self) -> nn.Module:
        """The user's module."""
        return self._model()

    def lengths(self, dataset: Any) -> NDArray[np.int64]:
        """Zeros: samples are taken as equally long."""
        return np.zeros(len(dataset), dtype=np.int64)

    def weights(self, dataset: Any) -> NDArray[np.int64]:
        """Ones."""
        return np.ones(len(dataset), dtype=np.int64)

    def collate(self, samples: Sequence[Any]) -> Batch:
        """The user's collation; every sample weighs one."""
        return Batch(self._collate(list(samples)), len(samples), len(samples), len(samples))

    def hashes(self, batch: Batch) -> Iterator[int]:
        """Of each sample's row in every tensor; the user's collation decides what a row is."""
        names = sorted(batch.tensors)
        for row in range(batch.num_samples):
            rows = (batch.tensors[name][row].contiguous().reshape(-1).view(torch.uint8) for name in names)
            yield hash_of_row(*(row_of_one.numpy().tobytes() for row_of_one in rows))

    def loss(self, model: nn.Module, batch: Batch) -> LossSum:
        """The user's loss, with no accuracy where it gives none."""
        result = self._loss(model, batch.tensors)
        if isinstance(result, tuple):
            return LossSum(*result)
        return LossSum(result, torch.zeros((), device=result.device))


def seeded_model(task: Task, seed: int, gradient_checkpointing: bool) -> nn.Module:
    """The task's model with the first weights of a run.

    Raises:
        ConfigError: its activations cannot be recomputed.
    """
    seed_everything(seed)
    model = task.build_model()
    if gradient_checkpointing:
        if not hasattr(model, "gradient_checkpointing"):
            raise ConfigError(f"gradient_checkpointing: {type(model).__name__} has no such switch; turn it off")
        setattr(model, "gradient_checkpointing", True)  # noqa: B010  # mypy takes a module's attributes for tensors
    return model
