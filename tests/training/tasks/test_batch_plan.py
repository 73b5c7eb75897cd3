"""The order of samples: a pure function of (seed, epoch, index) that never changes silently."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.tasks.batch_plan import BatchPlan, mix, shuffled

PLANS = st.builds(
    BatchPlan,
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=120),
    global_batch_size=st.integers(1, 40),
    seed=st.integers(0, 2**63 - 1),
    window=st.integers(1, 6),
)


def epoch_of(plan: BatchPlan, epoch: int) -> list[list[int]]:
    return [plan.indices(epoch, index).tolist() for index in range(plan.steps_per_epoch)]


def uneven_lengths(count: int) -> NDArray[np.int64]:
    """From 5 to 104 tokens, in no order."""
    return 5 + np.arange(count, dtype=np.int64) * 37 % 100


def padding(lengths: NDArray[np.int64], batches: Sequence[Sequence[int]]) -> int:
    return sum(int((lengths[batch].max() - lengths[batch]).sum()) for batch in map(list, batches))


# -- values that every later release must keep, or no old run could be resumed or repeated ----------------------------

MIX_VALUES = [
    11400714819323198485,
    6685036501382267578,
    17734181060442946735,
    14351106095685462499,
    9783220896932936731,
]
SHUFFLED_12_42 = [4, 1, 10, 6, 2, 8, 3, 11, 9, 0, 7, 5]
SHUFFLED_6_0 = [2, 4, 5, 1, 0, 3]
PLAN_EPOCHS = [
    [[0, 11, 3, 6], [12, 4, 2, 5], [9, 10, 13, 8], [1, 7]],
    [[9, 1, 2, 13], [0, 11, 6, 12], [4, 7, 5, 8], [10, 3]],
]


def test_mix_has_the_values_it_always_had() -> None:
    assert [mix(), mix(0), mix(1, 2, 3), mix(3, 2, 1), mix(2**63 - 1, 5)] == MIX_VALUES


def test_shuffled_has_the_orders_it_always_had() -> None:
    assert shuffled(12, 42).tolist() == SHUFFLED_12_42
    assert shuffled(12, 2**64 + 42).tolist() == SHUFFLED_12_42
    assert shuffled(6, 0).tolist() == SHUFFLED_6_0


def test_shuffled_sorts_the_numbers_of_splitmix64() -> None:
    # The first five numbers that SplitMix64 is published to give for seed 1234567.
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert shuffled(5, 1234567).tolist() == sorted(range(5), key=published.__getitem__)


def test_a_plan_has_the_batches_it_always_had() -> None:
    plan = BatchPlan(uneven_lengths(14), global_batch_size=4, seed=42, window=2)
    assert [epoch_of(plan, epoch) for epoch in (0, 1)] == PLAN_EPOCHS


# -- properties ----------------------------------------------------------------------------------------------------


@given(count=st.integers(0, 300), seed=st.integers(0, 2**64 - 1))
@settings(max_examples=50, deadline=None)
def test_shuffled_is_a_permutation(count: int, seed: int) -> None:
    assert sorted(shuffled(count, seed).tolist()) == list(range(count))


def test_mix_tells_the_order_and_number_of_its_numbers_apart() -> None:
    values = [mix(*numbers) for numbers in [(), (0,), (0, 0), (1,), (1, 0), (0, 1), (1, 1), (2, 1), (1, 2)]]
    assert len(set(values)) == len(values)
    assert all(0 <= value < 2**64 for value in values)


@given(plan=PLANS, epoch=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_every_sample_comes_once_an_epoch(plan: BatchPlan, epoch: int) -> None:
    batches = epoch_of(plan, epoch)
    assert sorted(i for batch in batches for i in batch) == list(range(len(plan.lengths)))


@given(plan=PLANS, epoch=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_all_batches_are_full_but_the_last(plan: BatchPlan, epoch: int) -> None:
    sizes = [len(batch) for batch in epoch_of(plan, epoch)]
    assert set(sizes[:-1]) <= {plan.global_batch_size}
    assert sizes[-1] == (len(plan.lengths) - 1) % plan.global_batch_size + 1


@given(asked=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), max_size=12))
@settings(max_examples=30, deadline=None)
def test_a_batch_does_not_depend_on_what_was_asked_before(asked: list[tuple[int, int]]) -> None:
    def new_plan() -> BatchPlan:
        return BatchPlan(uneven_lengths(50), global_batch_size=8, seed=7, window=3)

    plan = new_plan()
    for epoch, index in asked:
        assert plan.indices(epoch, index).tolist() == new_plan().indices(epoch, index).tolist()


def test_a_caller_cannot_change_later_batches() -> None:
    plan = BatchPlan(uneven_lengths(50), global_batch_size=8, seed=7, window=3)
    before = epoch_of(plan, 0)
    with contextlib.suppress(ValueError):  # a batch that cannot be written to is as good as a copy
        plan.indices(0, 0)[:] = 0
    assert epoch_of(plan, 0) == before


def test_epochs_and_seeds_give_different_orders() -> None:
    plans = [BatchPlan(uneven_lengths(100), global_batch_size=10, seed=seed, window=4) for seed in (1, 2)]
    orders = {tuple(map(tuple, epoch_of(plan, epoch))) for plan in plans for epoch in range(10)}
    assert len(orders) == 20


def test_an_epoch_is_not_only_the_same_batches_in_another_order() -> None:
    plan = BatchPlan(uneven_lengths(100), global_batch_size=10, seed=1, window=4)
    first, second = ({tuple(sorted(batch)) for batch in epoch_of(plan, epoch)} for epoch in (0, 1))
    assert first.isdisjoint(second)


@given(seed=st.integers(0, 2**63 - 1))
@settings(max_examples=25, deadline=None)
def test_batches_of_like_length_need_far_less_padding_than_random_ones(seed: int) -> None:
    lengths = uneven_lengths(640)
    by_length = padding(lengths, epoch_of(BatchPlan(lengths, 16, seed, window=8), 0))
    at_random = padding(lengths, epoch_of(BatchPlan(lengths, 16, seed, window=1), 0))
    assert by_length < at_random / 4


def test_batches_do_not_come_in_order_of_length() -> None:
    lengths = uneven_lengths(640)
    longest = [int(lengths[batch].max()) for batch in epoch_of(BatchPlan(lengths, 16, 3, window=40), 0)]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_the_leftover_is_a_random_choice_of_samples_not_the_longest() -> None:
    lengths = uneven_lengths(645)
    plan = BatchPlan(lengths, 16, 3, window=8)
    leftover = [i for epoch in range(20) for i in plan.indices(epoch, 40).tolist()]
    assert len(leftover) == 20 * 5
    assert len(set(leftover)) > 80
    assert abs(lengths[leftover].mean() - lengths.mean()) < 15


def test_fewer_samples_than_a_batch_are_one_batch() -> None:
    plan = BatchPlan([5, 9, 7], global_batch_size=8, seed=1, window=4)
    assert plan.steps_per_epoch == 1
    assert sorted(plan.indices(0, 0).tolist()) == [0, 1, 2]


@pytest.mark.parametrize("index", [-1, 3])
def test_a_batch_beyond_the_epoch_is_refused(index: int) -> None:
    plan = BatchPlan([1] * 5, global_batch_size=2, seed=1, window=1)
    with pytest.raises(IndexError, match="0 to 2"):
        plan.indices(0, index)


def test_a_plan_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        BatchPlan([], global_batch_size=2, seed=1, window=1)
