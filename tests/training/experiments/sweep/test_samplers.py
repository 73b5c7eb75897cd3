"""Samplers: what they draw lies in the space, depends on seed and number alone, and covers what it should."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import TrainingConfig
from training.experiments.search_space import Distribution, SearchSpace
from training.experiments.sweep.samplers import (
    grid,
    random_points,
    samples,
    settings_at,
    sobol_points,
    value_at,
)

seeds = st.integers(0, 2**63 - 1)
samplings = st.sampled_from(["random", "sobol"])
TEXTS = (
    "learning_rate=1e-4..1e-2 log",
    "weight_decay=0.0..0.1",
    "d_ff=16..64",
    "num_layers=1..4",
    "dropout=normal(0.2,0.01)",
    "restart_mult=log(1.1..2.5)",
    "attention=standard|autopoietic",
    "max_grad_norm=none|1|2",
)


def space(*texts: str) -> SearchSpace:
    return SearchSpace.parse(texts, TrainingConfig)


WHOLE = space(*TEXTS)
spaces = st.lists(st.sampled_from(list(WHOLE.distributions)), min_size=1, max_size=5, unique=True).map(
    lambda keys: SearchSpace({key: WHOLE.distributions[key] for key in keys}, TrainingConfig)
)
CHOICES = space("d_model=16|32|64", "num_layers=1|2")
RANGES = space("learning_rate=1e-4..1e-2 log", "weight_decay=0.0..0.1", "dropout=0.0..0.5")
few = settings(max_examples=25)


@few
@given(spaces, samplings, seeds)
def test_each_value_lies_in_the_space(space: SearchSpace, sampling: str, seed: int) -> None:
    for drawn in itertools.islice(samples(space, sampling, seed), 16):
        assert list(drawn) == list(space.distributions)
        for key, value in drawn.items():
            found = space.distributions[key]
            if found.kind == "choice":
                assert value in found.arguments
                continue
            low, high = found.ends()
            assert low <= value <= high
            assert (type(value) is int) is (found.step == 1.0), "a setting of whole numbers gets whole numbers"


@few
@given(spaces, samplings, seeds, st.integers(0, 12))
def test_a_trial_is_a_function_of_seed_and_number(space: SearchSpace, sampling: str, seed: int, number: int) -> None:
    def first(count: int) -> list[dict[str, object]]:
        return list(itertools.islice(samples(space, sampling, seed), count))

    assert first(number) == first(number + 8)[:number]


def test_the_draws_are_the_same_on_every_machine() -> None:
    wanted = space("learning_rate=1e-4..1e-2 log", "d_ff=16..64")
    first = {sampling: next(samples(wanted, sampling, 42)) for sampling in ("random", "sobol")}
    assert first == {
        "random": {"optimizer.learning_rate": pytest.approx(0.00021157953393878437), "model.d_ff": 48},
        "sobol": {"optimizer.learning_rate": pytest.approx(0.0002785623015048584), "model.d_ff": 63},
    }


@few
@given(seeds)
def test_another_setting_changes_no_draw_of_the_first_at_random(seed: int) -> None:
    [(key, found), *_] = RANGES.distributions.items()
    alone = SearchSpace({key: found}, TrainingConfig)
    points = zip(random_points(alone, seed), random_points(RANGES, seed), strict=False)
    for one, other in itertools.islice(points, 5):
        assert one["optimizer.learning_rate"] == other["optimizer.learning_rate"]


@few
@given(seeds)
def test_random_draws_are_spread_evenly(seed: int) -> None:
    drawn = [point["optimizer.learning_rate"] for point in itertools.islice(random_points(RANGES, seed), 400)]
    # A mean of 400 draws lies six standard errors from a half once in a billion times.
    assert abs(sum(drawn) / len(drawn) - 0.5) < 6 / math.sqrt(12 * 400)


@few
@given(seeds, st.integers(1, 6))
def test_sobol_points_are_balanced_in_each_setting(seed: int, m: int) -> None:
    points = list(itertools.islice(sobol_points(RANGES, seed), 2**m))
    for key in RANGES.distributions:
        assert sorted(int(point[key] * 2**m) for point in points) == list(range(2**m))
    if m >= 2:  # the first two dimensions are balanced together: a point in each quarter of the square
        one, other, _ = RANGES.distributions
        squares = Counter((point[one] < 0.5, point[other] < 0.5) for point in points)
        assert set(squares.values()) == {2**m // 4}


def test_a_grid_covers_every_combination_once() -> None:
    wanted = space("d_model=16|32|64", "num_layers=1|2", "attention=standard|autopoietic")
    found = [tuple(drawn.values()) for drawn in grid(wanted)]
    assert found == list(itertools.product((16, 32, 64), (1, 2), ("standard", "autopoietic")))


@pytest.mark.parametrize("sampling", ["random", "sobol"])
@few
@given(seed=seeds)
def test_choices_are_all_drawn_and_none_twice(sampling: str, seed: int) -> None:
    found = [tuple(drawn.values()) for drawn in samples(CHOICES, sampling, seed)]
    assert sorted(found) == list(itertools.product((16, 32, 64), (1, 2)))


def test_a_range_of_few_whole_numbers_ends_when_all_have_come() -> None:
    found = [drawn["model.num_layers"] for drawn in samples(space("num_layers=1..4"), "random", 0)]
    assert sorted(found) == [1, 2, 3, 4]


@given(st.floats(0.0, 1.0, exclude_max=True), st.floats(0.0, 1.0, exclude_max=True))
def test_more_of_the_cube_is_more_of_a_value(u: float, v: float) -> None:
    low, high = min(u, v), max(u, v)
    for kind, arguments in (
        ("uniform", (0.5, 2.0)), ("loguniform", (-9.2, -4.6)), ("quniform", (3, 9, 1)), ("qloguniform", (0.0, 5.0, 2)),
        ("normal", (1.0, 0.5)), ("lognormal", (0.0, 1.0)), ("qnormal", (5.0, 2.0, 1)), ("randint", (7,)),
    ):  # fmt: skip
        found = Distribution(kind, arguments)
        assert value_at(found, low) <= value_at(found, high), kind


def test_the_middle_of_the_cube_is_the_median() -> None:
    assert value_at(Distribution("uniform", (0.0, 3.0)), 0.5) == 1.5
    assert value_at(Distribution("loguniform", (math.log(1e-4), math.log(1e-2))), 0.5) == pytest.approx(1e-3)
    assert value_at(Distribution("normal", (2.0, 0.5)), 0.5) == pytest.approx(2.0)
    middle = {"optimizer.learning_rate": 0.5, "model.d_ff": 0.5}
    found = settings_at(space("learning_rate=1e-4..1e-2 log", "d_ff=16..64"), middle)
    assert found == {"optimizer.learning_rate": pytest.approx(1e-3), "model.d_ff": 40}
