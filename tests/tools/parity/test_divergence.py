"""The point where two runs diverge: any faulty link from any step on is found, with its step."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.simulated_runs import Fault, SimulatedRun, learning_rate
from tools.parity.curve import Curve, curve_of
from tools.parity.difference import BY_PRECISION, EXACT, differences
from tools.parity.divergence import Divergence, Link, find_divergence

FP32 = BY_PRECISION["fp32"]
NOISE = 1e-7
"""Relative size of fp32's rounding."""
FIRST, LAST = 4, 18


def curve(*faults: Fault, noise_seed: int = 1, seed: int = 0) -> Curve:
    return curve_of(SimulatedRun((FIRST, LAST), seed, faults, NOISE, noise_seed).events())


def reference(seed: int = 0) -> Curve:
    return curve(seed=seed, noise_seed=0)


def found(*faults: Fault) -> Divergence:
    divergence = find_divergence(curve(*faults), reference(), FP32)
    assert divergence is not None
    return divergence


# -- found where it is ---------------------------------------------------------------------------------------------

LINKS = st.sampled_from([link for link in Link if link is not Link.START])
STEPS = st.integers(FIRST, LAST)
SIZES = st.floats(0.05, 2.0)
SEEDS = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(link=LINKS, step=STEPS, size=SIZES, seed=SEEDS)
def test_a_fault_is_found_at_the_step_where_it_begins_and_called_what_it_is(
    link: Link, step: int, size: float, seed: int
) -> None:
    divergence = find_divergence(curve(Fault(link, step, size), seed=seed), reference(seed), FP32)
    assert divergence is not None
    assert (divergence.step, divergence.link, divergence.is_drift) == (step, link, False)


@settings(deadline=None)
@given(links=st.lists(LINKS, min_size=2, max_size=5, unique=True), step=STEPS)
def test_of_several_faults_at_a_step_the_first_in_causal_order_is_named(links: list[Link], step: int) -> None:
    assert found(*(Fault(link, step) for link in links)).link is min(links, key=list(Link).index)


@settings(deadline=None)
@given(faults=st.dictionaries(LINKS, STEPS, min_size=2))
def test_of_several_faults_the_earliest_is_named(faults: dict[Link, int]) -> None:
    divergence = found(*(Fault(link, step) for link, step in faults.items()))
    assert divergence.step == min(faults.values())


@settings(deadline=None)
@given(size=st.floats(1e-3, 1.0), seed=SEEDS)
def test_other_weights_at_the_start_are_not_taken_for_another_loss(size: float, seed: int) -> None:
    divergence = find_divergence(curve(Fault(Link.START, FIRST, size), seed=seed), reference(seed), FP32)
    assert divergence is not None
    assert (divergence.step, divergence.link) == (FIRST, Link.START)


@settings(deadline=None)
@given(seed=SEEDS, noise_seed=SEEDS)
def test_rounding_is_no_divergence(seed: int, noise_seed: int) -> None:
    assert find_divergence(curve(seed=seed, noise_seed=noise_seed), reference(seed), FP32) is None


@settings(deadline=None)
@given(seed=SEEDS)
def test_the_same_run_twice_is_the_same_to_the_last_bit(seed: int) -> None:
    run, again = reference(seed), reference(seed)
    assert find_divergence(run, again, EXACT) is None
    assert all(d.loss == d.grad_norm == d.update == d.weights == 0.0 for d in differences(run, again))


def test_one_bit_is_a_divergence_where_identity_is_promised() -> None:
    run = reference()
    loss = math.nextafter(run.updates[9].loss, math.inf)
    other = replace(run, updates=(*run.updates[:9], replace(run.updates[9], loss=loss), *run.updates[10:]))
    divergence = find_divergence(other, run, EXACT)
    assert divergence is not None
    assert (divergence.step, divergence.link) == (FIRST + 9, Link.LOSS)


def test_differences_that_grow_bit_by_bit_are_not_blamed_on_the_step_where_they_pass_the_tolerance() -> None:
    run = reference()
    growing = [
        replace(update, loss=update.loss * (1.0 + 1e-6 * 1.2**number)) for number, update in enumerate(run.updates)
    ]
    divergence = find_divergence(replace(run, updates=tuple(growing)), run, FP32)
    assert divergence is not None
    assert divergence.is_drift
    assert "no step stands out" in divergence.headline()


# -- what it points to ---------------------------------------------------------------------------------------------


def test_a_whole_factor_is_named() -> None:
    assert ", 2 times as much" in found(Fault(Link.GRADIENT, 9, 1.0)).message
    assert ", 1/4 times as much" in found(Fault(Link.GRADIENT, 9, -0.75)).message
    assert ", 3 times as much" in found(Fault(Link.LOSS, 9, 2.0)).message


def test_any_other_factor_is_not() -> None:
    assert "times as much" not in found(Fault(Link.GRADIENT, 9, 0.3)).message


def test_a_batch_that_the_reference_has_elsewhere_is_another_order() -> None:
    run = reference()
    hashes = [update.batch_hash for update in run.updates]
    hashes[5], hashes[6] = hashes[6], hashes[5]
    swapped = tuple(replace(u, batch_hash=h) for u, h in zip(run.updates, hashes, strict=True))
    divergence = find_divergence(replace(run, updates=swapped), run, FP32)
    assert divergence is not None
    assert divergence.step == FIRST + 5
    assert f"the reference's batch of step {FIRST + 6}" in divergence.message
    assert "none of the reference's batches" in found(Fault(Link.DATA, 9)).message


def test_a_schedule_that_is_a_step_off_is_named_with_its_direction() -> None:
    run = reference()
    late = tuple(replace(u, learning_rate=learning_rate(u.step - 1)) for u in run.updates)
    divergence = find_divergence(replace(run, updates=late, earlier=()), run, FP32)
    assert divergence is not None
    assert (divergence.step, divergence.link) == (FIRST, Link.SCHEDULE)
    assert "another schedule" in divergence.message, "the rate of the step before the first is not known"
    before = replace(run.updates[0], step=FIRST - 1, learning_rate=learning_rate(FIRST - 1))
    divergence = find_divergence(replace(run, updates=late), replace(run, earlier=(before,)), FP32)
    assert divergence is not None
    assert divergence.message.endswith(f"the reference's rate of step {FIRST - 1}, so the schedule is one step behind")


def test_a_rate_that_was_used_but_not_told_is_seen_in_how_far_the_weights_moved() -> None:
    run = SimulatedRun((FIRST, LAST))
    events = list(run.events())
    step = 9
    # The update of step 9 with the rate of step 10: the same direction, by the ratio of the rates as far.
    told = {event["step"]: event for event in events if event["event"] == "step"}
    before, after = told[step - 1]["weights_fingerprint"], told[step]["weights_fingerprint"]
    ratio = learning_rate(step + 1) / learning_rate(step)
    moved = [a + ratio * (b - a) for a, b in zip(before, after, strict=True)]
    faulty = [{**event, "weights_fingerprint": moved} if event is told[step] else event for event in events]
    divergence = find_divergence(curve_of(faulty), curve_of(events), FP32)
    assert divergence is not None
    assert (divergence.step, divergence.link) == (step, Link.UPDATE)
    assert divergence.message.endswith("as with the learning rate of step 10: the schedule is one step ahead")


@pytest.mark.parametrize("flag", ["clipped", "skipped"])
def test_what_only_one_of_the_two_did_is_named(flag: str) -> None:
    run = reference()
    did = tuple(replace(u, clipped=u.step == 9, skipped=False) if flag == "clipped" else u for u in run.updates)
    moved = curve(Fault(Link.UPDATE, 9))
    if flag == "clipped":
        divergence = find_divergence(moved, replace(run, updates=did), FP32)
    else:
        skipped = tuple(replace(u, skipped=u.step == 9) for u in run.updates)
        divergence = find_divergence(run, replace(run, updates=skipped), FP32)
    assert divergence is not None
    assert (divergence.step, divergence.link) == (9, Link.UPDATE)
    assert f"the reference {flag}" in divergence.message
    assert "this run did not" in divergence.message


def test_another_count_of_tokens_is_a_matter_of_the_loss() -> None:
    run = reference()
    fewer = tuple(replace(u, loss_tokens=90) if u.step >= 12 else u for u in run.updates)
    divergence = find_divergence(replace(run, updates=fewer), run, FP32)
    assert divergence is not None
    assert (divergence.step, divergence.link) == (12, Link.LOSS)
    assert "count as 90 trained tokens, in the reference as 100" in divergence.message


def test_a_loss_that_is_not_finite_on_one_side_only_is_a_divergence() -> None:
    run = reference()
    broken = tuple(replace(u, loss=math.nan) if u.step == 7 else u for u in run.updates)
    divergence = find_divergence(replace(run, updates=broken), run, FP32)
    assert divergence is not None
    assert (divergence.step, divergence.link, divergence.value) == (7, Link.LOSS, math.inf)
    assert find_divergence(replace(run, updates=broken), replace(run, updates=broken), EXACT) is None


# -- what may be missing -------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(link=st.sampled_from([Link.LOSS, Link.GRADIENT]), step=STEPS)
def test_without_fingerprints_losses_and_gradients_are_still_compared(link: Link, step: int) -> None:
    def bare(run: Curve) -> Curve:
        kept = tuple(replace(u, batch_hash=None, weights=None, learning_rate=None) for u in run.updates)
        return replace(run, updates=kept, weights_at_start=None)

    divergence = find_divergence(bare(curve(Fault(link, step))), bare(reference()), FP32)
    assert divergence is not None
    assert (divergence.step, divergence.link) == (step, link)
    assert {d.update for d in differences(bare(curve()), bare(reference()))} == {None}


def test_a_run_that_ends_early_is_compared_as_far_as_it_goes() -> None:
    run = reference()
    short = replace(run, updates=run.updates[:5])
    assert [d.step for d in differences(short, run)] == [4, 5, 6, 7, 8]
    assert find_divergence(short, run, EXACT) is None
    assert find_divergence(Curve(), run, EXACT) is None


def test_the_weights_before_the_first_update_may_come_from_the_run_that_wrote_the_checkpoint() -> None:
    whole = curve_of(SimulatedRun((1, LAST)).events())
    seed = tuple(u for u in whole.updates if u.step < FIRST)
    run = replace(whole, updates=whole.updates[len(seed) :], earlier=seed, weights_at_start=None)
    first = differences(run, run)[0]
    assert (first.step, first.update) == (FIRST, 0.0)


def test_a_rate_near_zero_does_not_turn_rounding_into_a_divergence() -> None:
    run = reference()
    last = replace(run.updates[-1], learning_rate=0.0)
    nudged = replace(last, weights=tuple(w * (1.0 + 1e-12) for w in last.weights or ()))
    ours, theirs = (replace(run, updates=(*run.updates[:-1], u)) for u in (nudged, last))
    assert find_divergence(ours, theirs, FP32) is None
