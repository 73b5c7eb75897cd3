"""Trainings and samples of `--task diffusion` that the benchmarks measure, and the digits that they train on."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from benchmarks.workload import WARMUP_UPDATES, UpdateTimes, config_of, trainer_of
from training.models.denoiser import DIFFUSION
from training.tasks.diffusion.drawing import Drawn, Sampling, draw_samples
from training.tasks.protocol import Prepared, task_of

TIMED_UPDATES = 10
"""Updates by which the length of a run is chosen, after the warm-up."""
HALF = 898
"""Number of digits in a half, of 1,797."""


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """Run that has finished."""

    prepared: Prepared
    model: nn.Module
    """Network with the average of its weights, where one is kept."""
    parameters: int
    updates: int
    seconds: float
    """Duration of the updates, without the preparation of the data and the last save."""


@dataclasses.dataclass(frozen=True)
class Digits:
    """Digits with 64 pixels of 0 to 16 each, in rows, and what they show."""

    pixels: NDArray[np.float64]
    labels: NDArray[np.int64]

    @property
    def images(self) -> NDArray[np.uint8]:
        """Return the pictures (N, 8, 8) with 0 to 255; 16 becomes 255."""
        return np.rint(self.pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)

    def of(self, count: int) -> Digits:
        """Return the first ones."""
        return Digits(self.pixels[:count], self.labels[:count])


def digit_halves() -> tuple[Digits, Digits]:
    """Return two halves of scikit-learn's digits, drawn at random; of the odd number one is left out.

    In the order of the file the halves are by different writers: a nearest-neighbour test tells even real ones apart,
    three times of four.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    first, second = order[:HALF], order[HALF : 2 * HALF]
    return Digits(pixels[first], labels[first]), Digits(pixels[second], labels[second])


def prepare(settings: Mapping[str, Any], run_dir: Path) -> Prepared:
    """Return the data and the network of settings as the task prepares them."""
    config = config_of({"task": "diffusion", **settings}, str(run_dir))
    return task_of(config).prepare(config)


def train(settings: Mapping[str, Any], folder: Path) -> TrainedRun:
    """Train to the end, as `train.py` does, without a terminal.

    Args:
        settings: flat settings, with `max_steps`.
        folder: new directory for the run.
    """
    prepared, times = prepare(settings, folder), UpdateTimes()
    trainer = trainer_of(prepared, times)
    result = trainer.train()
    return TrainedRun(prepared, trainer.evaluated_model(), trainer.num_parameters, result.step, sum(times.seconds))


def updates_in(seconds: float, settings: Mapping[str, Any], folder: Path) -> int:
    """Return how many updates fit into a time, from the median of a few."""
    times = UpdateTimes()
    trainer = trainer_of(prepare({**settings, "max_steps": WARMUP_UPDATES + TIMED_UPDATES}, folder), times)
    try:
        trainer.make_updates()
    finally:
        trainer.close()
    return max(1, int(seconds / statistics.median(times.seconds[WARMUP_UPDATES:])))


def draw(
    run: TrainedRun, count: int, how: Sampling, labels: Sequence[int] | None = None, with_frames: bool = False
) -> Drawn:
    """Draw samples of a run in one batch, as `tools/sample.py` does; the model is put into eval mode.

    Args:
        run: run with a network.
        count: number of samples.
        how: sampler, steps, guidance and seed.
        labels: class of each sample; None: it knows no classes.
        with_frames: keep the samples of the steps too.
    """
    prepared: Any = run.prepared
    return draw_samples(
        run.model.eval(), prepared.family, prepared.artefacts[DIFFUSION], how, labels or [None] * count, at_once=count,
        with_frames=with_frames,
    )  # fmt: skip
