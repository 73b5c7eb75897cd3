"""Protocol of engines: an engine holds the model in training and makes whole optimizer updates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from training.engines.results import EvaluationResult, UpdateResult
from training.machine.ranks import Ranks
from training.tasks.objective import Batch, LossFunction


class Engine(Protocol):
    """Holder of the model in training. Every method is collective: all ranks call it, in the same order."""

    ranks: Ranks
    layout: Mapping[str, Any]
    """Distribution of the state over the ranks, as plain data, as far as it changes the order of sums: ZeRO's stage."""

    def evaluate(self, batches: Iterable[Batch], loss: LossFunction) -> EvaluationResult:
        """Measure without training; each rank passes its own batches, the result covers all of them."""
        ...

    def model(self) -> nn.Module:
        """Return the bare module with all weights, at least on rank 0."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next update depends on, as plain data and whole tensors by parameter name.

        `{"model": …, "optimizers": {"adamw": {name: {…}}, …}, …}`: the same form for every engine, so that any engine
        with any number of ranks can continue from it. It is complete on rank 0; other ranks may get an empty one.
        """
        ...

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore a saved state, which every rank passes whole."""
        ...

    def save_extra(self, directory: Path) -> None:
        """Write the additional files that tools of the engine's library expect in a checkpoint directory."""
        ...


class UpdatingEngine(Engine, Protocol):
    """Engine for our own loop: it makes whole updates."""

    def update(
        self, micro_batches: Sequence[Batch], loss: LossFunction, learning_rate: float, weight: int
    ) -> UpdateResult:
        """Train on one global batch.

        Args:
            micro_batches: this rank's share, the same number on each rank. A batch of weight 0 takes part in every
                forward and backward pass and adds nothing.
            loss: function that sums the loss of one micro-batch.
            learning_rate: learning rate of this update.
            weight: weight of the global batch, over all ranks: gradients are divided by it.
        """
        ...
