"""Packing: which samples share a row, and rows from which every sample can be read back."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.tasks.batch_plan import shuffled
from training.tasks.packing import PackedDataset, pack
from training.tasks.token_dataset import EncodedSample, TokenDataset


@st.composite
def problems(draw: st.DrawFn, most: int = 60) -> tuple[list[int], int]:
    """Lengths of samples and a capacity that holds each; small ones, where much is equal, and ones of many blocks."""
    capacity = draw(st.sampled_from([1, 2, 7, 16, 1000, 1023, 1024, 1025, 5000, 131_072]))
    return draw(st.lists(st.integers(1, capacity), max_size=most)), capacity


def textbook(lengths: list[int], capacity: int) -> list[list[int]]:
    """Best fit decreasing as it is defined, in quadratic time."""
    bins: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        rooms = [capacity - sum(lengths[n] for n in each) for each in bins]
        fitting = [(room, i) for i, room in enumerate(rooms) if room >= lengths[number]]
        if fitting:
            bins[min(fitting)[1]].append(number)
        else:
            bins.append([number])
    return [sorted(each) for each in bins]


def fewest_bins(lengths: list[int], capacity: int) -> int:
    """Smallest number of bins, by trying every order of the samples (over sets of samples)."""

    @cache
    def best(packed: int) -> tuple[int, int]:
        """Return (full bins, length in the open one) of the best way to pack the samples of a bit mask."""
        if not packed:
            return 0, capacity
        ways = []
        for n, length in enumerate(lengths):
            if packed >> n & 1:
                bins, used = best(packed & ~(1 << n))
                ways.append((bins, used + length) if used + length <= capacity else (bins + 1, length))
        return min(ways)

    return best((1 << len(lengths)) - 1)[0]


@given(problem=problems())
def test_every_sample_is_in_one_bin_and_no_bin_is_too_full(problem: tuple[list[int], int]) -> None:
    lengths, capacity = problem
    bins = pack(lengths, capacity)
    found = [each.tolist() for each in bins]
    assert sorted(n for each in found for n in each) == list(range(len(lengths)))
    assert all(0 < sum(lengths[n] for n in each) <= capacity for each in found)
    assert len(found) == len(bins)


@given(problem=problems())
def test_it_is_best_fit_decreasing_to_the_letter(problem: tuple[list[int], int]) -> None:
    lengths, capacity = problem
    assert [each.tolist() for each in pack(lengths, capacity)] == textbook(lengths, capacity)
    assert [each.tolist() for each in pack(np.array(lengths, dtype=np.int64), capacity)] == textbook(lengths, capacity)


@given(problem=problems(most=9))
def test_few_more_bins_are_used_than_are_needed(problem: tuple[list[int], int]) -> None:
    lengths, capacity = problem
    assert len(pack(lengths, capacity)) <= 11 / 9 * fewest_bins(lengths, capacity) + 1


def test_many_samples_of_natural_lengths_leave_next_to_no_padding() -> None:
    lengths = 2 + shuffled(100_000, seed=3) % 1500
    bins = pack(lengths, 4096)
    assert len(bins) <= 1.001 * lengths.sum() / 4096 + 1
    again = pack(lengths, 4096)
    assert np.array_equal(bins.order, again.order)
    assert np.array_equal(bins.starts, again.starts)


@pytest.mark.parametrize(("lengths", "told"), [([3, 9, 5], "sample 1 has 9 tokens"), ([3, 0], "sample 1 has 0 tokens")])
def test_samples_that_no_bin_holds_are_refused(lengths: list[int], told: str) -> None:
    with pytest.raises(ValueError, match=f"{told} and should have 1 to 8"):
        pack(lengths, 8)


# -- rows ----------------------------------------------------------------------------------------------------------


@st.composite
def datasets(draw: st.DrawFn) -> TokenDataset:
    """Samples of any tokens, with a loss from any place on."""
    lengths = draw(st.lists(st.integers(2, 12), min_size=1, max_size=25))
    starts = [draw(st.integers(1, length)) for length in lengths]
    first = draw(st.integers(0, 40_000))
    return TokenDataset([np.arange(first + n, first + n + k, dtype=np.int32) for n, k in enumerate(lengths)], starts)


def unpacked(row: EncodedSample) -> list[EncodedSample]:
    ends = [*row.starts[1:], len(row.tokens)]
    return [EncodedSample(row.tokens[a:b], row.trained[a:b]) for a, b in zip(row.starts, ends, strict=True)]


def plain(sample: EncodedSample) -> tuple[Any, ...]:
    return sample.tokens.tolist(), sample.trained.tolist(), sample.starts


@given(base=datasets(), room=st.integers(0, 30))
def test_every_sample_can_be_read_back_from_the_rows(base: TokenDataset, room: int) -> None:
    rows = PackedDataset(base, int(base.lengths.max()) + room)
    found = {
        int(number): plain(sample)
        for i, numbers in enumerate(rows.bins)
        for number, sample in zip(numbers, unpacked(rows[i]), strict=True)
    }
    assert found == {i: plain(base[i]) for i in range(len(base))}
    for i in range(len(rows)):
        row = rows[i]
        assert [str(a.dtype) for a in (row.tokens, row.trained)] == ["int32", "bool"]
        assert (rows.lengths[i], rows.weights[i]) == (len(row.tokens), row.trained.sum())
        assert not row.trained[list(row.starts)].any()
    assert rows.weights.sum() == base.weights.sum()
    assert rows.lengths.dtype == rows.weights.dtype == np.int64


def test_rows_can_be_packed_again_and_their_samples_stay_apart() -> None:
    base = TokenDataset([np.arange(3, dtype=np.int32)] * 4, [1] * 4)
    twice = PackedDataset(PackedDataset(base, 6), 12)
    assert len(twice) == 1
    assert twice[0].starts == (0, 3, 6, 9)


def test_its_facts_are_numbers_of_samples_and_rows_and_the_share_that_is_used() -> None:
    base = TokenDataset([np.arange(3, dtype=np.int32)] * 5, [1] * 5)
    assert PackedDataset(base, 7).facts == {"samples": 5, "rows": 3, "fill": 15 / 21}
