"""What an engine is: it holds the model in training and makes whole optimizer updates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from training.engines.results import EvaluationResult, UpdateResult
from training.machine.ranks import Ranks
from training.tasks.objective import Batch, LossFunction


class Engine(Protocol):
    """What holds the model in training. Every method is collective: all ranks call it, in the same order."""

    ranks: Ranks
    layout: Mapping[str, Any]
    """How the state is spread over the ranks, as plain data, as far as that changes the order of sums: ZeRO's stage."""

    def evaluate(self, batches: Iterable[Batch], loss: LossFunction) -> EvaluationResult:
        """Measure without training; each rank brings its own batches, the result is of all."""
        ...

    def model(self) -> nn.Module:
        """The bare module with all weights, on rank 0 at least."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on, as plain data and whole tensors by parameter name.

        `{"model": …, "optimizers": {"adamw": {name: {…}}, …}, …}`: the same form whatever the engine, so that any
        engine with any number of ranks goes on from it. Complete on rank 0; other ranks may get an empty one.
        """
        ...

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from a saved state, which every rank brings whole."""
        ...

    def save_extra(self, directory: Path) -> None:
        """Write what else the engine's own tools want to find in a checkpoint directory."""
        ...


class UpdatingEngine(Engine, Protocol):
    """An engine that our own loop drives: it makes whole updates."""

    def update(
        self, micro_batches: Sequence[Batch], loss: LossFunction, learning_rate: float, weight: int
    ) -> UpdateResult:
        """Train on one global batch.

        Args:
            micro_batches: this rank's share, as many on each rank. A batch of weight 0 takes part in every forward and
                backward pass and adds nothing.
            loss: summed loss of one micro-batch.
            learning_rate: of this update.
            weight: of the whole global batch, over all ranks: gradients are normalised by it.
        """
        ...
