"""Hooks into a run. Override the methods that you need; each does nothing by default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from training.checkpoints.run_directory import RunDirectory
    from training.engines.protocol import Engine
    from training.engines.results import EvaluationResult, UpdateResult
    from training.machine.ranks import Ranks
    from training.record.reporter import ProgressReporter
    from training.settings.tree import TrainingConfig
    from training.tasks.batch_plan import BatchPlan
    from training.tasks.objective import Objective


class RunView(Protocol):
    """The part of a run that callbacks may use; the trainer is one."""

    config: TrainingConfig
    """Resolved settings."""
    objective: Objective
    engine: Engine
    ranks: Ranks
    plan: BatchPlan
    """Samples of every global batch."""
    reporter: ProgressReporter
    directory: RunDirectory
    step: int
    """Updates done."""
    total_steps: int
    num_parameters: int
    train_dataset: Any

    def stop(self) -> None:
        """Ask for an orderly stop after the present update."""
        ...

    def save(self) -> None:
        """Write a checkpoint of this step, unless there is one. Collective."""
        ...


class Callback:
    """Hooks that the trainer calls on the main rank. An error in one ends the run: it is the user's own code.

    `trainer.stop()` asks for an orderly stop: the run writes a checkpoint and can be resumed. What a callback needs in
    order to go on after a kill it returns from `state_dict`; that is kept in every checkpoint.
    """

    on_every_rank: ClassVar[bool] = False
    """Called on all ranks instead: for what they do together, such as gathering weights that are spread over them."""

    def on_run_start(self, trainer: RunView) -> None:
        """Run before the first update, after a checkpoint was loaded."""

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        """Run after each optimizer update (`trainer.step` counts it already)."""

    def on_epoch(self, trainer: RunView, epoch: int) -> None:
        """Run at the end of an epoch, counted from 1, after its evaluation."""

    def on_evaluation(self, trainer: RunView, result: EvaluationResult) -> None:
        """Run after the validation data was measured."""

    def on_checkpoint(self, trainer: RunView, path: Path) -> None:
        """Run once a checkpoint is safely on disk."""

    def on_run_end(self, trainer: RunView, figures: Mapping[str, Any]) -> None:
        """Run after the run finished or was stopped."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain data and tensors to keep in a checkpoint; empty: nothing has to be kept.

        It is asked on rank 0, after `on_step` of the update that the checkpoint follows.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned. Called on every rank before `on_run_start`, if there is a state."""
