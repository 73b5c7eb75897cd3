"""Rehearsal of a run: a few updates by the trainer itself, on the run's own batches, in a temporary directory.

One process represents a rank: it trains that rank's share of the global batch with plain torch, for every backend.
The costs of several ranks (communication, DeepSpeed's own bookkeeping) are therefore not measured.
"""

from __future__ import annotations

import contextlib
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
from training.settings.hub import HubConfig
from training.settings.tracking import TrackConfig
from training.settings.tree import TrainingConfig
from training.tasks.protocol import task_of
from training.tasks.rank_batches import Feed

if TYPE_CHECKING:
    from training.engines.results import UpdateResult

WARMUP_UPDATES = 3
"""Number of first updates, timed separately: kernels and the allocator's pools start up in them, once per run."""
MIN_UPDATES, MAX_UPDATES = 8, 48
SECONDS_OF_UPDATES = 12.0
"""Total duration of timed updates, within the two limits."""
MAX_EVALUATION_BATCHES = 16


@dataclass(frozen=True)
class Calibration:
    """Measurements of a rehearsal."""

    build_seconds: float
    """Time from the data in memory to the first update."""
    steps: list[int]
    """Number of each timed update in `trainer.plan`, from 0."""
    seconds: list[float]
    """Seconds of each, including data and record."""
    warmup: list[float]
    """Seconds of the updates before them, from update 0."""
    checkpoint_seconds: float
    checkpoint_bytes: int
    evaluation_seconds: float
    """Seconds of one pass over the validation data; 0 without it."""
    final_seconds: float
    """Seconds of writing the finished model."""
    final_bytes: int
    """Size of what was written then."""
    peak_bytes: int
    """Peak memory of this process, at the end of a checkpoint."""
    was_stopped: int
    """Exit code if a signal stopped the rehearsal; 0: none did."""


class _Stopwatch(Callback):
    """Callback that times updates and the checkpoint at the end."""

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
    """Data and settings of a run, read once, and a process that represents one of its ranks.

    Args:
        config: resolved settings of the run.
        placement: distribution of the run over its ranks.

    Raises:
        UserError: the run itself would refuse the data or the settings.
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
        """Return the settings of one process that trains a rank's share: as many samples, chosen like the run's.

        The run's windows are sorted by length and distributed sample by sample, so a share has the lengths of a window
        that has as many times the batches as there are ranks.
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
        alone = {"track": TrackConfig(), "hub": HubConfig()}
        return self.config.model_copy(update={"run": changed, "checkpoint": checkpoint, "data": data, **alone})

    def calibrate(self) -> tuple[Trainer, Calibration]:
        """Train a few updates, save and evaluate once; all written files are deleted afterwards.

        Raises:
            UserError: the updates fail as those of the run would, or the temporary directory is full.
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
                progress=False,
                checked=True,
            )
            with contextlib.closing(trainer):
                result = trainer.make_updates()
            evaluation_seconds = self._evaluate(trainer)
            peak = peak_memory(self.device.type)
            final_seconds, final_bytes = self._write_final_model(trainer)
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
            final_bytes=final_bytes,
            peak_bytes=peak,
            was_stopped=result.exit_code,
        )

    def _engine(self, model: nn.Module, config: TrainingConfig, family: ModelFamily, ranks: Ranks) -> Engine:
        return TorchEngine(model, config, ranks, family, self._placement.compiled)

    def _write_final_model(self, trainer: Trainer) -> tuple[float, int]:
        """Write the finished model into the temporary directory; return the seconds that this takes, and its bytes."""
        prepared = self.prepared
        trained = TrainedModel(
            trainer.engine.model(), prepared.family, self.config.model, prepared.vocabulary,
            trainer.directory.portable_model, prepared.artefacts,
        )  # fmt: skip
        started = time.perf_counter()
        directory = trainer.directory
        save_final_model(directory, trained, trainer.config, trainer.step)
        seconds = time.perf_counter() - started
        written = [directory.final_model, *directory.portable_model.rglob("*")]
        return seconds, sum(path.stat().st_size for path in written if path.is_file())

    def _evaluate(self, trainer: Trainer) -> float:
        """Return the seconds of a pass over a rank's validation data, extrapolated from evenly chosen samples."""
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
