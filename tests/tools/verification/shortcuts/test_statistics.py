"""The verifier's statistics against published examples, brute force and simulated coverage."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.verification.shortcuts.statistics import (
    LOST_LIMITS,
    Share,
    design_effect,
    entropy,
    holm,
    lost_share,
    mcnemar,
    paired_difference,
    wilson,
)

counts = st.integers(0, 400)
coins = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_the_published_ones(hits: int, total: int, low: float, high: float) -> None:
    """Compare with Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3."""
    assert wilson(hits, total) == pytest.approx((low, high), abs=5e-5)


@given(counts, counts)
def test_a_wilson_interval_holds_its_share_and_stays_inside(hits: int, misses: int) -> None:
    total = hits + misses
    low, high = wilson(hits, total)
    assert 0.0 <= low <= high <= 1.0
    if total:
        assert low <= hits / total <= high
        assert high - low > 0.0


def test_no_trials_say_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert Share.of([]) is None
    assert paired_difference([], []) == (-1.0, 1.0)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (0, 5), (3, 3), (7, 2), (10, 0), (9, 11)])
def test_mcnemar_is_the_binomial_tail_counted_by_hand(first: int, second: int) -> None:
    trials = first + second
    heads = [sum(toss) for toss in itertools.product((0, 1), repeat=min(trials, 12))] if trials <= 12 else None
    if heads is not None:
        expected = Fraction(sum(h >= first for h in heads), len(heads))
    else:
        expected = Fraction(sum(math.comb(trials, h) for h in range(first, trials + 1)), 2**trials)
    assert mcnemar(first, second) == float(expected)


def test_mcnemar_is_exact_where_floats_would_fail() -> None:
    assert mcnemar(40, 0) == 2.0**-40
    assert mcnemar(0, 5000) == 1.0
    assert 0.0 <= mcnemar(5000, 0) < 1e-300
    assert mcnemar(2500, 2500) == pytest.approx(0.5, abs=0.01)


@given(counts, counts)
def test_more_hits_of_the_first_are_stronger_evidence(first: int, second: int) -> None:
    assert mcnemar(first + 1, second) <= mcnemar(first, second) <= 1.0


def rows(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    pairs = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second + [(False, False)] * neither
    return [a for a, _ in pairs], [b for _, b in pairs]


def test_the_paired_interval_is_the_published_one() -> None:
    """Compare with Bentur et al. 2009 as computed by Fagerland, Lydersen and Laake 2014: -0.507 to -0.026."""
    low, high = paired_difference(*rows(1, 1, 7, 12))
    assert (low, high) == pytest.approx((-0.507, -0.026), abs=5e-4)


@given(coins)
def test_swapping_the_two_turns_the_paired_interval_round(pairs: list[tuple[bool, bool]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    low, high = paired_difference(first, second)
    assert paired_difference(second, first) == pytest.approx((-high, -low))
    assert -1.0 - 1e-9 <= low <= (sum(first) - sum(second)) / len(pairs) <= high <= 1.0 + 1e-9


@pytest.mark.parametrize(("p", "extra"), [(0.5, 0.2), (0.9, 0.05), (0.02, 0.3)])
def test_the_paired_interval_covers_the_truth_nineteen_times_out_of_twenty(p: float, extra: float) -> None:
    """Draw pairs: the first hits with p + extra, the second with p, dependent through a shared draw."""
    rng = random.Random(1)
    covered = 0
    for _ in range(600):
        draws = [(rng.random(), rng.random()) for _ in range(40)]
        first = [u < p + extra for u, _ in draws]
        second = [(u if v < 0.5 else rng.random()) < p for u, v in draws]
        low, high = paired_difference(first, second)
        covered += low <= extra <= high
    assert covered / 600 > 0.93


@pytest.mark.parametrize(("known", "new", "guess"), [(0.9, 0.5, 0.1), (1.0, 0.05, 0.05), (0.5, 0.5, 0.02)])
def test_the_lost_share_covers_the_truth_nineteen_times_out_of_twenty(known: float, new: float, guess: float) -> None:
    rng = random.Random(2)
    truth = (known - new) / (known - guess)
    covered = 0
    for _ in range(300):
        samples = [[rng.random() < p for _ in range(80)] for p in (known, new, guess)]
        _, (low, high) = lost_share(*samples)
        covered += low <= truth <= high
    assert covered / 300 > 0.93


def test_a_lost_share_is_one_when_all_is_lost_and_nothing_when_nothing_is_known() -> None:
    yes, no = [True] * 100, [False] * 100
    value, (low, high) = lost_share(yes, no, no)
    assert value == 1.0
    assert 0.9 < low < 1.0 < high < 1.1
    value, (low, high) = lost_share(yes, yes, no)
    assert value == 0.0
    assert low < 0.0 < high < 0.1
    assert lost_share(no, no, no) == (None, LOST_LIMITS)
    assert lost_share([], [], []) == (None, LOST_LIMITS)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0.0, 1.0), max_size=30))
def test_holm_never_strengthens_and_keeps_the_order(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= c <= 1.0 for p, c in zip(p_values, corrected, strict=True))
    ordered = sorted(zip(p_values, corrected, strict=True))
    assert [c for _, c in ordered] == sorted(corrected)


def test_rows_that_go_together_count_as_one() -> None:
    """Check twenty concepts with nine questions each: if all nine agree, there are twenty rows, not 180."""
    outcomes = [bool(concept % 2) for concept in range(20) for _ in range(9)]
    clusters = [concept for concept in range(20) for _ in range(9)]
    assert design_effect(outcomes, clusters) == pytest.approx(9 * 20 / 19)
    share = Share.measure(outcomes, clusters)
    assert (share.hits, share.total, share.rate) == (90, 180, 0.5)
    assert share.high - share.low > 2.5 * (Share.measure(outcomes).high - Share.measure(outcomes).low)


def test_rows_that_do_not_go_together_count_each() -> None:
    rng = random.Random(3)
    outcomes = [rng.random() < 0.4 for _ in range(4500)]
    assert design_effect(outcomes, [i // 9 for i in range(4500)]) == pytest.approx(1.0, abs=0.15)
    assert design_effect(outcomes, list(range(4500))) == 1.0
    assert design_effect([True] * 9, [0] * 9) == 9.0


def test_entropy_in_bits() -> None:
    assert entropy([]) == 0.0
    assert entropy(["a"] * 7) == 0.0
    assert entropy(["a", "b", "c", "d"]) == pytest.approx(2.0)
    assert entropy(["a", "a", "b", "c"]) == pytest.approx(1.5)
