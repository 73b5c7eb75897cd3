"""Meanings of a network's output: each output and its clean sample belong together, and the weights are the papers'."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.diffusion.noise_schedules import NoiseSchedule, signal_and_noise_of
from training.diffusion.predictions import PREDICTIONS, Prediction
from training.errors import ConfigError

KINDS = st.sampled_from(PREDICTIONS)
SIGMAS = st.floats(1e-3, 1e3)


def drawn(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def levels(*sigmas: float) -> tuple[Tensor, Tensor]:
    signal, noise = signal_and_noise_of(sigmas)
    return torch.from_numpy(signal), torch.from_numpy(noise)


@settings(max_examples=50)
@given(kind=KINDS, sigma=SIGMAS, sigma_data=st.floats(0.1, 3.0))
def test_the_target_as_output_gives_the_clean_sample(kind: str, sigma: float, sigma_data: float) -> None:
    prediction = Prediction(kind, sigma_data)
    x0, eps = drawn((3, 2, 4), 1), drawn((3, 2, 4), 2)
    a, s = levels(sigma, 1.0, 0.3)
    z = a.reshape(3, 1, 1) * x0 + s.reshape(3, 1, 1) * eps
    target = prediction.target(x0, eps, a, s)
    tolerance = 1e-13 * max(1.0, sigma**2)
    assert torch.allclose(prediction.clean(target, z, a, s), x0, rtol=0, atol=tolerance)
    assert torch.allclose(prediction.output(x0, z, a, s), target, rtol=0, atol=1e-13 * max(1.0, 1 / sigma))
    # one level as numbers is the same as one per sample
    one = prediction.target(x0[:1], eps[:1], float(a[0]), float(s[0]))
    assert torch.allclose(one, target[:1], rtol=0, atol=1e-15)


@settings(max_examples=50)
@given(kind=KINDS, weighting=st.sampled_from(["min_snr", "edm"]), sigma=SIGMAS, gamma=st.floats(0.5, 20.0))
def test_the_weights_are_those_of_the_clean_sample(kind: str, weighting: str, sigma: float, gamma: float) -> None:
    prediction = Prediction(kind, 0.7)
    output, z, wrong = drawn((1, 5)), drawn((1, 5), 1), 1e-3
    a, s = levels(sigma)
    change = (prediction.clean(output + wrong, z, a, s) - prediction.clean(output, z, a, s)) / wrong
    slope_squared = float((change**2).mean())
    of_clean = min(1 / sigma**2, gamma) if weighting == "min_snr" else (sigma**2 + 0.49) / (sigma * 0.7) ** 2
    weight = float(prediction.loss_weight(weighting, a, s, gamma))
    assert weight == pytest.approx(of_clean * slope_squared, rel=1e-6)
    assert float(prediction.loss_weight("plain", a, s)) == 1.0


def test_edm_is_table_1() -> None:
    prediction, sigma, sd = Prediction("edm", 0.5), 1.7, 0.5
    x0, eps, output = drawn((2, 3)), drawn((2, 3), 1), drawn((2, 3), 2)
    a, s = levels(sigma, sigma)
    x = x0 + sigma * eps
    c_skip, c_out = sd**2 / (sigma**2 + sd**2), sigma * sd / math.hypot(sigma, sd)
    assert torch.allclose(prediction.network_input(x0, eps, a, s), x / math.hypot(sigma, sd), rtol=1e-14)
    assert torch.allclose(prediction.target(x0, eps, a, s), (x0 - c_skip * x) / c_out, rtol=1e-12, atol=1e-14)
    clean = prediction.clean(output, a.reshape(2, 1) * x, a, s)
    assert torch.allclose(clean, c_skip * x + c_out * output, rtol=1e-13)


@pytest.mark.parametrize("kind", ["v", "x0", "edm"])
def test_pure_noise_has_finite_inputs_targets_estimates_and_weights(kind: str) -> None:
    prediction = Prediction(kind, 0.5)
    x0, eps = drawn((1, 4)), drawn((1, 4), 1)
    a, s = levels(math.inf)
    assert torch.allclose(prediction.network_input(x0, eps, a, s), eps)
    assert torch.allclose(prediction.clean(prediction.target(x0, eps, a, s), eps, a, s), x0, atol=1e-15)
    for weighting in ("plain", "min_snr", "edm"):
        assert torch.isfinite(prediction.loss_weight(weighting, a, s)).all()


def test_min_snr_of_epsilon_has_its_limit_at_pure_noise() -> None:
    assert float(Prediction().loss_weight("min_snr", *levels(math.inf))) == 1.0


def test_the_networks_time() -> None:
    schedule = NoiseSchedule("karras", levels=10)
    index = torch.tensor([0.0, 3.5, 9.0], dtype=torch.float64)
    assert Prediction("v").time(schedule, index) is index
    expected = torch.from_numpy(schedule.sigma_at(index.numpy())).log() / 4
    assert torch.allclose(Prediction("edm").time(schedule, index), expected, rtol=1e-15)
    assert Prediction("edm").time(schedule, torch.tensor([2])).dtype == torch.float32
    assert Prediction("v").time_at(schedule, float(schedule.sigmas[4])) == 4.0
    assert Prediction("edm").time_at(schedule, 1.3) == math.log(1.3) / 4


def test_the_dtype_of_the_values_is_kept() -> None:
    x0 = torch.ones(2, 3)
    a, s = levels(1.0, 2.0)
    for kind in PREDICTIONS:
        prediction = Prediction(kind)
        assert prediction.network_input(x0, x0, a, s).dtype == torch.float32
        assert prediction.target(x0, x0, a, s).dtype == torch.float32
        assert prediction.clean(x0, x0, a, s).dtype == torch.float32


def test_a_prediction_goes_through_a_dict() -> None:
    assert Prediction.from_dict(Prediction("edm", 0.3).to_dict()) == Prediction("edm", 0.3)
    with pytest.raises(ConfigError, match="has no 'sigma'"):
        Prediction.from_dict({"sigma": 1.0})


def test_what_cannot_be_trained_is_refused() -> None:
    pure_noise = NoiseSchedule("linear", zero_terminal_snr=True)
    for kind in ("epsilon", "edm"):
        with pytest.raises(ConfigError, match=f"prediction {kind} with zero_terminal_snr: .*choose v or x0"):
            Prediction(kind).check_schedule(pure_noise)
    with pytest.raises(ConfigError, match="the last level would have weight 0"):
        Prediction("v").check_schedule(pure_noise, "min_snr")
    Prediction("v").check_schedule(pure_noise)
    Prediction("edm").check_schedule(NoiseSchedule("karras"), "min_snr")
    with pytest.raises(ConfigError, match=r"'eps': there is no such prediction.*choose epsilon, v, x0, edm"):
        Prediction("eps")
    for sigma_data in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="sigma_data"):
            Prediction("edm", sigma_data)
    with pytest.raises(ConfigError, match=r"loss_weighting 'min_srn': .*did you mean 'min_snr'\?"):
        Prediction().loss_weight("min_srn", *levels(1.0))
    with pytest.raises(ConfigError, match="min_snr_gamma 0"):
        Prediction().loss_weight("min_snr", *levels(1.0), gamma=0.0)
