"""What a user can hook into a run. Override what you need; each method does nothing by default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from training.engines.results import EvaluationResult, UpdateResult
    from training.loop.trainer import Trainer


class Callback:
    """Called by the trainer on the main rank. An error in it ends the run: it is the user's own code.

    `trainer.stop()` asks for an orderly stop: the run writes a checkpoint and can be resumed.
    """

    on_every_rank: ClassVar[bool] = False
    """Called on all ranks instead: for what they do together, such as gathering weights that are spread over them."""

    def on_run_start(self, trainer: Trainer) -> None:
        """Before the first update, after a resume has been loaded."""

    def on_step(self, trainer: Trainer, result: UpdateResult) -> None:
        """After each optimizer update (`trainer.step` counts it already)."""

    def on_epoch(self, trainer: Trainer, epoch: int) -> None:
        """At the end of an epoch, counted from 1, after its evaluation."""

    def on_evaluation(self, trainer: Trainer, result: EvaluationResult) -> None:
        """After the validation data was measured."""

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        """A checkpoint is safely on disk."""

    def on_run_end(self, trainer: Trainer, figures: Mapping[str, Any]) -> None:
        """The run finished or was stopped."""
