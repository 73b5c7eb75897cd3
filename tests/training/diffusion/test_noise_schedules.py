"""Noise schedules: the published formulas, exactness at both ends, interpolation, and what is refused."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.diffusion.noise_schedules import SCHEDULES, SPACINGS, NoiseSchedule, signal_and_noise_of
from training.errors import ConfigError

ALL = [
    *(NoiseSchedule(kind) for kind in SCHEDULES),
    *(NoiseSchedule(kind, zero_terminal_snr=True) for kind in ("linear", "scaled_linear", "cosine")),
    NoiseSchedule("linear", levels=2),
    NoiseSchedule("karras", levels=7, sigma_min=0.1, sigma_max=0.2, rho=1.0),
]


def named(schedule: NoiseSchedule) -> str:
    return f"{schedule.kind}-{schedule.levels}{'-zero-snr' if schedule.zero_terminal_snr else ''}"


def exact_signal_squared(betas: list[float]) -> list[Fraction]:
    """Products of 1 - beta without rounding."""
    found, product = [], Fraction(1)
    for beta in betas:
        product *= 1 - Fraction(beta)
        found.append(product)
    return found


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "cosine"])
def test_sigmas_are_those_of_the_betas_to_the_last_digits(kind: str) -> None:
    schedule = NoiseSchedule(kind, levels=60)
    for sigma, product in zip(schedule.sigmas, exact_signal_squared(list(schedule.betas)), strict=True):
        assert sigma**2 == pytest.approx(float((1 - product) / product), rel=1e-13)


def test_the_betas_of_the_papers() -> None:
    linear = NoiseSchedule("linear").betas
    assert (linear[0], linear[-1]) == (1e-4, 0.02)
    assert np.diff(linear) == pytest.approx((0.02 - 1e-4) / 999)
    scaled = np.sqrt(NoiseSchedule("scaled_linear").betas)
    assert scaled[[0, -1]] ** 2 == pytest.approx([0.00085, 0.012])
    assert np.diff(scaled) == pytest.approx(scaled[1] - scaled[0])


def test_the_cosine_is_equation_17_up_to_its_clipped_end() -> None:
    schedule = NoiseSchedule("cosine")

    def f(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    signal, _ = schedule.signal_and_noise(np.arange(999))
    assert signal**2 == pytest.approx([f((i + 1) / 1000) / f(0) for i in range(999)], rel=1e-9)
    assert schedule.betas[-1] == 0.999


def test_karras_is_equation_5() -> None:
    sigmas = NoiseSchedule("karras", levels=18).sigmas
    for i in range(18):
        expected = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
        assert sigmas[17 - i] == pytest.approx(expected, rel=1e-12)
    assert (sigmas[0], sigmas[-1]) == (0.002, 80.0)


def test_sigma_is_geometric() -> None:
    sigmas = NoiseSchedule("sigma", levels=50, sigma_min=0.01, sigma_max=50.0).sigmas
    assert sigmas[1:] / sigmas[:-1] == pytest.approx((50.0 / 0.01) ** (1 / 49), rel=1e-12)


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "cosine"])
def test_zero_terminal_snr_ends_in_pure_noise_and_keeps_the_first_level(kind: str) -> None:
    plain, rescaled = NoiseSchedule(kind, levels=100), NoiseSchedule(kind, levels=100, zero_terminal_snr=True)
    assert rescaled.sigmas[-1] == math.inf
    assert rescaled.remaining_signal == 0.0
    assert rescaled.sigmas[0] == pytest.approx(plain.sigmas[0], rel=1e-13)
    # Algorithm 1 of arXiv 2305.08891
    before, after = plain.signal_and_noise(np.arange(100))[0], rescaled.signal_and_noise(np.arange(100))[0]
    assert after == pytest.approx((before - before[-1]) * before[0] / (before[0] - before[-1]), rel=1e-11, abs=1e-15)


def test_the_signal_that_is_left() -> None:
    assert NoiseSchedule("linear").remaining_signal == pytest.approx(0.00635, abs=1e-5)
    assert NoiseSchedule("scaled_linear").remaining_signal == pytest.approx(0.0683, abs=1e-4)
    short = NoiseSchedule("linear", levels=100).remaining_signal
    assert short == pytest.approx(0.603, abs=1e-3)
    assert short**2 == pytest.approx(0.364, abs=1e-3), "36 % of the variance"


@pytest.mark.parametrize("schedule", ALL, ids=named)
def test_levels_are_found_again_by_their_sigma(schedule: NoiseSchedule) -> None:
    whole = np.arange(schedule.levels)
    assert (schedule.sigma_at(whole) == schedule.sigmas).all()
    assert (schedule.index_of(schedule.sigmas) == whole).all(), "exact, since a network was trained on whole numbers"
    between = np.linspace(0, schedule.levels - 1, 777)
    assert schedule.index_of(schedule.sigma_at(between)) == pytest.approx(between, abs=1e-9)
    signal, noise = schedule.signal_and_noise(between)
    assert signal**2 + noise**2 == pytest.approx(1.0, abs=1e-15)
    assert (np.diff(schedule.sigma_at(between)) > 0).all()


def test_between_two_levels_log_sigma_is_interpolated() -> None:
    schedule = NoiseSchedule("linear")
    assert math.log(schedule.sigma_at(7.25)) == pytest.approx(
        0.75 * math.log(schedule.sigmas[7]) + 0.25 * math.log(schedule.sigmas[8])
    )


def test_a_sigma_outside_the_schedule_has_the_index_of_the_nearest_level() -> None:
    schedule = NoiseSchedule("karras", levels=10)
    assert list(schedule.index_of([0.0, 0.001, 100.0, math.inf])) == [0.0, 0.0, 9.0, 9.0]
    with pytest.raises(ValueError, match="outside"):
        schedule.sigma_at(9.5)
    with pytest.raises(ValueError, match="0 or more"):
        schedule.index_of(math.nan)


def test_signal_and_noise_at_the_ends() -> None:
    signal, noise = signal_and_noise_of([0.0, 1.0, 1e200, math.inf])
    assert list(signal) == [1.0, pytest.approx(0.5**0.5), 1e-200, 0.0]
    assert list(noise) == [0.0, pytest.approx(0.5**0.5), 1.0, 1.0]


# -- what a sampler visits ---------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(schedule=st.sampled_from(ALL), steps=st.integers(1, 120), spacing=st.sampled_from([None, *SPACINGS]))
def test_any_number_of_steps_descends_from_the_last_level_to_0(
    schedule: NoiseSchedule, steps: int, spacing: str | None
) -> None:
    sigmas = schedule.sampling_sigmas(steps, spacing)
    assert len(sigmas) == steps + 1
    assert (sigmas[:-1] > sigmas[1:]).all()
    assert sigmas[0] == schedule.sigmas[-1]
    assert sigmas[-1] == 0.0
    assert np.isfinite(sigmas[1:]).all()


@settings(max_examples=60)
@given(levels=st.integers(2, 1000), data=st.data())
def test_no_level_is_visited_twice_and_all_are_levels(levels: int, data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, levels))
    schedule = NoiseSchedule("sigma", levels=levels)
    places = schedule.index_of(schedule.sampling_sigmas(steps, "levels")[:-1])
    assert (places == np.round(places)).all()
    assert len(set(places)) == steps


def test_levels_are_spaced_as_the_paper_says() -> None:
    schedule = NoiseSchedule("linear")
    places = schedule.index_of(schedule.sampling_sigmas(10, "levels")[:-1])
    assert list(places) == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99], "trailing, arXiv 2305.08891 Table 2"
    more = schedule.index_of(schedule.sampling_sigmas(1999, "levels")[:-1])
    assert more == pytest.approx(np.linspace(999, 0, 1999), abs=1e-9), "more steps than levels"


def test_a_schedule_of_sigmas_is_sampled_by_its_own_rule() -> None:
    karras, geometric = NoiseSchedule("karras"), NoiseSchedule("sigma")
    assert (karras.sampling_sigmas(18) == karras.sampling_sigmas(18, "karras")).all()
    assert karras.sampling_sigmas(18)[:-1] == pytest.approx(NoiseSchedule("karras", levels=18).sigmas[::-1], rel=1e-12)
    assert (geometric.sampling_sigmas(9) == geometric.sampling_sigmas(9, "geometric")).all()


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ALL, ids=named)
def test_a_schedule_goes_through_json(schedule: NoiseSchedule) -> None:
    again = NoiseSchedule.from_dict(json.loads(json.dumps(schedule.to_dict())))
    assert again == schedule
    assert (again.sigmas == schedule.sigmas).all()


def test_the_levels_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        NoiseSchedule().sigmas[0] = 1.0


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"kind": "linaer"}, "noise_schedule 'linaer': there is no such schedule; did you mean 'linear'?"),
        ({"levels": 1}, "noise_levels 1: give a whole number from 2 to 1,000,000"),
        ({"levels": 10.0}, "noise_levels 10.0: give a whole number"),
        ({"beta_end": 1.0}, "beta_end 1.0: a beta lies between 0 and 1, both left out"),
        ({"beta_start": 0.0}, "beta_start 0.0: a beta lies between 0 and 1"),
        ({"beta_start": math.nan}, "beta_start nan: a beta lies between 0 and 1"),
        ({"beta_start": "0.1"}, "beta_start '0.1': give a number"),
        ({"kind": "karras", "sigma_min": 80.0}, "sigma_min 80.0: must be less than sigma_max, which is 80.0"),
        ({"kind": "karras", "sigma_max": math.inf}, "sigma_max inf: give a finite number above 0"),
        ({"kind": "sigma", "sigma_min": -1.0}, "sigma_min -1.0: give a finite number above 0"),
        ({"kind": "karras", "rho": 0.0}, "rho 0.0: give a finite number above 0"),
        ({"kind": "karras", "zero_terminal_snr": True}, "zero_terminal_snr: it rescales a schedule of betas"),
    ],
)
def test_an_unusable_setting_is_refused_in_one_line(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        NoiseSchedule(**values)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "schedule",
    [
        NoiseSchedule("linear", levels=3000, beta_end=0.999),  # sigma overflows
        NoiseSchedule("linear", levels=3000, beta_end=0.999, zero_terminal_snr=True),
        NoiseSchedule("sigma", levels=1000, sigma_min=1.0, sigma_max=math.nextafter(1.0, 2.0)),
    ],
)
def test_a_schedule_that_does_not_rise_is_refused(schedule: NoiseSchedule) -> None:
    with pytest.raises(ConfigError, match=r"sigma must rise from level to level, and levels \d+ and \d+ have sigma"):
        _ = schedule.sigmas


@pytest.mark.parametrize("steps", [0, -1, 2.0, True, None])
def test_a_number_of_steps_that_is_none_is_refused(steps: Any) -> None:
    with pytest.raises(ConfigError, match=r"sampling_steps .*: give a whole number of 1 or more"):
        NoiseSchedule().sampling_sigmas(steps)


def test_an_unknown_spacing_and_an_unknown_key_are_refused() -> None:
    with pytest.raises(ConfigError, match="choose levels, karras, geometric"):
        NoiseSchedule().sampling_sigmas(5, "linear")
    with pytest.raises(ConfigError, match=r"has no 'beta_strat'; did you mean 'beta_start'\?"):
        NoiseSchedule.from_dict({"beta_strat": 0.1})
    with pytest.raises(ConfigError, match="karras: it is a schedule of sigmas and has no betas"):
        _ = NoiseSchedule("karras").betas
