"""Rows that the benchmarks train on, the timed run that they compare, and their miniature mode."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apt_model.tokenizer import DynamicTagTokenizer
from training import TrainingConfig
from training.backends.prepare import config_class_of
from training.engines.results import UpdateResult
from training.forecast.run_forecast import RunForecast
from training.loop.callbacks import Callback, RunView
from training.loop.trainer import Trainer
from training.tasks.hlbd.dataset import HLBDDataset
from training.tasks.hlbd.files import load_corpus
from training.tasks.hlbd.task import prepared_from_datasets
from training.tasks.objective import Objective
from training.tasks.protocol import Prepared

WARMUP_UPDATES = 5
MINIATURE_MODEL: dict[str, Any] = {"d_model": 32, "num_layers": 2, "num_heads": 2, "d_ff": 64}
"""Settings of a network whose updates take milliseconds."""


def parse(
    parser: argparse.ArgumentParser, miniature: Mapping[str, Any], argv: Sequence[str] | None
) -> argparse.Namespace:
    """Parse a benchmark's command line, to which `--miniature` is added.

    Args:
        parser: parser with the benchmark's own flags.
        miniature: defaults under `--miniature`, by the flag's name; a flag on the command line still wins.
        argv: words of the command line; None: those of the process.
    """
    parser.add_argument(
        "--miniature",
        action="store_true",
        help="a tiny model and a few updates: shows in seconds that the benchmark runs; its figures mean nothing",
    )
    if parser.parse_known_args(argv)[0].miniature:
        parser.set_defaults(**miniature)
    return parser.parse_args(argv)


def as_flags(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as words of the command line of `train.py`."""
    words: list[str] = []
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        words += [flag] if value is True else [flag, *map(str, value if isinstance(value, list) else [value])]
    return words


def load_rows(name: str, limit: int | None = None) -> HLBDDataset:
    """Encode the rows of a file in `data/`, at most `limit` of them, with a tokenizer made from these rows."""
    samples = load_corpus([name]).samples[:limit]
    tokenizer = DynamicTagTokenizer.from_texts(text for sample in samples for text in sample[:2])
    return HLBDDataset(samples, tokenizer, 256)


def objective_for(dataset: HLBDDataset) -> Objective:
    """Return the objective of a dataset with the default network; batches and losses do not depend on its size."""
    return prepared_from_datasets(TrainingConfig(), dataset).objective


def make_trainer(dataset: HLBDDataset, settings: Mapping[str, Any], folder: str, *callbacks: Callback) -> Trainer:
    """Make our loop as `--backend playground` has it, on the CPU, with its record in `folder`.

    Weight snapshots and checkpoints are off: a run this short would write one at nearly every update, and the disk
    would be measured.

    Args:
        settings: flat settings, over the defaults.
    """
    return trainer_of(prepared_from_datasets(config_of(settings, folder), dataset), *callbacks)


def config_of(settings: Mapping[str, Any], folder: str) -> TrainingConfig:
    """Return a config of any task and model for short runs in `folder`, see `make_trainer`."""
    values = {
        "schedule": "constant", "save_interval": None, "snapshots": 0, "answer_samples": 0, **settings,
        "run_dir": str(Path(folder) / "run"),
    }  # fmt: skip
    return config_class_of(values).from_dict(values, "benchmark")


def trainer_of(prepared: Prepared, *callbacks: Callback, device: str = "cpu") -> Trainer:
    """Make our loop as `--backend playground` has it for what a task prepared."""
    return Trainer.of(prepared, device=device, callbacks=[RunForecast(prepared), *callbacks], progress=False)


class UpdateTimes(Callback):
    """Callback that collects the seconds of each pass through the loop's body, from one `on_step` to the next."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = 0.0

    def on_run_start(self, trainer: RunView) -> None:
        """Start the clock."""
        self.resume()

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        """Record the time of the update."""
        self.seconds.append(time.perf_counter() - self._last)
        self.resume()

    def resume(self) -> None:
        """Restart the clock: the time since the last update is not counted."""
        self._last = time.perf_counter()


def seconds_per_update(dataset: HLBDDataset, settings: Mapping[str, Any], updates: int) -> float:
    """Return the median time of an update in a new run of `updates` updates after the warm-up."""
    times = UpdateTimes()
    with tempfile.TemporaryDirectory() as folder:
        make_trainer(dataset, {**settings, "max_steps": WARMUP_UPDATES + updates}, folder, times).train()
    return statistics.median(times.seconds[WARMUP_UPDATES:])


def spread(ratios: Sequence[float]) -> str:
    """Return "median (least to largest)"."""
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
