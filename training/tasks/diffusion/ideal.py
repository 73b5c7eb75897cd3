"""Comparison of a trained denoiser with the ideal one: the floor of its loss on the training set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.diffusion.closed_forms import FiniteSetDenoiser, least_loss
from training.language.messages import Message
from training.tasks.diffusion.objective import DiffusionObjective, NoisySamples
from training.tasks.diffusion.options import DiffusionOptions
from training.tasks.objective import Batch
from training.tasks.protocol import Conclusion, Prepared

MOST_NUMBERS = 2**23
"""Numbers in a training set up to which its ideal denoiser is computed."""
COMPARED = 256
"""Training samples at most on which the two are compared."""


def compared_with_ideal(model: nn.Module, prepared: Prepared) -> Conclusion:
    """Compare a network's loss on training samples with that of the ideal denoiser of the training set.

    No network has a smaller expected loss on a finite set than the softmax over the set (arXiv 2206.00364 eq. 57); for
    a network with classes, the softmax over the samples of the class. Both are measured on the same samples with the
    same noise. Nothing is compared where the set is large, or where crops and flips are drawn: then it is not finite.
    """
    options = cast(DiffusionOptions, prepared.config.data)
    objective, train = cast(DiffusionObjective, prepared.objective), cast(NoisySamples, prepared.train)
    size = int(np.prod(train.source.sample(0, None).values.shape))
    if len(train) * size > MOST_NUMBERS or options.random_flip or options.crop == "random":
        return Conclusion()
    bands = train.levels.bands(options.noise_bands)
    bands = bands[np.isfinite(bands)]
    chosen = np.linspace(0, len(train) - 1, min(COMPARED, len(train))).astype(np.int64)
    measured = train.in_bands(bands)
    batch = objective.collate([measured[int(number)] for number in chosen])
    ours = _losses(model, objective, batch, prepared.config.run.batch_size)
    least = _least_losses(objective, train, chosen, batch)
    return _conclusion(bands, ours, least, compared=len(chosen), whole=len(train))


def _losses(model: nn.Module, objective: DiffusionObjective, batch: Batch, size: int) -> list[float]:
    """Return the network's mean loss at each level of a batch."""
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    sums = [0.0] * batch.tensors["noise"].shape[1]
    try:
        with torch.no_grad():
            for start in range(0, batch.num_samples, size):
                part = {name: tensor[start : start + size].to(device) for name, tensor in batch.tensors.items()}
                for level in range(len(sums)):
                    sums[level] += float(objective.loss_at(model, part, level))
    finally:
        model.train(was_training)
    return [total / batch.num_samples for total in sums]


def _least_losses(
    objective: DiffusionObjective, train: NoisySamples, chosen: NDArray[np.int64], batch: Batch
) -> list[float]:
    """Return the ideal denoiser's mean loss at each level of a batch of the samples `chosen`, in float64."""
    whole = torch.from_numpy(np.stack([train.source.sample(number, None).values for number in range(len(train))]))
    classes_M = train.labels()
    classes_N = classes_M[chosen]
    sums = [0.0] * batch.tensors["noise"].shape[1]
    for label in np.unique(classes_N):
        ideal = FiniteSetDenoiser(whole[np.flatnonzero(classes_M == label)].double())
        rows = np.flatnonzero(classes_N == label)
        clean, noise, a, s = (batch.tensors[name][rows].double() for name in ("clean", "noise", "a", "s"))
        for level in range(len(sums)):
            losses_N: Tensor = least_loss(
                ideal, objective.prediction, clean, noise[:, level], a[:, level], s[:, level], objective.weighting,
                objective.gamma,
            )  # fmt: skip
            sums[level] += float(losses_N.sum())
    return [total / len(chosen) for total in sums]


def _conclusion(
    bands: NDArray[np.float64], ours: Sequence[float], least: Sequence[float], compared: int, whole: int
) -> Conclusion:
    mean, floor = float(np.mean(ours)), float(np.mean(least))
    line = Message(
        "loss on {count:,} training samples: {loss:.4f}; the ideal denoiser of the {whole:,} has {least:.4f}",
        count=compared, loss=mean, whole=whole, least=floor,
    )  # fmt: skip
    rows = [
        {"sigma": float(sigma), "loss": own, "least_loss": ideal}
        for sigma, own, ideal in zip(bands, ours, least, strict=True)
    ]
    figures = {
        "ideal_denoiser": {
            "samples": compared, "training_samples": whole, "loss": mean, "least_loss": floor, "by_band": rows,
        }
    }  # fmt: skip
    by_band = [
        Message(
            "  at sigma {sigma:.3g}: {loss:.4f}, ideal {least:.4f}",
            sigma=row["sigma"], loss=row["loss"], least=row["least_loss"],
        )
        for row in rows
    ]  # fmt: skip
    return Conclusion(figures, [line, *by_band])
