"""Trainings and samples of `--task diffusion` that the benchmarks measure, and the digits that they train on."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.workload import WARMUP_UPDATES, UpdateTimes, config_of, trainer_of
from training.diffusion.denoiser import Denoiser
from training.diffusion.samplers import draw as drawn_by
from training.models.denoiser import DIFFUSION, LABELS
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


@dataclasses.dataclass(frozen=True)
class How:
    """Choices of drawing: see `training.diffusion.samplers.draw` and `Denoiser`."""

    sampler: str
    steps: int
    guidance: float = 1.0
    seed: int = 0


def denoiser_of(
    model: nn.Module, prepared: Prepared, labels: Sequence[int] | None = None, guidance: float = 1.0
) -> Denoiser:
    """Return a network as the estimate of clean samples, and put it into eval mode.

    Args:
        model: the network.
        prepared: what it was trained on.
        labels: class of each sample; None: it knows no classes.
        guidance: classifier-free guidance; 1: none.
    """
    objective: Any = prepared.objective
    device = next(model.parameters()).device
    model.eval()
    wanted = {} if labels is None else {LABELS: torch.tensor(labels, device=device)}
    free = {name: torch.full_like(values, objective.options.num_classes) for name, values in wanted.items()}

    def network(samples: Tensor, time: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        found: Tensor = objective.family.denoise(model, samples, time, conditions)
        return found

    return Denoiser(network, objective.schedule, objective.prediction, wanted, free, guidance)


def draw(run: TrainedRun, count: int, how: How, labels: Sequence[int] | None = None) -> list[NDArray[np.float64]]:
    """Draw samples; return the noise and the samples after each step, all scaled to the variance of noise and data.

    Args:
        run: run with a network.
        count: number of samples.
        how: sampler, steps, guidance and seed.
        labels: class of each sample; None: it knows no classes.

    Returns:
        One array a step and one for the noise, of images in [-1, 1] or of vectors in the data's own unit.
    """
    diffusion, objective = run.prepared.artefacts[DIFFUSION], run.prepared.objective
    device = next(run.model.parameters()).device
    generator = torch.Generator(device).manual_seed(how.seed)
    start = torch.randn(count, *diffusion["shape"], generator=generator, device=device)
    sigmas = objective.schedule.sampling_sigmas(how.steps)  # type: ignore[attr-defined]
    way = [start]
    denoise = denoiser_of(run.model, run.prepared, labels, how.guidance)
    drawn_by(
        denoise, start, sigmas, how.sampler, generator, lambda n, x: way.append(x / math.hypot(1.0, float(sigmas[n])))
    )
    scale = np.asarray(diffusion["scale"] if diffusion["scale"] is not None else 1.0)
    mean = np.asarray(diffusion["mean"] if diffusion["mean"] is not None else 0.0)
    return [moved.double().cpu().numpy() * scale + mean for moved in way]
