"""Exact solutions: the flow solves its equation, EDM's loss is 1, a finite set's denoiser has the least loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.diffusion.closed_forms import (
    FiniteSetDenoiser,
    flow_factor,
    gaussian_least_loss,
    least_loss,
    sampler_factor,
    sampler_moments,
)
from training.diffusion.noise_schedules import NoiseSchedule, signal_and_noise_of
from training.diffusion.predictions import PREDICTIONS, Prediction
from training.diffusion.samplers import SAMPLERS, STOCHASTIC_SAMPLERS

SIGMAS = st.floats(0.01, 100.0)


def quadrature(count: int = 120) -> tuple[Tensor, Tensor]:
    """Return points and weights with which a sum is the mean over a standard normal variable."""
    points, weights = np.polynomial.hermite_e.hermegauss(count)
    return torch.from_numpy(points), torch.from_numpy(weights / weights.sum())


@settings(max_examples=30)
@given(sigma=SIGMAS, deviation=st.floats(0.1, 10.0))
def test_the_flow_solves_its_equation(sigma: float, deviation: float) -> None:
    # dy/dsigma = k·y, k = sigma / (S² + sigma²), by a central difference
    h = 1e-5 * sigma
    slope = (flow_factor(sigma, sigma + h, deviation) - flow_factor(sigma, sigma - h, deviation)) / (2 * h)
    assert slope == pytest.approx(sigma / (deviation**2 + sigma**2), rel=1e-6)


def test_the_flow_carries_the_noisy_distribution_to_the_clean_one() -> None:
    assert flow_factor(80.0, 0.0, 0.5) * math.hypot(80.0, 0.5) == pytest.approx(0.5)
    assert flow_factor(math.inf, 0.0, 0.5) == 0.5


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name not in STOCHASTIC_SAMPLERS])
def test_a_samplers_factor_becomes_that_of_the_flow(sampler: str) -> None:
    sigmas = NoiseSchedule("sigma", sigma_min=0.05, sigma_max=50.0).sampling_sigmas(2000)[:-1]
    assert sampler_factor(sampler, sigmas, 0.5) == pytest.approx(flow_factor(50.0, 0.05, 0.5), rel=5e-3)


def test_the_issues_example_of_each_product() -> None:
    levels, deviation = [4.0, 2.0, 1.0], 1.0
    k = [4 / 17, 2 / 5, 1 / 2]
    c = [1 / 17, 1 / 5]
    assert sampler_factor("ddim", levels, deviation) == pytest.approx((1 - 2 * k[0]) * (1 - k[1]), rel=1e-15)
    heun = [1 - 1.0 * (k[0] + k[1] * (1 - 2 * k[0])), 1 - 0.5 * (k[1] + k[2] * (1 - k[1]))]
    assert sampler_factor("heun", levels, deviation) == pytest.approx(heun[0] * heun[1], rel=1e-15)
    y = 0.5 + 0.5 * c[0]
    assert sampler_factor("dpmpp_2m", levels, deviation) == pytest.approx(0.5 * y + 0.5 * (1.5 * c[1] * y - 0.5 * c[0]))


def test_a_stochastic_sampler_has_no_single_factor() -> None:
    with pytest.raises(ValueError, match="has no single factor"):
        sampler_factor("ddpm", [1.0, 0.0], 1.0)


def test_moments_become_those_of_the_data() -> None:
    for sampler in SAMPLERS:
        mean, variance = sampler_moments(sampler, NoiseSchedule("karras").sampling_sigmas(3000), 0.7, 0.5)
        assert mean == pytest.approx(0.7, abs=0.01)
        assert variance == pytest.approx(0.25, rel=0.02), sampler


# -- losses ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(sigma=SIGMAS, deviation=st.floats(0.05, 5.0))
def test_edms_loss_on_normal_data_is_1_per_value_and_no_output_does_better(sigma: float, deviation: float) -> None:
    prediction = Prediction("edm", deviation)
    a, s = (torch.from_numpy(part) for part in signal_and_noise_of([sigma]))
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    # Input and target are linear in the independent x0 ~ N(0, S²) and eps ~ N(0, 1): moments need no samples.
    target = torch.stack([prediction.target(one * deviation, zero, a, s), prediction.target(zero, one, a, s)]).flatten()
    inputs = torch.stack(
        [prediction.network_input(one * deviation, zero, a, s), prediction.network_input(zero, one, a, s)]
    ).flatten()
    assert float(target @ target) == pytest.approx(1.0, rel=1e-13), "the loss of the output 0"
    assert float(inputs @ inputs) == pytest.approx(1.0, rel=1e-13), "inputs have variance 1"
    assert float(inputs @ target) == pytest.approx(0.0, abs=1e-13), "no output that depends on the input does better"
    assert float(prediction.loss_weight("edm", a, s)) == 1.0
    assert gaussian_least_loss(prediction, sigma, deviation) == pytest.approx(1.0, rel=1e-12)


@settings(max_examples=40)
@given(kind=st.sampled_from(PREDICTIONS), sigma=st.floats(0.05, 20.0), deviation=st.floats(0.2, 3.0))
def test_the_least_loss_on_normal_data(kind: str, sigma: float, deviation: float) -> None:
    prediction = Prediction(kind, 0.5)
    a, s = map(float, signal_and_noise_of(sigma))
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    target = torch.cat([prediction.target(one * deviation, zero, a, s), prediction.target(zero, one, a, s)])
    z = torch.tensor([a * deviation, s], dtype=torch.float64)
    left = float(target @ target) - float(z @ target) ** 2 / float(z @ z)  # what regression on the input leaves
    assert gaussian_least_loss(prediction, sigma, deviation) == pytest.approx(left, rel=1e-8, abs=1e-12)


# -- a finite set ------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(sigma=st.floats(0.05, 50.0))
def test_two_points_give_a_hyperbolic_tangent(sigma: float) -> None:
    ideal = FiniteSetDenoiser(torch.tensor([[1.0], [-1.0]], dtype=torch.float64))
    x = torch.linspace(-4, 4, 41, dtype=torch.float64)[:, None]
    assert torch.allclose(ideal(x, sigma), torch.tanh(x / sigma**2), rtol=0, atol=1e-13)


def test_one_call_for_many_levels_and_any_shape() -> None:
    data = torch.randn((5, 2, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.randn((4, 2, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sigmas = torch.tensor([1e-3, 0.3, 2.0, 1e4], dtype=torch.float64)
    ideal = FiniteSetDenoiser(data)
    together = ideal(x, sigmas)
    assert torch.allclose(together, torch.cat([ideal(x[i : i + 1], float(sigmas[i])) for i in range(4)]), atol=1e-14)
    nearest = torch.cdist(x[:1].flatten(1), data.flatten(1)).argmin()
    assert torch.equal(together[0], data[nearest]), "with little noise the nearest sample of the set"
    assert torch.allclose(ideal(x, math.inf), data.mean(0).expand(4, 2, 3))
    assert torch.allclose(together[3], data.mean(0), atol=1e-3)


def test_a_set_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="no denoiser"):
        FiniteSetDenoiser(torch.zeros(0, 3))


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_no_other_output_has_a_smaller_loss_on_the_set(kind: str) -> None:
    data = torch.tensor([1.0, -1.0, 0.2], dtype=torch.float64)
    prediction, (points, weights) = Prediction(kind, 0.7), quadrature()
    x0, eps = data.repeat_interleave(len(points))[:, None], points.repeat(len(data))[:, None]
    chance = weights.repeat(len(data)) / len(data)
    a, s = (torch.from_numpy(part).expand(len(x0)) for part in signal_and_noise_of([0.8]))
    ideal = FiniteSetDenoiser(data[:, None])
    loss = float((chance * least_loss(ideal, prediction, x0, eps, a, s)).sum())

    # The error of the least loss is orthogonal to every function of the input: a change of the output by f adds f².
    z = a[:, None] * x0 + s[:, None] * eps
    for change in (torch.ones_like(z), z, torch.sin(3 * z)):
        clean = ideal(z / a[:, None], s / a)
        output = prediction.output(clean, z, a, s) + 0.1 * change
        other = float((chance * ((output - prediction.target(x0, eps, a, s)) ** 2)[:, 0]).sum())
        added = float((chance * ((0.1 * change) ** 2)[:, 0]).sum())
        assert other == pytest.approx(loss + added, rel=1e-6)


def test_the_least_loss_is_weighted_as_the_loss_is() -> None:
    data = torch.randn((6, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    eps = torch.randn((6, 4), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a, s = (torch.from_numpy(part) for part in signal_and_noise_of([0.1, 0.5, 1.0, 2.0, 5.0, 20.0]))
    ideal = FiniteSetDenoiser(data)
    of_clean = ((ideal(data + (s / a)[:, None] * eps, s / a) - data) ** 2).mean(1)
    for kind in PREDICTIONS:
        found = least_loss(ideal, Prediction(kind), data, eps, a, s, "min_snr", 5.0)
        assert torch.allclose(found, of_clean * torch.clamp((a / s) ** 2, max=5.0), rtol=1e-9, atol=1e-12)
