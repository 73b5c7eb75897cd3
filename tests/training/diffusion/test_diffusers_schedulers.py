"""diffusers' schedulers on the same exact solutions: which of them pass, and how far the others are from them.

Everything is computed on data N(mean, S²) with the ideal network in float64, over the scheduler's own levels, so the
error is that of its steps alone. This decides whose samplers the trainer uses. As shipped (0.42.1) none passes at 1e-12
for every number of steps: the tables of all are float32, and the steps of Euler, Euler ancestral and DPM-Solver++ cast
samples to float32. With float64 tables DDIM, DDPM, Heun and UniPC pass: they are the methods that ours are. But DDIM
goes from level to level of its own list only where the number of steps divides that of the levels, and DDPM adds noise
of 1e-10 to its result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from training.diffusion.closed_forms import GaussianDenoiser, sampler_factor
from training.diffusion.noise_schedules import NoiseSchedule
from training.diffusion.predictions import Prediction
from training.diffusion.samplers import STOCHASTIC_SAMPLERS, draw

pytestmark = [
    pytest.mark.slow,
    # diffusers 0.42 makes numpy arrays of tensors, which torch does in the way of numpy 1.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]

MEAN, DEVIATION = 0.7, 0.5
IDEAL = GaussianDenoiser(MEAN, DEVIATION)
START = torch.randn((5, 3), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
STEPS = (1, 2, 5, 20)
"""Numbers of steps that divide the 1,000 levels: DDIM of diffusers goes astray with others, see below."""
LARGEST_FLOAT32_ERROR = 1e-5


class Method(NamedTuple):
    """A scheduler of diffusers, our sampler that is the same method, and what was measured."""

    scheduler: str
    sampler: str
    is_exact_in_float64: bool
    """True if it passes at 1e-12 once its tables are replaced by float64 ones: its steps are right."""
    spacing: str = "trailing"
    settings: Mapping[str, Any] = MappingProxyType({})


UNCLIPPED = MappingProxyType({"clip_sample": False})
"""Setting without which the estimate is clipped to [-1, 1], which is silently wrong for other data."""
METHODS = (
    Method("DDIMScheduler", "ddim", True, settings=UNCLIPPED),
    Method("DDPMScheduler", "ddpm", True, spacing="leading", settings=UNCLIPPED),
    Method("EulerDiscreteScheduler", "euler", False),
    Method("EulerAncestralDiscreteScheduler", "euler_ancestral", False),
    Method("HeunDiscreteScheduler", "heun", True),
    Method("DPMSolverMultistepScheduler", "dpmpp_2m", False),
    Method("UniPCMultistepScheduler", "unipc", True),
)
DDIM, DDPM, HEUN = METHODS[0], METHODS[1], METHODS[4]
SCALED = ("DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler")
"""Schedulers that move z = a·x0 + s·eps; the others move x = x0 + sigma·eps."""


@pytest.fixture(scope="module")
def diffusers() -> Any:
    """The library, imported once."""
    import diffusers

    return diffusers


def prepared(diffusers: Any, method: Method, steps: int, in_float64: bool) -> Any:
    """Return a scheduler that has its steps, over a linear schedule that ends at sigma = 0."""
    settings = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "timestep_spacing": method.spacing}
    scheduler = getattr(diffusers, method.scheduler)(**settings, **method.settings)
    scheduler.set_timesteps(steps)
    if in_float64:
        for table in ("alphas_cumprod", "final_alpha_cumprod", "one", "sigmas"):
            if hasattr(scheduler, table):
                setattr(scheduler, table, getattr(scheduler, table).double())
    return scheduler


def levels_of(scheduler: Any, method: Method) -> list[float]:
    """Return the sigmas that a scheduler goes over, from its own tables."""
    if hasattr(scheduler, "sigmas"):
        sigmas = scheduler.sigmas.double().tolist()
        if method.sampler == "heun":  # every level but the ends is listed for both of its estimates
            sigmas = [*sigmas[:1], *sigmas[1:-1:2], *sigmas[-1:]]
        return [float(sigma) for sigma in sigmas]
    kept = scheduler.alphas_cumprod.double()[scheduler.timesteps]
    return [*((1.0 - kept) / kept).sqrt().tolist(), 0.0]


def drawn_by_diffusers(scheduler: Any, method: Method, levels: list[float]) -> Tensor:
    """Return the samples that a scheduler draws with the ideal network, in float64, from `START`."""
    is_scaled = method.scheduler in SCALED
    generator = torch.Generator().manual_seed(9)
    per_step = list(levels[:-1])
    if method.sampler == "heun":
        per_step = [*levels[:1], *(sigma for sigma in levels[1:-1] for _ in range(2))]
    sample = START * (levels[0] / math.hypot(1.0, levels[0]) if is_scaled else levels[0])
    for time, sigma in zip(scheduler.timesteps, per_step, strict=True):
        scheduler.scale_model_input(sample, time)
        x = sample * math.hypot(1.0, sigma) if is_scaled else sample
        output = (x - IDEAL(x, sigma)) / sigma
        noise = {"generator": generator} if method.sampler in STOCHASTIC_SAMPLERS else {}
        sample = scheduler.step(output, time, sample, **noise).prev_sample
    return sample


def expected(method: Method, levels: list[float]) -> Tensor:
    """Return what the method gives exactly; for a stochastic one with the same noise, by our sampler."""
    if method.sampler in STOCHASTIC_SAMPLERS:
        return draw(IDEAL, START, levels, method.sampler, torch.Generator().manual_seed(9))
    return MEAN + sampler_factor(method.sampler, levels, DEVIATION) * (levels[0] * START - MEAN)


def largest_error(diffusers: Any, method: Method, steps: Iterable[int], in_float64: bool) -> float:
    """Return the largest error of a scheduler's samples over numbers of steps."""
    errors = []
    for number in steps:
        scheduler = prepared(diffusers, method, number, in_float64)
        levels = levels_of(scheduler, method)
        errors.append(float((drawn_by_diffusers(scheduler, method, levels) - expected(method, levels)).abs().max()))
    return max(errors)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: str(method.scheduler))
def test_a_scheduler_is_the_same_method_and_its_error_is_float32s(diffusers: Any, method: Method) -> None:
    as_shipped = largest_error(diffusers, method, STEPS, in_float64=False)
    assert as_shipped < LARGEST_FLOAT32_ERROR
    assert as_shipped > 1e-12, "it passes at every number of steps: the trainer can use it instead of its own"
    assert (largest_error(diffusers, method, STEPS, in_float64=True) < 1e-12) == method.is_exact_in_float64


def test_heun_passes_as_shipped_where_its_steps_are_short_enough(diffusers: Any) -> None:
    assert largest_error(diffusers, HEUN, [10, 50], in_float64=False) < 1e-12, "float32 differences that are exact"


def test_ddim_leaves_its_own_levels_where_the_steps_do_not_divide_them(diffusers: Any) -> None:
    # It goes to the level 1000 // 30 below and continues from the next one of its list, which is another one.
    assert largest_error(diffusers, DDIM, [30], in_float64=True) > 5e-3
    assert largest_error(diffusers, DDIM._replace(spacing="linspace"), [3], in_float64=True) > 0.5
    assert largest_error(diffusers, DDIM._replace(spacing="leading"), [30], in_float64=True) < 1e-12


def test_ddpm_adds_noise_to_its_result(diffusers: Any) -> None:
    # A variance of 0 is raised to 1e-20, unless the last level is the first of the schedule.
    error = largest_error(diffusers, DDPM._replace(spacing="trailing"), [5, 20], in_float64=True)
    assert 1e-11 < error < 1e-8


def test_cosine_with_karras_visits_levels_again_and_ours_does_not(diffusers: Any) -> None:
    theirs = diffusers.DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2", use_karras_sigmas=True)
    theirs.set_timesteps(20)
    assert len(set(theirs.timesteps.tolist())) == 12, "diffusers' issue 12771"
    cosine = NoiseSchedule("cosine")
    assert len(set(cosine.index_of(cosine.sampling_sigmas(20, "karras")[:-1]))) == 20


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize(
    ("kind", "theirs"), [("linear", "linear"), ("scaled_linear", "scaled_linear"), ("cosine", "squaredcos_cap_v2")]
)
def test_the_schedules_of_betas_are_the_same(diffusers: Any, kind: str, theirs: str, zero_terminal_snr: bool) -> None:
    ends = (0.0002, 0.015)
    table = diffusers.DDPMScheduler(1000, *ends, theirs, rescale_betas_zero_snr=zero_terminal_snr)
    schedule = NoiseSchedule(kind, 1000, *ends, zero_terminal_snr=zero_terminal_snr)
    signal, _ = schedule.signal_and_noise(np.arange(1000))
    assert np.abs(table.alphas_cumprod.double().numpy() - signal**2).max() < 2e-6, "float32"


def test_v_has_the_same_sign(diffusers: Any) -> None:
    x0, eps = START[:, None], torch.flip(START, [0])[:, None]
    theirs = diffusers.DDPMScheduler().get_velocity(x0, eps, torch.full((5,), 300))
    a, s = (torch.from_numpy(part) for part in NoiseSchedule("linear").signal_and_noise([300] * 5))
    assert torch.allclose(Prediction("v").target(x0, eps, a, s), theirs, atol=1e-5)
