"""Forecast made by a run of itself: memory and disk from its settings, time from its first updates.

The report shows these figures next to the actual ones. Nothing here changes the run's state.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from training.backends.placement import placement_of
from training.forecast.memory import DeviceKind, checkpoint_bytes, rank_memory
from training.forecast.update_time import Mix, extra_seconds, fit_pace, largest_of
from training.language.messages import Message
from training.loop.callbacks import Callback, RunView
from training.models.cost import BatchShape, work_of
from training.tasks.protocol import Prepared

if TYPE_CHECKING:
    from training.engines.results import EvaluationResult, UpdateResult

WARMUP_UPDATES = 3
"""Number of first updates that are not representative: kernels and the allocator's pools start up in them."""
TIMED_UPDATES = 16


class RunForecast(Callback):
    """Callback that emits `estimate` events: memory and disk at the start, time after a few timed updates.

    Args:
        prepared: objective, data and model family of the run.
    """

    def __init__(self, prepared: Prepared) -> None:
        # Measuring a network without a closed form takes seconds, which would delay the run.
        family = prepared.family
        self._cost = family.cost(prepared.config.model, prepared.vocabulary) if family.has_closed_form else None
        self._weights = np.asarray(prepared.objective.weights(prepared.train))
        self._amounts: list[float] = []
        self._seconds: list[float] = []
        self._last = 0.0

    def on_run_start(self, trainer: RunView) -> None:
        """Report `peak_memory_bytes` of a rank and `checkpoint_bytes`, both computed; say when the time is known."""
        self._mix = Mix(trainer.plan, self._weights, trainer.config.run.batch_size, trainer.ranks.world_size)
        if self._cost is not None:
            updates = self._mix.updates(limit=trainer.total_steps)
            placement = placement_of(trainer.config)._replace(ranks=trainer.ranks.world_size)
            device = cast(DeviceKind, trainer.ranks.device.type)
            largest, most = largest_of(updates), max(map(len, updates))
            need = rank_memory(trainer.config, self._cost, largest, most, device, placement)
            size = checkpoint_bytes(trainer.config, self._cost, placement)
            trainer.reporter.estimate(trainer.step, {"peak_memory_bytes": need.peak, "checkpoint_bytes": size})
        steps = WARMUP_UPDATES + TIMED_UPDATES
        if trainer.total_steps - trainer.step > steps:
            when = Message("time    is measured in the first {steps} steps, and said then", steps=steps)
            trainer.reporter.said([when])
        self._last = time.perf_counter()

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        """Time the update; after the last timed one, report `training_seconds`: of all updates, from 0 to the end.

        Evaluations and checkpoints are not included, as in the report's `training_seconds`.
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

    def on_evaluation(self, trainer: RunView, result: EvaluationResult) -> None:
        """Restart the clock: this time is not part of the next update."""
        self._last = time.perf_counter()

    def on_checkpoint(self, trainer: RunView, path: Path) -> None:
        """Restart the clock: this time is not part of the next update."""
        self._last = time.perf_counter()

    def _work(self, shapes: list[BatchShape]) -> float:
        """Return the operations of an update; the number of its samples if there is no closed form."""
        return work_of(self._cost, shapes) if self._cost else float(sum(shape.samples for shape in shapes))
