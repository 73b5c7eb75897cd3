"""The first update at which a run leaves the reference's curve, what differs there, and what the numbers point to.

An update is a chain: samples are chosen, the loss is computed on the present weights, then its gradient, then the
weights move. The first fault makes everything behind it differ too. So the first update with anything beyond the
tolerance is searched, and in it the first link of the chain that is beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tools.parity.curve import Curve, Fingerprint, Update
from tools.parity.difference import Difference, Tolerance, differences, movement, relative

STANDS_OUT = 4.0
"""Factor over the largest earlier difference from which a difference is a jump, as a fault is; less is growth."""


@dataclass(frozen=True)
class Divergence:
    """The point at which a run leaves the reference's curve."""

    step: int
    """The first update that differs."""
    link: Link
    """The first link that differs at that update."""
    is_drift: bool
    """True if no update stands out: the differences had been growing, and passed the tolerance here."""
    value: float | None
    """The difference; None for a quantity that is only the same or not."""
    tolerance: float
    message: str
    """One sentence for people: the numbers of both runs, and what they point to."""

    def headline(self) -> str:
        """Return step, link and message in one line."""
        if self.is_drift:
            return (
                f"step {self.step}: {self.link} beyond the tolerance, but no step stands out: the differences grew bit "
                "by bit, as rounding does in a run that amplifies it, or as a fault too small for the tolerance does"
            )
        return f"step {self.step}: {self.link}: {self.message}"


def find_divergence(run: Curve, reference: Curve, tolerance: Tolerance) -> Divergence | None:
    """Return the first update that is beyond the tolerance, or None: the same curve, as far as both runs go.

    Args:
        run: the curve that is compared.
        reference: the curve that is right by definition.
        tolerance: the largest differences that are allowed.
    """
    if _started_apart(run, reference, tolerance):
        first = run.updates[0].step if run.updates else 0
        return Divergence(first, Link.START, False, None, 0.0, explain(Link.START, run, reference, first))
    past: list[Difference] = []
    for difference in differences(run, reference):
        for link, value, limit in exceeded(difference, tolerance):
            is_drift = value is not None and _grew(link, value, past)
            message = explain(link, run, reference, difference.step)
            return Divergence(difference.step, link, is_drift, value, limit, message)
        past.append(difference)
    return None


def exceeded(d: Difference, tolerance: Tolerance) -> Iterator[tuple[Link, float | None, float]]:
    """Yield (link, difference, limit) for all that is beyond the tolerance at an update, in causal order."""
    if d.same_batch is False:
        yield Link.DATA, None, 0.0
    if d.same_tokens is False:
        yield Link.LOSS, None, 0.0
    for link, value, limit in (
        (Link.LOSS, d.loss, tolerance.loss),
        (Link.GRADIENT, d.grad_norm, tolerance.grad_norm),
        (Link.SCHEDULE, d.learning_rate, tolerance.learning_rate),
        (Link.UPDATE, d.update, tolerance.update),
    ):
        if value is not None and value > limit:
            yield link, value, limit
    if d.only_one_skipped:
        yield Link.UPDATE, None, 0.0


def _grew(link: Link, value: float, past: Sequence[Difference]) -> bool:
    """Return whether a difference is only the growth of earlier differences."""
    match link:
        case Link.LOSS:
            before = max((d.loss for d in past), default=0.0)
        case Link.GRADIENT:
            before = max((d.grad_norm for d in past), default=0.0)
        case Link.UPDATE:
            before = max((d.update or 0.0 for d in past), default=0.0)
        case _:
            return False
    return math.isfinite(value) and value < STANDS_OUT * before


def _started_apart(run: Curve, reference: Curve, tolerance: Tolerance) -> bool:
    """Return whether the weights differed before the first update. They are copied, so rounding does not explain it.

    Only the fingerprint is computed: a sum, which a device may take in another order.
    """
    ours, theirs = run.weights_at_start, reference.weights_at_start
    if ours is None or theirs is None:
        return False
    limit = 0.0 if tolerance.is_exact else 1e-9 * max(map(abs, theirs))
    return len(ours) != len(theirs) or any(
        relative(a, b) and abs(a - b) > limit for a, b in zip(ours, theirs, strict=True)
    )


class Link(StrEnum):
    """The links of the chain that one optimizer update is, in causal order: each is computed from those before it.

    Once one differs, all links behind it differ, at this update and at all later ones.
    """

    START = "start"
    """The weights before the first update: the checkpoint was read differently."""
    DATA = "data"
    """The samples of the global batch."""
    LOSS = "loss"
    """Same samples, same weights: the forward pass, or the divisor of the loss."""
    GRADIENT = "gradient"
    """Same loss: the backward pass, accumulation, or averaging over ranks."""
    SCHEDULE = "schedule"
    """Same gradient: the learning rate."""
    UPDATE = "update"
    """Same gradient and rate: clipping, moments, betas, weight decay."""


_CLOSE = 1e-3
"""Relative distance at which a factor counts as a plain number: far above rounding, far below any real fault."""
_FACTORS = {f: f"{f}" for f in range(2, 65)} | {1 / f: f"1/{f}" for f in range(2, 65)}


def explain(link: Link, run: Curve, reference: Curve, step: int) -> str:
    """Return one sentence about what differs first at `step`, with the numbers of both."""
    if link is Link.START:
        return "the weights before the first update are not the reference's: the checkpoint was read differently"
    ours, theirs = run.at(step), reference.at(step)
    match link:
        case Link.DATA:
            return _data(run, reference, step)
        case Link.LOSS:
            return _loss(ours, theirs)
        case Link.GRADIENT:
            return _gradient(ours, theirs)
        case Link.SCHEDULE:
            return _schedule(ours, reference)
        case Link.UPDATE:
            return _update(run, reference, step)


def _data(run: Curve, reference: Curve, step: int) -> str:
    ours, theirs = run.at(step), reference.at(step)
    text = f"another global batch (hash {ours.batch_hash}, reference {theirs.batch_hash})"
    if ours.loss_tokens != theirs.loss_tokens:
        text += f" with {ours.loss_tokens} trained tokens (reference {theirs.loss_tokens})"
    elsewhere = [u.step for u in reference.updates if u.batch_hash == ours.batch_hash]
    if elsewhere:
        return f"{text}: it is the reference's batch of step {elsewhere[0]}, so the order of the batches differs"
    return f"{text}: none of the reference's batches holds these samples, so they are drawn or cut differently"


def _loss(ours: Update, theirs: Update) -> str:
    if ours.loss_tokens != theirs.loss_tokens:
        return (
            f"the same samples count as {ours.loss_tokens} trained tokens, in the reference as {theirs.loss_tokens}: "
            "the loss is divided by another number"
        )
    text = f"same samples, same weights, but the loss is {ours.loss:.9g} (reference {theirs.loss:.9g})"
    factor = _plain_factor(ours.loss, theirs.loss)
    if factor:
        return f"{text}, {factor} times as much: summed where a mean is meant, or divided twice"
    if relative(ours.loss, theirs.loss) < _CLOSE:
        return f"{text}: so close that the arithmetic is the first suspect (precision, another kernel)"
    return (
        f"{text}: the forward pass differs, or the loss is not divided by the tokens of the whole global batch "
        "(a mean of means weighs tokens unequally)"
    )


def _gradient(ours: Update, theirs: Update) -> str:
    text = f"same loss, but the gradient's norm is {ours.grad_norm:.9g} (reference {theirs.grad_norm:.9g})"
    factor = _plain_factor(ours.grad_norm, theirs.grad_norm)
    if factor:
        return f"{text}, {factor} times as much: summed over ranks or batches where a mean is meant, or divided twice"
    return (
        f"{text}: not every batch or rank counts by its tokens (a mean of means, a rank left out), "
        "or an older gradient was not cleared"
    )


def _schedule(ours: Update, reference: Curve) -> str:
    theirs = reference.at(ours.step)
    text = f"same gradient, but the learning rate is {ours.learning_rate:.9g} (reference {theirs.learning_rate:.9g})"
    other = _step_of_rate(ours.learning_rate or 0.0, ours.step, reference)
    if other is None:
        return f"{text}: another schedule"
    return f"{text}: it is the reference's rate of step {other}, so the schedule is {_steps_off(other - ours.step)}"


def _update(run: Curve, reference: Curve, step: int) -> str:
    ours, theirs = run.at(step), reference.at(step)
    if ours.skipped != theirs.skipped:
        who = ("this run", "the reference") if ours.skipped else ("the reference", "this run")
        return f"same gradient, but {who[0]} skipped the update and {who[1]} did not"
    if ours.clipped != theirs.clipped:
        who = ("this run", "the reference") if ours.clipped else ("the reference", "this run")
        return f"same gradient, but {who[0]} clipped it and {who[1]} did not"
    text = "same loss, gradient norm and learning rate, but the weights moved differently"
    factor = _common_factor(movement(run, ours), movement(reference, theirs))
    if factor is not None and theirs.learning_rate:
        other = _step_of_rate(factor * theirs.learning_rate, step, reference)
        text += f": {factor:.6g} times as far in the same direction"
        if other is not None:
            return f"{text}, as with the learning rate of step {other}: the schedule is {_steps_off(other - step)}"
        return f"{text}: another learning rate was used than was reported"
    return f"{text}: betas, moments, epsilon, weight decay (and which parameters it is for) or clipping differ"


def _plain_factor(value: float, reference: float) -> str | None:
    """Return `2` or `1/4` if `value` is a small whole multiple or fraction of the reference, else None."""
    if not (math.isfinite(value) and math.isfinite(reference)) or reference == 0.0:
        return None
    ratio = value / reference
    near = min(_FACTORS, key=lambda factor: abs(ratio / factor - 1.0))
    return _FACTORS[near] if abs(ratio / near - 1.0) < _CLOSE else None


def _common_factor(ours: Fingerprint | None, theirs: Fingerprint | None) -> float | None:
    """Return the factor by which a movement exceeds the reference's, or None where its numbers do not agree on one.

    The first number of a fingerprint is a norm, which is not linear in the weights; the others are.
    """
    if ours is None or theirs is None or len(ours) != len(theirs) or len(theirs) < 3 or not all(theirs[1:]):
        return None
    factors = [a / b for a, b in zip(ours[1:], theirs[1:], strict=True)]
    middle = sorted(factors)[len(factors) // 2]
    if not math.isfinite(middle) or not middle:
        return None
    return middle if all(abs(factor / middle - 1.0) < _CLOSE for factor in factors) else None


def _step_of_rate(rate: float, step: int, reference: Curve) -> int | None:
    """Return the update whose learning rate in the reference is `rate`; of several, the one nearest to `step`."""
    rates = {u.step: u.learning_rate for u in (*reference.earlier, *reference.updates) if u.learning_rate}
    fits = [s for s, r in rates.items() if s != step and abs(rate / r - 1.0) < _CLOSE]
    return min(fits, key=lambda s: abs(s - step), default=None)


def _steps_off(count: int) -> str:
    steps = "one step" if abs(count) == 1 else f"{abs(count)} steps"
    return f"{steps} {'ahead' if count > 0 else 'behind'}"
