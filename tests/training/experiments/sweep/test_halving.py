"""Successive halving: where the rungs are, and which trials go on."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.experiments.sweep.halving import rungs, survivors


@pytest.mark.parametrize(
    ("epochs", "trials", "factor", "expected"),
    [
        (27, 27, 3, [1, 3, 9, 27]),
        (27, 9, 3, [3, 9, 27]),
        (100, 20, 2, [6, 12, 25, 50, 100]),
        (5, 100, 2, [1, 2, 5]),
        (5, 2, 3, [5]),
        (1, 9, 3, [1]),
    ],
)
def test_the_rungs_are_the_epochs_divided_by_powers(epochs: int, trials: int, factor: int, expected: list[int]) -> None:
    assert rungs(epochs, trials, factor) == expected


@given(st.integers(1, 1000), st.integers(1, 1000), st.integers(2, 10))
def test_rungs_ascend_to_the_end_and_leave_a_trial(epochs: int, trials: int, factor: int) -> None:
    found = rungs(epochs, trials, factor)
    assert found[-1] == epochs
    assert found == sorted(set(found))
    assert found[0] >= 1
    assert factor ** (len(found) - 1) <= trials


values = st.dictionaries(st.text("abc", min_size=1, max_size=4), st.none() | st.floats(-9, 9), min_size=1, max_size=12)


@given(values, st.sampled_from(["minimize", "maximize"]), st.integers(2, 5))
def test_the_best_go_on_and_none_without_a_value(found: dict[str, float | None], goal: str, factor: int) -> None:
    kept = survivors(found, goal, factor)
    measured = {name: value for name, value in found.items() if value is not None}
    assert len(kept) == min(len(measured), math.ceil(len(found) / factor))
    assert [name for name in found if name in kept] == list(kept)
    sign = -1 if goal == "maximize" else 1
    ended = [sign * value for name, value in measured.items() if name not in kept]
    assert all(sign * measured[name] <= value for name in kept for value in ended)
