"""Moving average of the trained weights (EMA): measured, kept as the best, shown and published in place of the last.

After the n-th update that was not skipped, each trained weight θ moves its average a:

    a ← d·a + (1 − d)·θ,    d = min(ema_decay, (1 + n) / (10 + n))

The average begins with the first weights; the rising decay (TensorFlow's `ExponentialMovingAverage` with `num_updates`)
lets it forget them in a short run too. Averaging: Polyak and Juditsky 1992; for diffusion arXiv 2006.11239, §4.

The averaged network is a copy of the bare module that shares buffers and frozen parameters with the one in training. It
is evaluated here and not by the engine, so every backend measures the same network in the same way.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from training.checkpoints.averaged_weights import WEIGHTS
from training.engines.evaluation import evaluate_with
from training.engines.results import EvaluationResult, UpdateResult
from training.engines.torch_base import autocast
from training.errors import ConfigError
from training.loop.callbacks import Callback, RunView
from training.machine.ranks import Ranks
from training.settings.tree import Precision
from training.tasks.objective import Batch, LossFunction, LossSum


def decay_after(updates: int, decay: float) -> float:
    """Return the decay of the average at its `updates`-th update, counted from 1: it rises to `decay`.

    Example:
        >>> decay_after(1, 0.999), round(decay_after(8, 0.999), 3), decay_after(100_000, 0.999)
        (0.18181818181818182, 0.5, 0.999)
    """
    return min(decay, (1 + updates) / (10 + updates))


class WeightAverage(Callback):
    """Callback that keeps the average. Each rank has it whole; no random number is drawn.

    Args:
        model: bare module with its first weights, before an engine takes it over.
        decay: decay of the average, in (0, 1).

    Raises:
        ConfigError: the module cannot be copied.
    """

    on_every_rank: ClassVar[bool] = True

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._updates = 0
        try:
            self._module = _copy_of(model).eval()
        except (TypeError, RuntimeError, AttributeError, NotImplementedError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(f"ema_decay = {decay}: this module cannot be copied ({reason}); leave it out") from error

    def on_run_start(self, trainer: RunView) -> None:
        """Bring the average to the device of the weights, and refuse an engine that has no whole weights.

        Raises:
            ConfigError: the weights are spread over the ranks.
        """
        pairs = self._pairs(trainer.engine.model())
        if any(average.shape != weight.shape for average, weight in pairs):
            raise ConfigError(
                f"ema_decay = {self._decay}: the engine spreads the weights over the ranks, and none has them whole to "
                "average; keep them whole (ZeRO stage 2 at most), or leave ema_decay out"
            )
        self._place(pairs)

    @torch.no_grad()
    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        """Move the average towards the new weights, unless the update was skipped."""
        if result.skipped:
            return
        self._updates += 1
        averages, weights = zip(*self._pairs(trainer.engine.model()), strict=True)
        torch._foreach_lerp_(averages, weights, 1.0 - decay_after(self._updates, self._decay))

    def module(self, model: nn.Module) -> nn.Module:
        """Return the network with averaged weights, in eval mode.

        Args:
            model: the bare module in training, whose present buffers and frozen parameters it gets.
        """
        for own, other in zip(self._module.modules(), model.modules(), strict=True):
            # A move to another device makes new buffers, and may make new frozen parameters.
            own._buffers.update(other._buffers)
            frozen = ((n, p) for n, p in other._parameters.items() if p is not None and not p.requires_grad)
            own._parameters.update(frozen)
        self._place(self._pairs(model))
        return self._module

    def evaluate(
        self, model: nn.Module, batches: Iterable[Batch], loss: LossFunction, ranks: Ranks, precision: Precision
    ) -> EvaluationResult:
        """Measure the averaged network; each rank passes its own batches, the result covers all of them. Collective.

        Args:
            model: the bare module in training.
            batches: batches of this rank, on the CPU.
            loss: function that sums the loss of a batch.
            ranks: the processes, and the device of this one.
            precision: arithmetic of the forward pass.
        """
        module = self.module(model)

        def forward(batch: Batch) -> LossSum:
            with autocast(precision, ranks.device):
                return loss(module, batch)

        return evaluate_with(forward, batches, ranks)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights by name, a tied one under each of its names, and the number of updates."""
        trained = {id(parameter) for parameter in self._module.parameters() if parameter.requires_grad}
        entries = self._module.state_dict(keep_vars=True)
        weights = {name: entry.detach() for name, entry in entries.items() if id(entry) in trained}
        return {"updates": self._updates, WEIGHTS: weights}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: it is the average of another model.
        """
        own, saved = self.state_dict()[WEIGHTS], state[WEIGHTS]
        if other := own.keys() ^ saved.keys():
            raise ValueError(f"the model has other trained weights ({min(other)})")
        for name, average in own.items():
            if average.shape != saved[name].shape:
                raise ValueError(f"{name} has the shape {tuple(saved[name].shape)}, here {tuple(average.shape)}")
            average.copy_(saved[name])
        self._updates = state["updates"]

    def _pairs(self, model: nn.Module) -> list[tuple[Tensor, Tensor]]:
        """Return (average, weight in training) of each trained parameter, a tied one once."""
        own = (parameter for parameter in self._module.parameters() if parameter.requires_grad)
        others = (parameter for parameter in model.parameters() if parameter.requires_grad)
        return list(zip(own, others, strict=True))

    @staticmethod
    def _place(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        for average, weight in pairs:
            if average.device != weight.device:
                average.data = average.data.to(weight.device)


def _copy_of(model: nn.Module) -> nn.Module:
    """Copy a module with parameters of its own where they are trained; all other tensors are shared."""
    memo: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    for parameter in model.parameters():
        trained = parameter.requires_grad
        memo[id(parameter)] = nn.Parameter(parameter.detach().clone()) if trained else parameter
    return copy.deepcopy(model, memo)
