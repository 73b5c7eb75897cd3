"""Broken engines; see apt_faulty_backends.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from training.engines.results import UpdateResult
from training.engines.torch_engine import TorchEngine
from training.machine.ranks import Ranks
from training.models.protocol import ModelFamily
from training.settings.tree import TrainingConfig
from training.tasks.objective import Batch, LossFunction, LossSum


def with_optimizer(config: TrainingConfig, **settings: Any) -> TrainingConfig:
    """The config with other settings of the optimizer."""
    return config.model_copy(update={"optimizer": config.optimizer.model_copy(update=settings)})


def with_gradient_times(loss: Tensor, factor: float) -> Tensor:
    """The same value, with `factor` times its gradient."""
    scaled = loss * factor
    return loss.detach() + (scaled - scaled.detach())


class ReweightedEngine(TorchEngine):
    """An engine that gives a micro-batch another weight than its tokens'."""

    def reweighted(self, loss: Tensor, factor: float) -> Tensor:
        """The loss of a micro-batch that should count `factor` times."""
        return loss * factor

    def factor(self, batch: Batch, micro_batches: Sequence[Batch], weight: int) -> float:
        """How often a micro-batch counts."""
        return weight / (batch.weight * len(micro_batches) * self.ranks.world_size)

    def update(
        self, micro_batches: Sequence[Batch], loss: LossFunction, learning_rate: float, weight: int
    ) -> UpdateResult:
        """See `UpdatingEngine.update`."""

        def faulty(model: nn.Module, batch: Batch) -> LossSum:
            right = loss(model, batch)
            if not batch.weight:
                return right
            return LossSum(self.reweighted(right.loss, self.factor(batch, micro_batches, weight)), right.sums)

        return super().update(micro_batches, faulty, learning_rate, weight)


class MeanOfMeans(ReweightedEngine):
    """Each micro-batch counts alike."""


class MeanOfMeansUnseen(ReweightedEngine):
    """Each micro-batch counts alike in the gradient."""

    def reweighted(self, loss: Tensor, factor: float) -> Tensor:
        """The right value, the wrong gradient."""
        return with_gradient_times(loss, factor)


class SummedOverRanks(MeanOfMeansUnseen):
    """The gradient is the sum over the ranks."""

    def factor(self, batch: Batch, micro_batches: Sequence[Batch], weight: int) -> float:
        """One rank too many for each."""
        return float(self.ranks.world_size)


class HalfPrecision(TorchEngine):
    """Computes in bf16."""

    def __init__(self, model: nn.Module, config: TrainingConfig, ranks: Ranks, family: ModelFamily) -> None:
        run = config.run.model_copy(update={"precision": "bf16"})
        super().__init__(model, config.model_copy(update={"run": run}), ranks, family)


class RanksApart(TorchEngine):
    """Never exchanges gradients."""

    def update(
        self, micro_batches: Sequence[Batch], loss: LossFunction, learning_rate: float, weight: int
    ) -> UpdateResult:
        """See `UpdatingEngine.update`."""
        assert self._ddp is not None, "it needs ranks to keep apart"
        with self._ddp.no_sync():
            return super().update(micro_batches, loss, learning_rate, weight)


class Uncleared(TorchEngine):
    """Adds each gradient to the one before."""

    def __init__(self, model: nn.Module, config: TrainingConfig, ranks: Ranks, family: ModelFamily) -> None:
        super().__init__(model, config, ranks, family)
        clear: Callable[[], None] = lambda: None  # noqa: E731
        setattr(self._optimizers, "zero_grad", clear)  # noqa: B010  # mypy minds a method that is assigned to


class WrongBetas(TorchEngine):
    """AdamW with torch's default second beta."""

    def __init__(self, model: nn.Module, config: TrainingConfig, ranks: Ranks, family: ModelFamily) -> None:
        super().__init__(model, with_optimizer(config, adam_beta2=0.999), ranks, family)


class Unclipped(TorchEngine):
    """Never clips."""

    def __init__(self, model: nn.Module, config: TrainingConfig, ranks: Ranks, family: ModelFamily) -> None:
        super().__init__(model, with_optimizer(config, max_grad_norm=None), ranks, family)


class DecayOnAll(TorchEngine):
    """Norms decay too."""

    def __init__(self, model: nn.Module, config: TrainingConfig, ranks: Ranks, family: ModelFamily) -> None:
        super().__init__(model, config, ranks, family)
        for optimizer in self._optimizers.optimizers.values():
            for group in optimizer.param_groups:
                group["weight_decay"] = config.optimizer.weight_decay


class StaleRate(TorchEngine):
    """Steps with the learning rate of the update before."""

    def __init__(self, model: nn.Module, config: TrainingConfig, ranks: Ranks, family: ModelFamily) -> None:
        super().__init__(model, config, ranks, family)
        self._rate: float | None = None

    def update(
        self, micro_batches: Sequence[Batch], loss: LossFunction, learning_rate: float, weight: int
    ) -> UpdateResult:
        """See `UpdatingEngine.update`."""
        stale, self._rate = self._rate or learning_rate, learning_rate
        return super().update(micro_batches, loss, stale, weight)


class MomentsLost(TorchEngine):
    """Reads weights only."""

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """See `Engine.load_state_dict`."""
        super().load_state_dict({**saved, "optimizers": {name: {} for name in saved["optimizers"]}})


class RoundedOnLoading(TorchEngine):
    """Reads weights as bf16."""

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """See `Engine.load_state_dict`."""
        rounded = {name: tensor.to(torch.bfloat16).float() for name, tensor in saved["model"].items()}
        super().load_state_dict({**saved, "model": rounded})


class Stops(TorchEngine):
    """Ends the process with exit code 0 in its third update."""

    def __init__(self, model: nn.Module, config: TrainingConfig, ranks: Ranks, family: ModelFamily) -> None:
        super().__init__(model, config, ranks, family)
        self._updates = 0

    def update(
        self, micro_batches: Sequence[Batch], loss: LossFunction, learning_rate: float, weight: int
    ) -> UpdateResult:
        """See `UpdatingEngine.update`."""
        self._updates += 1
        if self._updates == 3:
            os._exit(0)
        return super().update(micro_batches, loss, learning_rate, weight)
