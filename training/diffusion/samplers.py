"""Samplers of diffusion models: from noise to samples over any strictly descending list of sigmas.

All of them move x = x0 + sigma·eps, in which the signal is not scaled. There a step of every method has the same short
form, with D the estimate of the clean sample and q = sigma'/sigma:

    x' = D̂ + q·(x - D̂)

D̂ is D for Euler's method and DDIM (which are one method in these coordinates), D and its extrapolation from the step
before for DPM-Solver++ 2M, and an average that includes the estimate at the end of the step for UniPC. Coefficients are
computed in float64; tensors keep their dtype. The methods differ from those of diffusers 0.42 in precision and in what
they accept: its tables are float32, its Euler and DPM-Solver++ steps cast samples to float32, and its DDIM goes from a
level to another one than it visits next, unless the number of steps divides that of the levels or its spacing is
"leading" (tests/training/diffusion/test_diffusers_schedulers.py measures all of them against the closed forms).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.errors import ConfigError, did_you_mean

SAMPLERS = ("ddpm", "ddim", "euler", "euler_ancestral", "heun", "dpmpp_2m", "unipc")
STOCHASTIC_SAMPLERS = ("ddpm", "euler_ancestral")
"""Samplers that draw noise in every step but the one to sigma = 0."""

Denoise = Callable[[Tensor, float], Tensor]
"""Called with x0 + sigma·eps (for sigma = ∞: eps) and sigma; returns the estimate of x0."""
Noise = Callable[[int], Tensor]
"""Called with the number of a step, from 0; returns noise of unit variance, shaped like the samples."""


class Step(NamedTuple):
    """One step of a sampler, from a sigma, which may be ∞, to a smaller one, which may be 0."""

    number: int
    sigma: float
    after: float

    @property
    def ratio(self) -> float:
        """sigma' / sigma: 0 for a step from ∞ or to 0."""
        return self.after / self.sigma

    @property
    def width(self) -> float:
        """ln(sigma / sigma'), the length of the step in half the log of the signal-to-noise ratio; ∞ at both ends."""
        return math.inf if self.after == 0.0 else math.log(self.sigma / self.after)

    def moved(self, x: Tensor, clean: Tensor) -> Tensor:
        """Carry samples to the end of the step along one estimate of the clean samples: exact if that stays the same.

        From sigma = ∞, where x is eps, this is x0 + sigma'·eps.
        """
        if math.isinf(self.sigma):
            return clean + self.after * x
        return clean + self.ratio * (x - clean)


def draw(
    denoise: Denoise,
    start: Tensor,
    sigmas: Sequence[float] | NDArray[np.float64],
    sampler: str,
    generator: torch.Generator | Noise | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Draw samples: carry noise from the first sigma to the last one.

    Args:
        denoise: the estimate D(x, sigma) of the clean samples, a `Denoiser` or an exact one of `closed_forms`.
        start: noise of unit variance, (N, …); the first samples are sigmas[0]·start, for ∞ start itself. It is not
            changed, and its dtype is that of all tensors.
        sigmas: noise levels, strictly descending: N + 1 for N steps. The first may be ∞, the last may be 0.
        sampler: ``ddim`` (arXiv 2010.02502, eta = 0) and ``euler`` (2206.00364 §3): first order, the same result;
            ``ddpm`` (2006.11239 eq. 7, the smaller of its variances) and ``euler_ancestral``: their stochastic form,
            again with the same result; ``heun`` (2206.00364 Alg. 1): second order, two estimates a step; ``dpmpp_2m``
            (2211.01095 Alg. 2): second order, one estimate; ``unipc`` (2302.04867, UniPC-2 with B2): third order, one
            estimate. Each takes a step of first order to sigma = 0, and heun one from ∞.
        generator: source of the noise of ``ddpm`` and ``euler_ancestral``, on the device of start: a generator, or a
            function of the step's number, with which samples do not depend on how they are batched.
        on_step: called after every step with the number of steps done and the samples x = x0 + sigmas[number]·eps.

    Returns:
        The samples x at the last sigma, (N, …).

    Raises:
        ConfigError: there is no such sampler, there is no step, or the sigmas do not descend.
        ValueError: the sampler draws noise and has no generator.
    """
    if sampler not in SAMPLERS:
        near = did_you_mean(str(sampler), SAMPLERS)
        raise ConfigError(f"sampler {sampler!r}: there is no such sampler{near}; choose {', '.join(SAMPLERS)}")
    steps = steps_of(sigmas)
    noise: Noise | None = None
    if sampler in STOCHASTIC_SAMPLERS:
        if generator is None:
            raise ValueError(f"the sampler {sampler} draws noise: give it a generator")
        noise = _noise_from(generator, start) if isinstance(generator, torch.Generator) else generator
    with torch.no_grad():
        x = start if math.isinf(steps[0].sigma) else steps[0].sigma * start
        match sampler:
            case "heun":
                path = _heun(denoise, x, steps)
            case "dpmpp_2m":
                path = _dpmpp_2m(denoise, x, steps)
            case "unipc":
                path = _unipc(denoise, x, steps)
            case _ if noise is not None:
                path = _ancestral(denoise, x, steps, noise)
            case _:
                path = _euler(denoise, x, steps)
        for done, x in enumerate(path, start=1):
            if on_step is not None:
                on_step(done, x)
    return x


def steps_of(sigmas: Sequence[float] | NDArray[np.float64]) -> list[Step]:
    """Return the steps over a list of noise levels.

    Raises:
        ConfigError: there is no step, a sigma is negative, NaN or ∞ behind the first place, or they do not descend.
    """
    values = [float(sigma) for sigma in sigmas]
    if len(values) < 2:
        raise ConfigError(f"sampling: {len(values)} noise levels make no step; give at least 1 step")
    steps = [Step(number, *pair) for number, pair in enumerate(pairwise(values))]
    for step in steps:
        if not (step.sigma > step.after >= 0.0):
            raise ConfigError(
                f"sampling: sigma must descend from step to step and end at 0 or above, and step {step.number + 1} goes"
                f" from {step.sigma!r} to {step.after!r}"
            )
    return steps


def _noise_from(generator: torch.Generator, like: Tensor) -> Noise:
    return lambda _: torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def _euler(denoise: Denoise, x: Tensor, steps: list[Step]) -> Iterator[Tensor]:
    for step in steps:
        x = step.moved(x, denoise(x, step.sigma))
        yield x


def _ancestral(denoise: Denoise, x: Tensor, steps: list[Step], noise: Noise) -> Iterator[Tensor]:
    """Draw from the posterior of x' given x and the estimate of x0: a walk down to sigma'²/sigma, and noise up."""
    for step in steps:
        clean = denoise(x, step.sigma)
        mean = clean if step.ratio == 0.0 else clean + step.ratio**2 * (x - clean)
        x = mean
        if step.after > 0.0:
            x = mean + step.after * math.sqrt((1.0 - step.ratio) * (1.0 + step.ratio)) * noise(step.number)
        yield x


def _heun(denoise: Denoise, x: Tensor, steps: list[Step]) -> Iterator[Tensor]:
    """Average the slopes at both ends of a step, the far end reached by Euler's method."""
    for step in steps:
        clean = denoise(x, step.sigma)
        end = step.moved(x, clean)
        if step.after > 0.0 and not math.isinf(step.sigma):
            slopes = (x - clean) / step.sigma + (end - denoise(end, step.after)) / step.after
            end = x + 0.5 * (step.after - step.sigma) * slopes
        x = end
        yield x


def _extrapolated(step: Step, clean: Tensor, before: Step | None, clean_before: Tensor | None) -> Tensor:
    """Return the estimate at the middle of a step (in log sigma), from this one and that of the step before."""
    if before is None or clean_before is None or step.after == 0.0 or math.isinf(before.width):
        return clean
    return clean + 0.5 * (step.width / before.width) * (clean - clean_before)


def _dpmpp_2m(denoise: Denoise, x: Tensor, steps: list[Step]) -> Iterator[Tensor]:
    before: Step | None = None
    clean_before: Tensor | None = None
    for step in steps:
        clean = denoise(x, step.sigma)
        x = step.moved(x, _extrapolated(step, clean, before, clean_before))
        before, clean_before = step, clean
        yield x


def _unipc(denoise: Denoise, x: Tensor, steps: list[Step]) -> Iterator[Tensor]:
    """Predict like DPM-Solver++ 2M, then correct the step with the estimate at its end, which the next step needs too.

    The sample at the last sigma is predicted only: its correction would cost one more estimate.
    """
    before: Step | None = None
    earlier: Step | None = None
    origin: Tensor | None = None
    clean_before: Tensor | None = None
    clean_earlier: Tensor | None = None
    for step in steps:
        clean = denoise(x, step.sigma)
        if before is not None and origin is not None and clean_before is not None:
            corrected = clean_before
            if earlier is None or clean_earlier is None:
                corrected = corrected + 0.5 * (clean - clean_before)
            else:
                old, new = corrector_weights(before.width, earlier.width)
                corrected = corrected + new * (clean - clean_before)
                if old != 0.0:
                    corrected = corrected + old * (clean_before - clean_earlier)
            x = before.moved(origin, corrected)
        earlier, clean_earlier = before, clean_before
        before, clean_before, origin = step, clean, x
        x = step.moved(x, _extrapolated(step, clean, earlier, clean_earlier))
        yield x


def corrector_weights(width: float, width_before: float) -> tuple[float, float]:
    """Return the weights of the two differences of estimates in the corrector of UniPC-2 (arXiv 2302.04867 eq. 5).

    They solve old·r + new = phi_2/phi_1 and new - old·r² = 2·phi_3/phi_1, with r = width_before / width and the
    functions phi_k of exponential integrators at minus the width.

    Args:
        width: ln(sigma / sigma') of the step that is corrected.
        width_before: the same of the step before it; ∞: it came from pure noise and has no difference.

    Returns:
        (weight of the difference over the step before, weight of the difference over this step).
    """
    first, second = _phi(2, -width) / _phi(1, -width), 2.0 * _phi(3, -width) / _phi(1, -width)
    if math.isinf(width_before):
        return 0.0, first
    ratio = width_before / width
    share = (first - second) / (1.0 + ratio)
    return share / ratio, first - share


def _phi(order: int, z: float) -> float:
    """Compute the function phi_k(z) = Σ z^n / (n + k)! of exponential integrators, k from 1 to 3, z ≤ 0."""
    if z > -1.0:  # the differences of the closed form would cancel
        term = value = 1.0 / math.factorial(order)
        for n in range(order + 1, order + 25):
            term *= z / n
            value += term
        return value
    value = math.expm1(z) / z
    for k in range(1, order):
        value = (value - 1.0 / math.factorial(k)) / z
    return value
