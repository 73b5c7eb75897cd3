"""Samplers on normal data: each equals its closed product, has its order, and takes any list of sigmas."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from training.diffusion.closed_forms import (
    FiniteSetDenoiser,
    GaussianDenoiser,
    flow_factor,
    sampler_factor,
    sampler_moments,
)
from training.diffusion.noise_schedules import NoiseSchedule, geometric
from training.diffusion.samplers import SAMPLERS, STOCHASTIC_SAMPLERS, corrector_weights, draw, steps_of
from training.errors import ConfigError

DETERMINISTIC = [name for name in SAMPLERS if name not in STOCHASTIC_SAMPLERS]
MEANS = torch.tensor([0.0, -2.0, 7.0], dtype=torch.float64)
DEVIATIONS = torch.tensor([0.3, 1.0, 5.0], dtype=torch.float64)
IDEAL = GaussianDenoiser(MEANS, DEVIATIONS)
"""The ideal denoiser of three data sets at once, one per column."""
START = torch.randn((4, 3), generator=torch.Generator().manual_seed(7), dtype=torch.float64)

SCHEDULES: dict[str, Callable[[int], NDArray[np.float64]]] = {
    "karras": NoiseSchedule("karras").sampling_sigmas,
    "linear": NoiseSchedule("linear").sampling_sigmas,
    "cosine": NoiseSchedule("cosine").sampling_sigmas,
    "from pure noise": NoiseSchedule("linear", zero_terminal_snr=True).sampling_sigmas,
    "pure noise, karras": partial(NoiseSchedule("linear", zero_terminal_snr=True).sampling_sigmas, spacing="karras"),
    "not to 0": lambda steps: geometric(20.0, 0.05, steps + 1),
}


def expected(sampler: str, sigmas: NDArray[np.float64], start: Tensor) -> Tensor:
    """Return the samples of a deterministic sampler on the three data sets, by its closed product."""
    factors = torch.tensor([sampler_factor(sampler, sigmas, float(s)) for s in DEVIATIONS], dtype=torch.float64)
    first = float(sigmas[0])
    return MEANS + factors * (start if math.isinf(first) else first * start - MEANS)


def error(found: Tensor, wanted: Tensor) -> float:
    """The largest error, relative to the values where these are above 1."""
    return float(((found - wanted).abs() / wanted.abs().clamp(min=1.0)).max())


# -- deterministic samplers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", DETERMINISTIC)
def test_every_number_of_steps_gives_the_closed_product(sampler: str, schedule: str) -> None:
    for steps in range(1, 101) if schedule == "karras" else (1, 2, 3, 4, 7, 19, 100):
        sigmas = SCHEDULES[schedule](steps)
        assert error(draw(IDEAL, START, sigmas, sampler), expected(sampler, sigmas, START)) < 1e-12, steps


@st.composite
def lists_of_sigmas(draw_: st.DrawFn) -> NDArray[np.float64]:
    """Strictly descending lists of any length, steps of any width, with ∞ before or 0 behind."""
    widths = draw_(st.lists(st.floats(0.05, 4.0), min_size=0, max_size=12))
    finite = draw_(st.floats(0.01, 1000.0)) * np.exp(-np.cumsum([0.0, *widths]))
    first, last = draw_(st.booleans()), draw_(st.booleans())
    if len(finite) == 1 and not (first or last):
        last = True
    return np.concatenate([[math.inf] * first, finite, [0.0] * last])


@settings(max_examples=60)
@given(sigmas=lists_of_sigmas(), sampler=st.sampled_from(DETERMINISTIC))
def test_any_list_of_sigmas_gives_the_closed_product(sigmas: NDArray[np.float64], sampler: str) -> None:
    # Wide steps behind narrow ones extrapolate far, and the size of what is rounded is that of the largest value.
    sizes = [1.0]
    found = draw(IDEAL, START, sigmas, sampler, on_step=lambda _, x: sizes.append(float(x.abs().max())))
    assert float((found - expected(sampler, sigmas, START)).abs().max()) < 1e-12 * max(sizes)


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("euler", 1), ("heun", 2), ("dpmpp_2m", 2), ("unipc", 3)])
def test_the_error_shrinks_by_the_methods_order(sampler: str, order: int) -> None:
    high, low = 10.0, 0.1
    exact = torch.tensor([flow_factor(high, low, float(s)) for s in DEVIATIONS], dtype=torch.float64)
    wanted = MEANS + exact * (high * START - MEANS)
    errors = [
        float((draw(IDEAL, START, geometric(high, low, steps + 1), sampler) - wanted).abs().max())
        for steps in (50, 100, 200)
    ]
    shown = [math.log2(a / b) for a, b in pairwise(errors)]
    assert shown[-1] == pytest.approx(order, abs=0.15), shown


@pytest.mark.parametrize("sampler", DETERMINISTIC)
def test_one_step_to_0_is_the_estimate(sampler: str) -> None:
    assert torch.equal(draw(IDEAL, START, [3.0, 0.0], sampler), IDEAL(3.0 * START, 3.0))
    assert torch.equal(draw(IDEAL, START, [math.inf, 0.0], sampler), MEANS.expand(4, 3))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samples_of_a_finite_set_are_of_the_set(sampler: str) -> None:
    data = torch.tensor([[1.0, 2.0], [-3.0, 0.5], [0.0, -4.0]], dtype=torch.float64)
    start = torch.randn((40, 2), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sigmas = NoiseSchedule("karras", sigma_min=0.02).sampling_sigmas(40)
    drawn = draw(FiniteSetDenoiser(data), start, sigmas, sampler, torch.Generator().manual_seed(2))
    distances, nearest = torch.cdist(drawn, data).min(1)
    assert float(distances.max()) < 1e-9
    assert set(nearest.tolist()) == {0, 1, 2}


def test_euler_and_ddim_are_one_method() -> None:
    sigmas = NoiseSchedule("linear").sampling_sigmas(30)
    assert torch.equal(draw(IDEAL, START, sigmas, "euler"), draw(IDEAL, START, sigmas, "ddim"))


@pytest.mark.parametrize("width", [1e-6, 1e-3, 0.5, 0.999, 1.001, 3.0, 12.0])
def test_the_correctors_weights_solve_their_equations(width: float) -> None:
    from fractions import Fraction

    def phi(order: int) -> float:
        """φ_k(-width) by its series without rounding."""
        z, terms = -Fraction(width), 30 + int(10 * width)
        return float(sum(z**n / math.factorial(n + order) for n in range(terms)))

    for before in (0.7 * width, width, 3.0 * width):
        old, new = corrector_weights(width, before)
        r = before / width
        assert old * r + new == pytest.approx(phi(2) / phi(1), rel=1e-13)
        assert new - old * r**2 == pytest.approx(2 * phi(3) / phi(1), rel=1e-12)
    old, new = corrector_weights(width, math.inf)
    assert (old, new) == pytest.approx((0.0, phi(2) / phi(1)), rel=1e-13)


# -- stochastic samplers -----------------------------------------------------------------------------------------------


def coefficients(sampler: str, sigmas: NDArray[np.float64], deviation: float) -> tuple[float, NDArray[np.float64]]:
    """Return the offset of an affine sampler and its factor of every draw of noise, the start among them.

    Sample 0 has no noise at all, sample k + 1 has 1 in draw k only.
    """
    draws = len(sigmas)
    ones = torch.eye(draws, dtype=torch.float64)
    unit = torch.cat([torch.zeros(1, draws, dtype=torch.float64), ones])[:, :, None]
    denoise = GaussianDenoiser(1.5, deviation)
    found = draw(denoise, unit[:, 0], sigmas, sampler, lambda step: unit[:, step + 1]).numpy()[:, 0]
    return float(found[0]), found[1:] - found[0]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_mean_and_variance_are_the_exact_ones(sampler: str, schedule: str) -> None:
    for steps in (1, 2, 3, 10, 100):
        sigmas = SCHEDULES[schedule](steps)
        for deviation in (0.3, 5.0) if steps < 100 else (0.3,):
            mean, factors = coefficients(sampler, sigmas, deviation)
            wanted_mean, wanted_variance = sampler_moments(sampler, sigmas, 1.5, deviation)
            assert mean == pytest.approx(wanted_mean, rel=1e-12, abs=1e-12)
            assert np.square(factors).sum() == pytest.approx(wanted_variance, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("sampler", STOCHASTIC_SAMPLERS)
def test_a_stochastic_samplers_variance_converges_with_order_1(sampler: str) -> None:
    errors = []
    for steps in (100, 200, 400):
        _, variance = sampler_moments(sampler, geometric(50.0, 0.1, steps + 1), 0.0, 1.0)
        errors.append(abs(variance - (1.0 + 0.1**2)))
    assert math.log2(errors[1] / errors[2]) == pytest.approx(1.0, abs=0.1), errors


def test_noise_is_a_function_of_the_generators_seed_and_of_nothing_else() -> None:
    sigmas = NoiseSchedule("linear").sampling_sigmas(7)

    def drawn(sampler: str, seed: int) -> Tensor:
        return draw(IDEAL, START, sigmas, sampler, torch.Generator().manual_seed(seed))

    state = torch.get_rng_state()
    for sampler in STOCHASTIC_SAMPLERS:
        assert torch.equal(drawn(sampler, 1), drawn(sampler, 1))
        assert not torch.equal(drawn(sampler, 1), drawn(sampler, 2))
    assert torch.equal(drawn("ddpm", 5), drawn("euler_ancestral", 5)), "one method in these coordinates"
    assert torch.equal(torch.get_rng_state(), state), "the process's own stream of random numbers stays untouched"


# -- what goes in and out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_and_start_stay_and_every_step_is_shown(sampler: str, dtype: torch.dtype) -> None:
    start = START.to(dtype).reshape(4, 3, 1, 1)
    before, shown, sigmas = start.clone(), [], NoiseSchedule("karras").sampling_sigmas(6)
    drawn = draw(
        GaussianDenoiser(0.5, 0.5),
        start,
        sigmas,
        sampler,
        torch.Generator().manual_seed(0),
        lambda number, x: shown.append((number, x)),
    )
    assert drawn.dtype == dtype
    assert drawn.shape == start.shape
    assert torch.equal(start, before)
    assert [number for number, _ in shown] == [1, 2, 3, 4, 5, 6]
    assert shown[-1][1] is drawn


@pytest.mark.parametrize(("sampler", "calls"), [("euler", 5), ("heun", 9), ("dpmpp_2m", 5), ("unipc", 5), ("ddpm", 5)])
def test_the_number_of_estimates(sampler: str, calls: int) -> None:
    asked: list[float] = []
    sigmas = NoiseSchedule("karras").sampling_sigmas(5)
    draw(lambda x, sigma: asked.append(sigma) or x, START, sigmas, sampler, torch.Generator())  # type: ignore[func-returns-value]
    assert len(asked) == calls
    assert set(asked) == set(sigmas[:-1].tolist()), "only levels of the list, and never 0"


def test_no_graph_is_kept() -> None:
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    assert not draw(lambda x, _: weight * x, START, [2.0, 1.0, 0.0], "heun").requires_grad


@pytest.mark.parametrize(
    "sigmas",
    [[1.0, 1.0, 0.0], [1.0, 2.0], [2.0, math.nan, 0.0], [math.nan, 1.0], [1.0, -1.0], [math.inf, math.inf, 0.0]],
)
def test_sigmas_that_do_not_descend_are_refused(sigmas: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"sigma must descend from step to step and end at 0 or above, and step \d"):
        steps_of(sigmas)


@pytest.mark.parametrize("sigmas", [[], [1.0]])
def test_no_step_is_refused(sigmas: list[float]) -> None:
    with pytest.raises(ConfigError, match="give at least 1 step"):
        draw(IDEAL, START, sigmas, "euler")


def test_an_unknown_sampler_and_missing_noise_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"sampler 'dpmpp2m': .*did you mean 'dpmpp_2m'\?; choose ddpm, ddim"):
        draw(IDEAL, START, [1.0, 0.0], "dpmpp2m")
    with pytest.raises(ValueError, match="draws noise: give it a generator"):
        draw(IDEAL, START, [1.0, 0.0], "ddpm")
