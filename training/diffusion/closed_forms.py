"""Exact solutions, against which samplers and losses are checked.

For data N(mean, deviation²) the ideal denoiser is affine, so the probability flow has a closed solution, every
deterministic sampler multiplies x - mean by a product of one factor per step, and the stochastic ones carry a normal
distribution to a normal distribution. For a finite set of samples the ideal denoiser is a softmax over the set; no
network has a smaller expected loss on it. The formulas here are written step by step from the methods' definitions,
apart from the code of `samplers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.diffusion.noise_schedules import signal_and_noise_of
from training.diffusion.predictions import Level, Prediction
from training.diffusion.samplers import SAMPLERS, STOCHASTIC_SAMPLERS

Sigmas = Sequence[float] | NDArray[np.float64]


class GaussianDenoiser:
    """The ideal denoiser of data N(mean, deviation²): D(x, sigma) = mean + c·(x - mean), c = S²/(S² + sigma²).

    Args:
        mean: of the data; a tensor broadcasts over the samples.
        deviation: standard deviation S of the data, above 0; a tensor likewise.
    """

    def __init__(self, mean: Tensor | float, deviation: Tensor | float) -> None:
        self.mean = mean
        self.deviation = deviation

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return E[x0 | x0 + sigma·eps = x]; the mean for sigma = ∞."""
        share = self.deviation**2 / (self.deviation**2 + sigma**2)
        clean: Tensor = self.mean + share * (0.0 * x if math.isinf(sigma) else x - self.mean)
        return clean


def flow_factor(first: float, last: float, deviation: float) -> float:
    """Return the factor of x - mean along the exact probability flow: √((S² + last²)/(S² + first²)).

    Args:
        first: sigma at which the flow begins; for ∞ the factor is that of the noise eps.
        last: sigma at which it ends.
        deviation: standard deviation S of the data.
    """
    end = math.hypot(deviation, last)
    return end if math.isinf(first) else end / math.hypot(deviation, first)


def sampler_factor(sampler: str, sigmas: Sigmas, deviation: float) -> float:
    """Return the factor of x - mean over all steps of a deterministic sampler, on data of a standard deviation S.

    With k = sigma/(S² + sigma²), c = S²/(S² + sigma²), h = sigma' - sigma and q = sigma'/sigma a step multiplies by
    1 + h·k (ddim, euler), 1 + h/2·(k + k'·(1 + h·k)) (heun), or adds q·y + (1 - q)·(estimate), where the estimate is
    an extrapolation of c·y (dpmpp_2m) or an average with c'·y' at the end of the step (unipc).

    Args:
        sampler: ``ddim``, ``euler``, ``heun``, ``dpmpp_2m`` or ``unipc``.
        sigmas: as for `samplers.draw`. If the first is ∞, the factor is that of the noise eps.
        deviation: standard deviation S of the data.

    Raises:
        ValueError: the sampler is none of these.
    """
    if sampler in STOCHASTIC_SAMPLERS or sampler not in SAMPLERS:
        raise ValueError(f"{sampler!r} has no single factor")
    levels = [float(sigma) for sigma in sigmas]
    if sampler in ("dpmpp_2m", "unipc"):
        return _multistep_factor(levels, deviation, corrects=sampler == "unipc")
    factor = 1.0
    for sigma, after in pairwise(levels):
        if math.isinf(sigma):
            factor *= after
            continue
        h, slope = after - sigma, _slope(sigma, deviation)
        euler = (deviation**2 + sigma * after) / (deviation**2 + sigma**2)  # 1 + h·k, without the cancellation
        is_heun = sampler == "heun" and after > 0.0
        factor *= 1.0 + h / 2.0 * (slope + _slope(after, deviation) * euler) if is_heun else euler
    return factor


def _slope(sigma: float, deviation: float) -> float:
    return sigma / (deviation**2 + sigma**2)


def _share(sigma: float, deviation: float) -> float:
    return deviation**2 / (deviation**2 + sigma**2)


def _multistep_factor(levels: list[float], deviation: float, corrects: bool) -> float:
    """Follow y = x - mean, from 1, through DPM-Solver++ 2M (arXiv 2211.01095 Alg. 2) or UniPC-2 (2302.04867 Alg. 1)."""
    y = 1.0
    carried = [y]  # y at each level, as the step from there sets out
    estimates: list[float] = []  # of the clean sample less the mean, c·y
    for place, after in enumerate(levels[1:]):
        sigma = levels[place]
        estimates.append(0.0 if math.isinf(sigma) else _share(sigma, deviation) * y)
        if corrects and place > 0:
            y = carried[-1] = _corrected(levels, place, carried, estimates)
        if after == 0.0:
            return estimates[-1]
        estimate = estimates[-1]
        if place > 0 and not math.isinf(levels[place - 1]):
            r = math.log(levels[place - 1] / sigma) / math.log(sigma / after)
            estimate = (1.0 + 1.0 / (2.0 * r)) * estimates[-1] - 1.0 / (2.0 * r) * estimates[-2]
        y = after * y if math.isinf(sigma) else after / sigma * y + (1.0 - after / sigma) * estimate
        carried.append(y)
    return y


def _corrected(levels: list[float], place: int, carried: list[float], estimates: list[float]) -> float:
    """Return y at a level after UniC: the step that led there again, with the estimate at its end.

    The weights solve the linear system of arXiv 2302.04867 eq. 5 with B(h) = e^h - 1, h counted down in ln sigma.
    """
    before, sigma = levels[place - 1], levels[place]
    origin, change = estimates[-2], estimates[-1] - estimates[-2]
    if place == 1:
        estimate = origin + change / 2.0
        return sigma * carried[-2] + estimate if math.isinf(before) else (
            sigma / before * carried[-2] + (1.0 - sigma / before) * estimate
        )  # fmt: skip
    h = -math.log(before / sigma)
    scale = math.expm1(h)
    moments = [(scale / h - 1.0) / scale, 2.0 * ((scale / h - 1.0) / h - 0.5) / scale]
    if math.isinf(levels[place - 2]):
        estimate = origin + moments[0] * change
    else:
        r = math.log(levels[place - 2] / before) / h  # below 0: the step before lies behind
        older = (moments[0] - moments[1]) / (1.0 - r)  # older + newer and r·older + newer are the moments
        newer = moments[0] - older
        estimate = origin + older * (estimates[-3] - origin) / r + newer * change
    return sigma / before * carried[-2] + (1.0 - sigma / before) * estimate


def sampler_moments(sampler: str, sigmas: Sigmas, mean: float, deviation: float) -> tuple[float, float]:
    """Return mean and variance of the samples that a sampler draws from noise N(0, 1), on data N(mean, deviation²).

    A deterministic sampler multiplies by `sampler_factor`. A step of ``ddpm`` and ``euler_ancestral`` is the posterior
    of x' given x and the estimate of x0: y' = (q² + (1 - q²)·c)·y + noise of variance sigma'²·(1 - q²).

    Args:
        sampler: one of `samplers.SAMPLERS`.
        sigmas: as for `samplers.draw`.
        mean: of the data.
        deviation: standard deviation of the data.
    """
    levels = [float(sigma) for sigma in sigmas]
    # With ∞ the samples start as the noise itself, of which the first step makes no use of the mean.
    offset, variance = (0.0, 1.0) if math.isinf(levels[0]) else (-mean, levels[0] ** 2)
    if sampler not in STOCHASTIC_SAMPLERS:
        factor = sampler_factor(sampler, levels, deviation)
        return mean + factor * offset, factor**2 * variance
    for sigma, after in pairwise(levels):
        kept = (after / sigma) ** 2
        factor = 0.0 if math.isinf(sigma) else kept + (1.0 - kept) * _share(sigma, deviation)
        offset, variance = factor * offset, factor**2 * variance + after**2 * (1.0 - kept)
    return mean + offset, variance


class FiniteSetDenoiser:
    """The ideal denoiser of a finite set of samples, each as likely as the others.

    D(x, sigma) is the mean of the set, weighted by a softmax of -|x - sample|²/(2·sigma²) (arXiv 2206.00364 eq. 57).

    Args:
        samples: the set, (M, …). A sample that is there twice counts twice.
    """

    def __init__(self, samples: Tensor) -> None:
        if len(samples) == 0:
            raise ValueError("a set without samples has no denoiser")
        self.samples = samples
        self._flat_MD = samples.flatten(1)

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return E[x0 | x0 + sigma·eps = x], (N, …).

        Args:
            x: noisy samples, (N, …); for sigma = ∞ (a float) anything.
            sigma: noise level, one for all or (N,), above 0.
        """
        if not isinstance(sigma, Tensor) and math.isinf(sigma):
            return self.samples.mean(0, keepdim=True).expand_as(x).clone()
        # The distances themselves and no expansion of the square, which cancels where sigma is small.
        distances_NM = torch.cdist(x.flatten(1), self._flat_MD, compute_mode="donot_use_mm_for_euclid_dist")
        scale = sigma.to(x.dtype).reshape(-1, 1) if isinstance(sigma, Tensor) else sigma
        weights_NM = torch.softmax(-0.5 * (distances_NM / scale) ** 2, dim=1)
        return (weights_NM @ self._flat_MD).reshape(x.shape)


def least_loss(
    ideal: Callable[[Tensor, Tensor], Tensor],
    prediction: Prediction,
    x0: Tensor,
    eps: Tensor,
    a: Tensor,
    s: Tensor,
    weighting: str = "plain",
    gamma: float = 5.0,
) -> Tensor:
    """Return the loss that the ideal denoiser has on given draws, (N,): print it beside a network's on the same ones.

    For the set that `ideal` was made from no network has a smaller expected loss. On other samples, such as held-out
    ones, it is no bound: the ideal denoiser of a set knows only the set.

    Args:
        ideal: called with x = x0 + sigma·eps and sigma, (N,); a `FiniteSetDenoiser`.
        prediction: what the network's output means, in which its loss is measured.
        x0: clean samples, (N, …).
        eps: their noise.
        a: signal of the samples' levels, (N,), above 0.
        s: noise of the levels, above 0.
        weighting: of the loss, as `Prediction.loss_weight`.
        gamma: as there.
    """
    shape = (-1, *[1] * (x0.dim() - 1))
    a_N1, s_N1 = a.to(x0.dtype).reshape(shape), s.to(x0.dtype).reshape(shape)
    z = a_N1 * x0 + s_N1 * eps
    clean = ideal(z / a_N1, s / a)
    error = prediction.output(clean, z, a_N1, s_N1) - prediction.target(x0, eps, a_N1, s_N1)
    return prediction.loss_weight(weighting, a, s, gamma) * (error**2).flatten(1).mean(1)


def gaussian_least_loss(prediction: Prediction, sigma: float, deviation: float) -> float:
    """Return the least expected loss per value, unweighted, on data of a normal distribution at one noise level.

    The ideal denoiser leaves the posterior variance S²·sigma²/(S² + sigma²) of the clean sample, which is divided by
    the square of the factor between an error of the clean sample and one of the output. For ``edm`` with sigma_data = S
    it is 1 at every level, and the output 0 reaches it.

    Args:
        prediction: what the network's output means.
        sigma: noise level, above 0 and finite.
        deviation: standard deviation S of the data.
    """
    a, s = map(float, signal_and_noise_of(sigma))
    slopes: dict[str, Level] = {
        "epsilon": sigma,
        "v": s,
        "x0": 1.0,
        "edm": s * prediction.sigma_data / math.hypot(s, a * prediction.sigma_data),
    }
    return deviation**2 * sigma**2 / (deviation**2 + sigma**2) / float(slopes[prediction.kind]) ** 2
