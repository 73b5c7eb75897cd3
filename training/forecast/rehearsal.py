"""A few updates of a run before it starts: the trainer itself, on the run's own batches, in a temporary directory.

One process stands for a rank: it trains that rank's share of the global batch with plain torch, whatever the backend.
What several ranks add (communication, DeepSpeed's own bookkeeping) is therefore not in what is measured.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from training.backends.placement import Placement
from training.checkpoints.finished_model import TrainedModel, save_final_model
from training.engines.protocol import Engine
from training.engines.torch_engine import TorchEngine
from training.loop.callbacks import Callback, RunView
from training.loop.trainer import Trainer
from training.machine.device import pick_device, pick_precision
from training.machine.hardware import count_cores
from training.machine.ranks import Ranks
from training.machine.usage import peak_memory, restart_peak
from training.models.protocol import ModelFamily
from training.settings.tree import TrainingConfig
from training.tasks.protocol import task_of
from training.tasks.rank_batches import Feed

if TYPE_CHECKING:
    from training.engines.results import UpdateResult

WARMUP_UPDATES = 3
"""Timed apart: first use of kernels, first growth of the allocator's pools. A run has them once."""
MIN_UPDATES, MAX_UPDATES = 8, 48
SECONDS_OF_UPDATES = 12.0
"""Timed updates go on for this long, within the two limits."""
MAX_EVALUATION_BATCHES = 16


@dataclass(frozen=True)
class Calibration:
    """What was measured."""

    build_seconds: float
    """From the data in memory to the first update."""
    steps: list[int]
    """Number of each timed update, from 0, in `trainer.plan`."""
    seconds: list[float]
    """What each took, data and record included."""
    warmup: list[float]
    """What the updates before them took, from 0 on."""
    checkpoint_seconds: float
    checkpoint_bytes: int
    evaluation_seconds: float
    """Of one pass over the validation data; 0 without."""
    final_seconds: float
    """Of writing the finished model in its two forms."""
    peak_bytes: int
    """Of this process, by the end of a checkpoint."""
    was_stopped: int
    """Exit code of a run that a signal stopped; 0: it was not."""


class _Stopwatch(Callback):
    """Times updates and the checkpoint at the end."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.checkpoint_seconds = 0.0
        self.checkpoint_bytes = 0
        self.began = self._last = self._first = 0.0

    def on_run_start(self, trainer: RunView) -> None:
        """See `Callback`."""
        self.began = self._last = time.perf_counter()

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        """See `Callback`."""
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now
        if len(self.seconds) == WARMUP_UPDATES:
            self._first = now
        timed = len(self.seconds) - WARMUP_UPDATES
        if timed >= MAX_UPDATES or (timed >= MIN_UPDATES and now - self._first > SECONDS_OF_UPDATES):
            trainer.stop()

    def on_checkpoint(self, trainer: RunView, path: Path) -> None:
        """See `Callback`."""
        self.checkpoint_seconds = time.perf_counter() - self._last
        self.checkpoint_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


class Rehearsal:
    """The data and the settings of a run, read once, and a stand-in for one of its ranks.

    Args:
        config: resolved settings of the run.
        placement: how it lies on its ranks.

    Raises:
        UserError: data or settings that the run itself would refuse.
    """

    def __init__(self, config: TrainingConfig, placement: Placement) -> None:
        self.device = pick_device(placement.device)
        precision = pick_precision(config.run.precision, self.device)
        threads = placement.num_threads
        if threads is None and placement.ranks_here > 1:
            threads = max(1, count_cores() // placement.ranks_here)
        if threads is not None:
            torch.set_num_threads(threads)
        self._placement = placement
        run = config.run.model_copy(update={"precision": precision})
        self.prepared = task_of(config).prepare(config.model_copy(update={"run": run}))
        self.config = self.prepared.config

    def rank_config(self, run_dir: Path) -> TrainingConfig:
        """Settings of one process that trains a rank's share: as many samples as a rank has, chosen as the run would.

        The run's windows are sorted by length and dealt out sample by sample, so a share has the lengths of a window
        that many times as many batches long.
        """
        run, ranks = self.config.run, self._placement.ranks
        share = -(-run.samples_per_update // ranks)
        changed = run.model_copy(update={
            "run_dir": run_dir, "global_batch_size": share, "gradient_accumulation_steps": None, "max_steps": None,
            "epochs": WARMUP_UPDATES + MAX_UPDATES + 1,
        })  # fmt: skip
        checkpoint = self.config.checkpoint.model_copy(update={
            "save_interval": None, "save_steps": None, "keep_best": False, "early_stopping_patience": None,
            "load_best_model_at_end": False, "snapshots": 0,
        })  # fmt: skip
        data = self.config.data.model_copy(update={"length_window": self.config.data.length_window * ranks})
        return self.config.model_copy(update={"run": changed, "checkpoint": checkpoint, "data": data})

    def calibrate(self) -> tuple[Trainer, Calibration]:
        """Train a few updates, save and evaluate once; all that was written is gone afterwards.

        Raises:
            UserError: the updates fail as the run's would, or the temporary directory is full.
        """
        ranks = Ranks(self.device)
        watch = _Stopwatch()
        restart_peak(self.device.type)
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="apt-estimate-", ignore_cleanup_errors=True) as folder:
            trainer = Trainer.of(
                replace(self.prepared, config=self.rank_config(Path(folder) / "run"), validation=None),
                make_engine=lambda model, config, family: self._engine(model, config, family, ranks),
                ranks=ranks,
                callbacks=[watch],
            )
            result = trainer.train()
            evaluation_seconds = self._evaluate(trainer)
            peak = peak_memory(self.device.type)
            final_seconds = self._write_final_model(trainer)
        timed = watch.seconds[WARMUP_UPDATES:] or watch.seconds
        first = len(watch.seconds) - len(timed)
        return trainer, Calibration(
            build_seconds=watch.began - started,
            steps=list(range(first, len(watch.seconds))),
            seconds=timed,
            warmup=watch.seconds[:first],
            checkpoint_seconds=watch.checkpoint_seconds,
            checkpoint_bytes=watch.checkpoint_bytes,
            evaluation_seconds=evaluation_seconds,
            final_seconds=final_seconds,
            peak_bytes=peak,
            was_stopped=result.exit_code,
        )

    def _engine(self, model: nn.Module, config: TrainingConfig, family: ModelFamily, ranks: Ranks) -> Engine:
        return TorchEngine(model, config, ranks, family, self._placement.compiled)

    def _write_final_model(self, trainer: Trainer) -> float:
        """Write the finished model into the temporary directory; return the seconds that it takes."""
        prepared = self.prepared
        trained = TrainedModel(
            trainer.engine.model(), prepared.family, self.config.model, prepared.vocabulary,
            trainer.directory.portable_model, prepared.artefacts,
        )  # fmt: skip
        started = time.perf_counter()
        save_final_model(trainer.directory, trained, trainer.config, trainer.step)
        return time.perf_counter() - started

    def _evaluate(self, trainer: Trainer) -> float:
        """Return the seconds of a pass over a rank's validation data, from evenly chosen samples of it."""
        validation, objective = self.prepared.validation, self.prepared.objective
        if validation is None:
            return 0.0
        order = sorted(range(len(validation)), key=objective.lengths(validation).__getitem__)
        share = -(-len(order) // self._placement.ranks)
        most = min(share, MAX_EVALUATION_BATCHES * self.config.run.batch_size)
        chosen = [order[i * len(order) // most] for i in range(most)]
        batches = Feed(objective, validation, trainer.ranks, self.config.run.batch_size).batches(chosen)
        started = time.perf_counter()
        trainer.engine.evaluate(batches, objective.loss)
        return (time.perf_counter() - started) * share / most
