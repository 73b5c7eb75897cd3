"""What a running run expects of itself: memory and disk from its settings, time from its first updates.

The report holds these figures beside what came true. Nothing here touches the run's state.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from training.forecast.memory import DeviceKind, checkpoint_bytes, rank_memory, sharing
from training.forecast.update_time import Mix, extra_seconds, fit_pace, largest_of, work_of
from training.loop.callbacks import Callback
from training.models.apt.activations import BatchShape
from training.tasks.protocol import LanguageModeling, Task

if TYPE_CHECKING:
    from training.engines.results import EvaluationResult, UpdateResult
    from training.loop.trainer import Trainer

WARMUP_UPDATES = 3
"""No measure of the others: first use of kernels, first growth of the allocator's pools."""
TIMED_UPDATES = 16


class RunForecast(Callback):
    """Emits `estimate` events: memory and disk at the start, time once a few updates have been timed.

    Args:
        task: an APT's memory is known in closed form, another module's is not.
        dataset: the training data.
    """

    def __init__(self, task: Task, dataset: Any) -> None:
        self._model = task.config if isinstance(task, LanguageModeling) else None
        self._weights = np.asarray(task.weights(dataset))
        self._amounts: list[float] = []
        self._seconds: list[float] = []
        self._last = 0.0

    def on_run_start(self, trainer: Trainer) -> None:
        """Tell `peak_memory_bytes` of a rank and `checkpoint_bytes`, both computed."""
        self._mix = Mix(trainer.plan, self._weights, trainer.config.run.batch_size, trainer.ranks.world_size)
        if self._model is not None:
            updates = self._mix.updates(limit=trainer.total_steps)
            spread = sharing(trainer.config)._replace(ranks=trainer.ranks.world_size)
            device = cast(DeviceKind, trainer.ranks.device.type)
            need = rank_memory(trainer.config, largest_of(updates), max(map(len, updates)), device, spread)
            state = {"peak_memory_bytes": need.peak, "checkpoint_bytes": checkpoint_bytes(trainer.config)}
            trainer.reporter.estimate(trainer.step, state)
        self._last = time.perf_counter()

    def on_step(self, trainer: Trainer, result: UpdateResult) -> None:
        """Time the update; with the last of the first few, tell `training_seconds`: of all updates, from 0 to the end.

        Evaluations and checkpoints are not in it, as they are not in the report's `training_seconds`.
        """
        seconds, self._last = time.perf_counter() - self._last, time.perf_counter()
        if len(self._seconds) == WARMUP_UPDATES + TIMED_UPDATES:
            return
        epoch, index = divmod(trainer.step - 1, trainer.plan.steps_per_epoch)
        self._amounts.append(self._work(self._mix.shapes(epoch, index)))
        self._seconds.append(seconds)
        if len(self._seconds) < WARMUP_UPDATES + TIMED_UPDATES:
            return
        pace = fit_pace(self._amounts[WARMUP_UPDATES:], self._seconds[WARMUP_UPDATES:])
        mean = statistics.fmean(
            pace.seconds(self._work(shapes)) for shapes in self._mix.updates(limit=trainer.total_steps)
        )
        once = extra_seconds(pace, self._amounts[:WARMUP_UPDATES], self._seconds[:WARMUP_UPDATES])
        figures = {
            "training_seconds": round(mean * trainer.total_steps + once, 3),
            "update_ms": round(mean * 1e3, 3),
            "timed_updates": TIMED_UPDATES,
        }
        trainer.reporter.estimate(trainer.step, figures)

    def on_evaluation(self, trainer: Trainer, result: EvaluationResult) -> None:
        """Not a part of the next update."""
        self._last = time.perf_counter()

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        """Not a part of the next update."""
        self._last = time.perf_counter()

    def _work(self, shapes: list[BatchShape]) -> float:
        """Operations of an update; for a module that is not an APT its samples."""
        return work_of(self._model, shapes) if self._model else float(sum(shape.samples for shape in shapes))
