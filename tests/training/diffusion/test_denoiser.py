"""The denoiser: any schedule and prediction of an ideal network give the ideal estimate, and guidance is linear."""

from __future__ import annotations

import math

import pytest
import torch

from tests.training.diffusion.exact_networks import GaussianNetwork
from training.diffusion.closed_forms import GaussianDenoiser, sampler_factor
from training.diffusion.denoiser import Denoiser
from training.diffusion.noise_schedules import SCHEDULES, NoiseSchedule
from training.diffusion.predictions import PREDICTIONS, Prediction
from training.diffusion.samplers import draw
from training.errors import ConfigError

MEAN, DEVIATION = 0.4, 0.8
X = torch.linspace(-3, 3, 12, dtype=torch.float64).reshape(3, 2, 2)


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_an_ideal_network_gives_the_ideal_estimate_at_every_sigma(schedule: str, kind: str) -> None:
    levels, prediction = NoiseSchedule(schedule), Prediction(kind, 0.5)
    denoise = Denoiser(GaussianNetwork(levels, prediction, MEAN, DEVIATION), levels, prediction)
    ideal = GaussianDenoiser(MEAN, DEVIATION)
    for sigma in (float(levels.sigmas[0]), float(levels.sigmas[333]), 1.234, float(levels.sigmas[-1])):
        x = X * max(1.0, sigma)
        assert torch.allclose(denoise(x, sigma), ideal(x, sigma), rtol=0, atol=1e-10), sigma


@pytest.mark.parametrize("kind", ["v", "x0"])
@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "unipc"])
def test_samples_from_pure_noise(sampler: str, kind: str) -> None:
    schedule, prediction = NoiseSchedule("linear", zero_terminal_snr=True), Prediction(kind)
    denoise = Denoiser(GaussianNetwork(schedule, prediction, MEAN, DEVIATION), schedule, prediction)
    sigmas = schedule.sampling_sigmas(20)
    assert sigmas[0] == math.inf
    drawn = draw(denoise, X, sigmas, sampler)
    expected = MEAN + sampler_factor(sampler, sigmas, DEVIATION) * X
    assert torch.allclose(drawn, expected, rtol=0, atol=1e-11)


def test_guidance_moves_from_the_unconditional_estimate_through_the_conditional_one() -> None:
    schedule, prediction = NoiseSchedule("karras"), Prediction("edm", 0.5)
    network = GaussianNetwork(schedule, prediction, MEAN, DEVIATION)
    shift, none = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    free = Denoiser(network, schedule, prediction, {"shift": none})(X, 2.0)
    wanted = Denoiser(network, schedule, prediction, {"shift": shift})(X, 2.0)
    assert network.sizes == [3, 3]
    for guidance in (0.0, 0.5, 3.0, -1.0):
        guided = Denoiser(network, schedule, prediction, {"shift": shift}, {"shift": none}, guidance)(X, 2.0)
        assert torch.allclose(guided, free + guidance * (wanted - free), rtol=0, atol=1e-12)
        assert network.sizes[-1] == 6, "both in one call"
    Denoiser(network, schedule, prediction, {"shift": shift}, {"shift": none}, 1.0)(X, 2.0)
    assert network.sizes[-1] == 3, "guidance 1 asks for one estimate only"


def test_the_dtype_of_the_samples_is_kept() -> None:
    schedule, prediction = NoiseSchedule("linear"), Prediction("v")
    seen: list[torch.dtype] = []
    denoise = Denoiser(lambda z, t, _: seen.extend([z.dtype, t.dtype]) or z, schedule, prediction)  # type: ignore[func-returns-value]
    assert denoise(X.float(), 1.5).dtype == torch.float32
    assert seen == [torch.float32, torch.float32]


@pytest.mark.parametrize("guidance", [math.nan, math.inf, -math.inf])
def test_a_guidance_that_is_not_finite_is_refused(guidance: float) -> None:
    with pytest.raises(ConfigError, match=r"guidance \S+: give a finite number; 1 is no guidance"):
        Denoiser(lambda z, t, c: z, NoiseSchedule(), Prediction(), guidance=guidance)


def test_guidance_without_conditions_is_refused() -> None:
    condition = {"labels": torch.zeros(1)}
    with pytest.raises(ConfigError, match="only a model with conditions can be guided"):
        Denoiser(lambda z, t, c: z, NoiseSchedule(), Prediction(), guidance=2.0)
    with pytest.raises(ConfigError, match="has learned no samples without their condition"):
        Denoiser(lambda z, t, c: z, NoiseSchedule(), Prediction(), condition, guidance=2.0)
    with pytest.raises(ValueError, match="differ"):
        Denoiser(lambda z, t, c: z, NoiseSchedule(), Prediction(), condition, {"text": torch.zeros(1)}, guidance=2.0)


@pytest.mark.parametrize("kind", ["epsilon", "edm"])
def test_pure_noise_is_refused_where_there_is_no_estimate(kind: str) -> None:
    schedule = NoiseSchedule("linear", zero_terminal_snr=True)
    with pytest.raises(ConfigError, match=f"prediction {kind}: it has no estimate at sigma = ∞"):
        Denoiser(lambda z, t, c: z, schedule, Prediction(kind))(X, math.inf)
