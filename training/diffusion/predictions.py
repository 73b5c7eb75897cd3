"""Meaning of a diffusion network's output: its input, its target, the estimate of the clean sample, loss weights.

All formulas are in terms of a noise level (a, s), a² + s² = 1, and stay finite where they have a limit: at a = 0, pure
noise, everything but the clean sample of an epsilon prediction has one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.diffusion.noise_schedules import NoiseSchedule
from training.errors import ConfigError, did_you_mean

PREDICTIONS = ("epsilon", "v", "x0", "edm")
LOSS_WEIGHTINGS = ("plain", "min_snr", "edm")

Level = Tensor | float
"""A part of a noise level: one number, or one per sample, shape (N,), or any shape that broadcasts over the values."""


@dataclass(frozen=True)
class Prediction:
    """The meaning of a network's input and output.

    Attributes:
        kind: ``epsilon``: the noise (arXiv 2006.11239 eq. 14). ``v``: a·eps - s·x0 (arXiv 2202.00512 §4). ``x0``: the
            clean sample. All three read z = a·x0 + s·eps. ``edm``: the network between EDM's input, output and skip
            scalings, which make its input and its target have variance 1 at every level (arXiv 2206.00364 eq. 7 and
            Table 1).
        sigma_data: standard deviation of the data, for ``edm``.
    """

    kind: str = "epsilon"
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in PREDICTIONS:
            near = did_you_mean(str(self.kind), PREDICTIONS)
            raise ConfigError(
                f"prediction {self.kind!r}: there is no such prediction{near}; choose {', '.join(PREDICTIONS)}"
            )
        if isinstance(self.sigma_data, bool) or not isinstance(self.sigma_data, int | float):
            raise ConfigError(f"sigma_data {self.sigma_data!r}: give a number")
        if not 0.0 < self.sigma_data < math.inf:
            raise ConfigError(f"sigma_data {self.sigma_data!r}: give a finite number above 0")

    def check_schedule(self, schedule: NoiseSchedule, weighting: str = "plain") -> None:
        """Refuse a schedule or a weighting of the loss that this prediction cannot be trained with.

        Raises:
            ConfigError: the schedule ends in pure noise, where an epsilon prediction says nothing of the sample and
                ln(sigma) / 4, the time of ``edm``, is not finite, or where the weighting has no finite positive weight.
        """
        if not math.isinf(schedule.sigmas[-1]):
            return
        if self.kind in ("epsilon", "edm"):
            why = "noise alone says nothing of the sample" if self.kind == "epsilon" else "ln(sigma) is not finite"
            raise ConfigError(f"prediction {self.kind} with zero_terminal_snr: at the last level {why}; choose v or x0")
        if weighting == "min_snr":
            raise ConfigError(
                "loss_weighting min_snr with zero_terminal_snr: the last level would have weight 0 and never be learned"
                "; choose plain"
            )

    def scaled_input(self, z: Tensor, a: Level, s: Level) -> Tensor:
        """Return what the network reads of a noisy sample z = a·x0 + s·eps; the same as z unless ``edm``."""
        return z if self.kind != "edm" else _product(1.0 / self._norm(a, s), z)

    def network_input(self, x0: Tensor, eps: Tensor, a: Level, s: Level) -> Tensor:
        """Return what the network reads.

        Args:
            x0: clean samples, (N, …).
            eps: their noise, the same shape.
            a: signal of the level.
            s: noise of the level.
        """
        return self.scaled_input(_product(a, x0) + _product(s, eps), a, s)

    def target(self, x0: Tensor, eps: Tensor, a: Level, s: Level) -> Tensor:
        """Return what the network's output is compared with. Arguments as in `network_input`."""
        if self.kind == "epsilon":
            return eps
        if self.kind == "x0":
            return x0
        if self.kind == "v":
            return _product(a, eps) - _product(s, x0)
        norm = self._norm(a, s)
        return _product(s / (norm * self.sigma_data), x0) - _product(a * self.sigma_data / norm, eps)

    def clean(self, output: Tensor, z: Tensor, a: Level, s: Level) -> Tensor:
        """Return the estimate of the clean samples.

        Args:
            output: the network's, (N, …).
            z: the noisy samples a·x0 + s·eps, for ``edm`` too.
            a: signal of the level; above 0 for ``epsilon``.
            s: noise of the level.
        """
        if self.kind == "epsilon":
            return _product(1.0 / a, z - _product(s, output))
        if self.kind == "x0":
            return output
        if self.kind == "v":
            return _product(a, z) - _product(s, output)
        norm = self._norm(a, s)
        return _product(a * self.sigma_data**2 / norm**2, z) + _product(s * self.sigma_data / norm, output)

    def output(self, clean: Tensor, z: Tensor, a: Level, s: Level) -> Tensor:
        """Return the output with which a network estimates given clean samples: the inverse of `clean`.

        Args:
            clean: estimates, (N, …).
            z: the noisy samples a·x0 + s·eps.
            a: signal of the level.
            s: noise of the level, above 0.
        """
        if self.kind == "x0":
            return clean
        return self.target(clean, _product(1.0 / s, z - _product(a, clean)), a, s)

    def time(self, schedule: NoiseSchedule, index: Tensor) -> Tensor:
        """Return the network's input `time`, (N,): the index itself, for ``edm`` ln(sigma) / 4.

        Args:
            schedule: the levels.
            index: indices of levels, (N,), between two levels as `NoiseSchedule.sigma_at`. Their floating dtype is
                that of the result (whole numbers: torch's default).
        """
        dtype = index.dtype if index.is_floating_point() else torch.get_default_dtype()
        if self.kind != "edm":
            return index.to(dtype)
        sigma = schedule.sigma_at(index.detach().cpu().double().numpy())
        return torch.as_tensor(np.log(sigma) / 4.0, dtype=dtype, device=index.device)

    def time_at(self, schedule: NoiseSchedule, sigma: float) -> float:
        """Return the network's input `time` at one sigma, which need not be a level of the schedule."""
        return math.log(sigma) / 4.0 if self.kind == "edm" else float(schedule.index_of(sigma))

    def loss_weight(self, weighting: str, a: Tensor, s: Tensor, gamma: float = 5.0) -> Tensor:
        """Return the factor of each sample's mean squared error of the network's output, in the shape of a.

        Args:
            weighting: ``plain``: 1. ``min_snr``: the error of the clean sample times min(a²/s², gamma) (arXiv
                2303.09556 §3.4). ``edm``: the error of the clean sample times 1/s² · (s² + a²·sigma_data²)/sigma_data²
                (arXiv 2206.00364 §5), which is 1 for the output of ``edm``.
            a: signal of the levels, (N,).
            s: noise of the levels, above 0.
            gamma: largest signal-to-noise ratio that counts, for ``min_snr``.

        Raises:
            ConfigError: there is no such weighting, or gamma is not a finite number above 0.
        """
        if weighting not in LOSS_WEIGHTINGS:
            near = did_you_mean(str(weighting), LOSS_WEIGHTINGS)
            raise ConfigError(
                f"loss_weighting {weighting!r}: there is no such weighting{near}; choose {', '.join(LOSS_WEIGHTINGS)}"
            )
        if not 0.0 < gamma < math.inf:
            raise ConfigError(f"min_snr_gamma {gamma!r}: give a finite number above 0")
        if weighting == "plain":
            return torch.ones_like(a)
        # The error of the clean sample is that of the output times `slope`² (a factor s² written out where it cancels).
        if weighting == "min_snr":
            clipped = torch.minimum(a**2, gamma * s**2)  # min(SNR, gamma)·s²
            match self.kind:
                case "epsilon":
                    return (gamma * s**2 / a**2).clamp(max=1.0)
                case "v":
                    return clipped
                case "x0":
                    return clipped / s**2
                case _:
                    return clipped * (self.sigma_data / self._norm(a, s)) ** 2
        wanted = (s**2 + (a * self.sigma_data) ** 2) / self.sigma_data**2  # EDM's weight, times s²
        match self.kind:
            case "epsilon":
                return wanted / a**2
            case "v":
                return wanted
            case "x0":
                return wanted / s**2
            case _:
                return torch.ones_like(a)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON takes them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Prediction:
        """Make the prediction that `to_dict` described.

        Raises:
            ConfigError: a key is unknown, or a value is unusable.
        """
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                raise ConfigError(f"a prediction has no {name!r}{did_you_mean(str(name), names)}")
        return cls(**values)

    def _norm(self, a: Level, s: Level) -> Level:
        """Compute a·√(sigma² + sigma_data²), which is finite at every level."""
        norm: Level = (s**2 + (a * self.sigma_data) ** 2) ** 0.5
        return norm


def _product(level: Level, values: Tensor) -> Tensor:
    """Multiply values (N, …) by a number, or by one number per sample, in the dtype of the values."""
    if isinstance(level, Tensor):
        level = level.to(values.dtype)
        if level.dim() == 1:
            level = level.reshape(-1, *[1] * (values.dim() - 1))
    return level * values
