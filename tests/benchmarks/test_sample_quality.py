"""The figures of the diffusion benchmarks agree with closed forms, and with what they mean at their ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import sample_quality as quality

SPREADS = st.lists(st.floats(0.01, 10), min_size=1, max_size=5)


def gaussian(seed: int, count: int, mean: float = 0.0, spread: float = 1.0, size: int = 2) -> np.ndarray:
    return mean + spread * np.random.default_rng(seed).standard_normal((count, size))


@given(SPREADS, st.floats(-5, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_frechet_is_the_closed_form_of_gaussians_with_common_axes(
    spreads: list[float], shift: float, seed: int
) -> None:
    size = len(spreads)
    draws = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(draws.standard_normal((size, size)))
    first, second = np.array(spreads), draws.uniform(0, 10, size)
    found = quality.frechet_of_gaussians(
        np.zeros(size), axes @ np.diag(first**2) @ axes.T, np.full(size, shift), axes @ np.diag(second**2) @ axes.T
    )
    # With common axes the distance is that of the spreads along each axis.
    assert found == pytest.approx(size * shift**2 + ((first - second) ** 2).sum(), rel=1e-9, abs=1e-6)


def test_frechet_of_other_axes_agrees_with_the_root_of_the_product() -> None:
    from scipy.linalg import sqrtm

    draws = np.random.default_rng(1)
    first, second = (m @ m.T for m in draws.standard_normal((2, 4, 4)))
    expected = np.trace(first) + np.trace(second) - 2 * np.trace(sqrtm(first @ second)).real
    assert quality.frechet_of_gaussians(np.zeros(4), first, np.zeros(4), second) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_sets_is_zero_for_the_same_one_and_holds_where_a_value_never_changes() -> None:
    points = np.column_stack([gaussian(0, 50), np.zeros(50)])
    assert quality.frechet_distance(points, points[::-1]) == pytest.approx(0, abs=1e-9)
    assert quality.frechet_distance(points, points + np.array([0, 0, 3])) == pytest.approx(9, rel=1e-9)


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (1.0, 1.0), (0.0, 2.0), (0.5, 1.5)])
def test_the_divergence_of_gaussians_tends_to_the_closed_form(mean: float, spread: float) -> None:
    # KL(N(0, 1) || N(m, s²)) for each of two axes, in bits.
    expected = 2 * (math.log(spread) + (1 + mean**2) / (2 * spread**2) - 0.5) / math.log(2)
    found = quality.knn_divergence(gaussian(2, 20_000), gaussian(3, 10_000, mean, spread))
    assert found == pytest.approx(expected, abs=0.08)


def test_the_divergence_knows_no_unit_and_refuses_what_has_no_density() -> None:
    first, second = gaussian(4, 300), gaussian(5, 200, 0.3)
    found = quality.knn_divergence(first, second)
    assert quality.knn_divergence(first * 8 + 3, second * 8 + 3) == pytest.approx(found, rel=1e-9)
    with pytest.raises(ValueError, match="more than 5 times"):
        quality.knn_divergence(np.repeat(first[:50], 6, axis=0), second)
    with pytest.raises(ValueError, match="no 5 neighbours"):
        quality.knn_divergence(first[:5], second)


def test_two_samples_are_told_apart_by_chance_always_or_never() -> None:
    assert quality.two_sample_accuracy(gaussian(6, 1000), gaussian(7, 1000)) == pytest.approx(0.5, abs=0.04)
    assert quality.two_sample_accuracy(gaussian(6, 100), gaussian(7, 100, 100)) == 1
    copied = gaussian(6, 100)
    assert quality.two_sample_accuracy(copied, copied + 1e-9) == 0
    with pytest.raises(ValueError, match="equal numbers"):
        quality.two_sample_accuracy(copied, copied[:50])


def test_copies_are_memorised_and_held_out_points_as_often_as_defined() -> None:
    train, held_out, fresh = (gaussian(seed, 1000, size=8) for seed in (8, 9, 10))
    assert quality.memorised(train + 1e-9, train, held_out) == (1, 1)
    assert quality.memorised(held_out, train, held_out).share == pytest.approx(quality.NEAR, abs=1e-3)
    found = quality.memorised(fresh, train, held_out)
    assert found.share == pytest.approx(quality.NEAR, abs=0.01)
    assert found.nearer == pytest.approx(0.5, abs=0.05)


@pytest.mark.slow
def test_the_classifier_has_the_accuracy_of_scikit_learn_s_example_on_real_halves() -> None:
    from sklearn.datasets import load_digits

    points, labels = load_digits(return_X_y=True)
    half = len(points) // 2
    found = quality.taught_accuracy(points[:half], labels[:half], points[half:], labels[half:])
    assert found == pytest.approx(0.969, abs=1e-3)
