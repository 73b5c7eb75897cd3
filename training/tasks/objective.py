"""Protocol of objectives: samples become batches, and batches a loss. Any objective runs in any loop, on any engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.errors import DataError, UserError, kind_of
from training.machine.seeding import seed_everything
from training.models.protocol import ModelFamily
from training.tasks.fingerprints import hash_of_row
from training.tasks.metrics import Metric


@dataclass(frozen=True)
class Batch:
    """Input of one forward pass."""

    tensors: dict[str, Tensor]
    weight: int
    """Divisor of the summed loss: for a language model the answer tokens, known on the host without a GPU transfer."""
    tokens: int
    """Number of tokens read, never padding: the unit of throughput. 0 if samples have no tokens."""
    num_samples: int
    seed: int = 0
    """Seed of every random draw in this batch (dropout): a function of run seed, step and batch index."""

    def to(self, device: torch.device) -> Self:
        """Return the same batch on a device."""
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()}
        return replace(self, tensors=moved)


class LossSum(NamedTuple):
    """Loss and measured metrics of a batch, summed (not averaged) over its weight."""

    loss: Tensor
    """Differentiable scalar."""
    sums: Mapping[str, Tensor] = {}
    """Scalars without gradient, one for each measured metric, such as the number of correctly predicted tokens."""


LossFunction = Callable[[nn.Module, Batch], LossSum]


class Objective(Protocol):
    """Model, batching and loss of a task."""

    @property
    def metrics(self) -> Sequence[Metric]:
        """Declare the metrics. `loss` returns a sum for each one that is measured."""
        ...

    def build_model(self) -> nn.Module:
        """Return a new model; its weights are drawn from torch's global generator, which the caller seeds."""
        ...

    def lengths(self, dataset: Any) -> NDArray[np.int64]:
        """Return the length of each sample, for batches with little padding; zeros if lengths do not matter."""
        ...

    def weights(self, dataset: Any) -> NDArray[np.int64]:
        """Return each sample's part of `Batch.weight`: with it, every rank knows the weight of a whole global batch."""
        ...

    def collate(self, samples: Sequence[Any]) -> Batch:
        """Combine samples into one batch on the CPU."""
        ...

    def hashes(self, batch: Batch) -> Iterator[int]:
        """Yield a 64-bit hash for each sample of a batch on the CPU, independent of the other samples in the batch."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> LossSum:
        """Run the forward pass and sum the loss."""
        ...


class ModuleObjective:
    """Objective for any `nn.Module` and dataset, for notebooks.

    Args:
        model: builds the module; it is called once, after seeding.
        loss: function (module, stacked tensors of a batch) -> summed loss, or (summed loss, {metric: sum over the
            samples}).
        collate: function from samples to named tensors; by default `torch.utils.data.default_collate` on samples that
            are dictionaries.
        metrics: declares the sums that `loss` returns, such as `training.tasks.metrics.ACCURACY`.

    Raises:
        UserError: (any method) a function is none, or gives something else than it should; the message says what.

    Example:
        >>> objective = ModuleObjective(lambda: nn.Linear(4, 1), lambda m, b: ((m(b["x"]) - b["y"]) ** 2).sum())
    """

    def __init__(
        self,
        model: Callable[[], nn.Module],
        loss: Callable[[nn.Module, dict[str, Tensor]], Tensor | tuple[Tensor, Mapping[str, Tensor]]],
        collate: Callable[[list[Any]], dict[str, Tensor]] | None = None,
        metrics: Sequence[Metric] = (),
    ) -> None:
        if isinstance(model, nn.Module) or not callable(model):
            raise UserError(
                f"model is {kind_of(model)}; give a function that builds the module, such as lambda: nn.Linear(4, 1): "
                "its first weights come from the run's seed"
            )
        if not callable(loss):
            raise UserError(f"loss is {kind_of(loss)}; give a function (module, tensors of a batch) -> summed loss")
        self.metrics = tuple(metrics)
        self._model, self._loss, self._collate = model, loss, collate

    def build_model(self) -> nn.Module:
        """Return the user's module."""
        model = self._model()
        if not isinstance(model, nn.Module):
            raise UserError(f"model() returned {kind_of(model)}; it should build and return an nn.Module")
        if any(isinstance(parameter, nn.UninitializedParameter) for parameter in model.parameters()):
            raise UserError("model() returned a module with lazy parameters; give its layers their sizes")
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise UserError("model() returned a module without a parameter that is trained")
        return model

    def lengths(self, dataset: Any) -> NDArray[np.int64]:
        """Return zeros: all samples count as equally long."""
        return np.zeros(len(dataset), dtype=np.int64)

    def weights(self, dataset: Any) -> NDArray[np.int64]:
        """Return ones: all samples have the same weight."""
        return np.ones(len(dataset), dtype=np.int64)

    def collate(self, samples: Sequence[Any]) -> Batch:
        """Collate with the user's function; every sample has weight 1."""
        tensors = self._collate(list(samples)) if self._collate else _stacked(list(samples))
        if not (isinstance(tensors, dict) and all(isinstance(tensor, Tensor) for tensor in tensors.values())):
            advice = "return a dictionary of tensors" if self._collate else "make each sample a dictionary of tensors"
            raise DataError(f"a batch is {kind_of(tensors)} and not named tensors; {advice}, or give another collate")
        return Batch(tensors, weight=len(samples), tokens=0, num_samples=len(samples))

    def hashes(self, batch: Batch) -> Iterator[int]:
        """Yield a hash of each sample's row in every tensor; the user's collation defines the rows."""
        names = sorted(batch.tensors)
        for row in range(batch.num_samples):
            rows = (batch.tensors[name][row].contiguous().reshape(-1).view(torch.uint8) for name in names)
            yield hash_of_row(*(row_of_one.numpy().tobytes() for row_of_one in rows))

    def loss(self, model: nn.Module, batch: Batch) -> LossSum:
        """Compute the user's loss and the sums of the metrics."""
        result = self._loss(model, batch.tensors)
        loss, sums = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
        if not (isinstance(loss, Tensor) and loss.numel() == 1):
            shape = f" of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else ""
            raise UserError(f"loss() returned {kind_of(loss)}{shape}; it should be a tensor with one number, the sum")
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise UserError("loss() returned a tensor without a gradient (detached, or not computed by the module)")
        for name in measured(self.metrics):
            if not (isinstance(sums, Mapping) and isinstance(sums.get(name), Tensor)):
                raise UserError(f"loss() returned no tensor for metric {name!r}; return (loss, {{{name!r}: its sum}})")
        return LossSum(loss, {name: value.detach() for name, value in sums.items() if isinstance(value, Tensor)})


def _stacked(samples: list[Any]) -> Any:
    """Stack samples by torch's own collation.

    Raises:
        DataError: it cannot stack them.
    """
    try:
        return torch.utils.data.default_collate(samples)
    except (RuntimeError, TypeError, KeyError, ValueError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"the samples cannot be stacked ({reason}); make each a dictionary of tensors of the same shapes, or give "
            "ModuleObjective a collate"
        ) from error


def measured(metrics: Sequence[Metric]) -> tuple[str, ...]:
    """Return the names of the metrics for which an objective returns sums for a training batch, in order."""
    return tuple(metric.name for metric in metrics if metric.in_updates)


def seeded_model(objective: Objective, family: ModelFamily, seed: int, gradient_checkpointing: bool) -> nn.Module:
    """Build the objective's model with the initial weights of a run.

    Raises:
        ConfigError: gradient checkpointing is not possible with this model.
    """
    seed_everything(seed)
    model = objective.build_model()
    if gradient_checkpointing:
        family.recompute_activations(model)
    return model
