"""Networks whose outputs are the ideal ones, asked as a trained network is: by the input and its time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from training.diffusion.closed_forms import GaussianDenoiser
from training.diffusion.noise_schedules import NoiseSchedule, signal_and_noise_of
from training.diffusion.predictions import Prediction


class GaussianNetwork:
    """The ideal network of data N(mean, deviation²); the mean of a sample with the condition "shift" is moved by it."""

    def __init__(self, schedule: NoiseSchedule, prediction: Prediction, mean: float, deviation: float) -> None:
        self.schedule, self.prediction = schedule, prediction
        self.mean, self.deviation = mean, deviation
        self.sizes: list[int] = []
        """Number of samples of each call."""

    def __call__(self, inputs: Tensor, time: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        """Return the ideal output, (N, …)."""
        self.sizes.append(len(inputs))
        assert time.shape == (len(inputs),)
        moment = time[0].item()
        sigma = float(np.exp(4 * moment)) if self.prediction.kind == "edm" else float(self.schedule.sigma_at(moment))
        a, s = map(float, signal_and_noise_of(sigma))
        mean: Tensor | float = self.mean
        if "shift" in conditions:
            mean = mean + conditions["shift"].reshape(-1, *[1] * (inputs.dim() - 1))
        z = inputs
        if self.prediction.kind == "edm":
            z = inputs * float(np.hypot(s, a * self.prediction.sigma_data))
        x = z if a == 0.0 else z / a
        clean = GaussianDenoiser(mean, self.deviation)(x, sigma)
        return self.prediction.output(clean + torch.zeros_like(z), z, a, s)
