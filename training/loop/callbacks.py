"""Hooks into a run. Override the methods that you need; by default each does nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import nn

    from training.checkpoints.run_directory import RunDirectory
    from training.engines.protocol import Engine
    from training.engines.results import EvaluationResult, UpdateResult
    from training.machine.ranks import Ranks
    from training.record.reporter import ProgressReporter
    from training.settings.tree import TrainingConfig
    from training.tasks.batch_plan import BatchPlan
    from training.tasks.objective import Objective


class RunView(Protocol):
    """Interface of a run for callbacks; the trainer implements it."""

    config: TrainingConfig
    """Resolved settings."""
    objective: Objective
    engine: Engine
    ranks: Ranks
    plan: BatchPlan
    """Plan of the samples of every global batch."""
    reporter: ProgressReporter
    directory: RunDirectory
    step: int
    """Number of updates done."""
    total_steps: int
    num_parameters: int
    train_dataset: Any

    def evaluated_model(self) -> nn.Module:
        """Return the network that is validated, shown and published, at least on rank 0. Collective.

        It is the one in training, or, with `ema_decay`, a copy with the averaged weights.
        """
        ...

    def stop(self) -> None:
        """Request an orderly stop after the current update."""
        ...

    def save(self) -> None:
        """Write a checkpoint of this step, unless one exists. Collective."""
        ...


class Callback:
    """Hooks that the trainer calls on the main rank. An error in a hook ends the run: it is the user's own code.

    `trainer.stop()` requests an orderly stop: the run writes a checkpoint and can be resumed. State that a callback
    needs to continue after a kill is returned from `state_dict`; every checkpoint keeps it.
    """

    on_every_rank: ClassVar[bool] = False
    """True: called on all ranks, for collective work such as gathering weights that are spread over the ranks."""

    def on_run_start(self, trainer: RunView) -> None:
        """Run before the first update, and after a checkpoint was loaded."""

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        """Run after each optimizer update (`trainer.step` already counts it)."""

    def on_epoch(self, trainer: RunView, epoch: int) -> None:
        """Run at the end of an epoch, counted from 1, after its evaluation."""

    def on_evaluation(self, trainer: RunView, result: EvaluationResult) -> None:
        """Run after the validation data was measured."""

    def on_checkpoint(self, trainer: RunView, path: Path) -> None:
        """Run once a checkpoint is safely on disk."""

    def on_run_end(self, trainer: RunView, figures: Mapping[str, Any]) -> None:
        """Run after the run finished or was stopped.

        Args:
            figures: `state` (`finished` or `stopped`) and `reason`.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return plain data and tensors to keep in a checkpoint; empty: nothing to keep.

        It is called on rank 0, after `on_step` of the update before the checkpoint.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. Called on every rank before `on_run_start`, if there is a state."""
