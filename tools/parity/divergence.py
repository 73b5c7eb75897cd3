"""The first update at which a run leaves the reference's curve, and what differs there.

An update is a chain: samples are chosen, the loss is computed on the present weights, then its gradient, then the
weights move. Whatever goes wrong first makes everything behind it differ too. So the first update with anything beyond
the tolerance is sought, and there the first link of the chain that is beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tools.parity.curve import Curve
from tools.parity.difference import Difference, differences, relative
from tools.parity.explanation import explain
from tools.parity.link import Link
from tools.parity.tolerance import Tolerance

STANDS_OUT = 4.0
"""A fault is a jump. What exceeds the largest difference before it by less than this grew bit by bit."""


@dataclass(frozen=True)
class Divergence:
    """Where a run parts from the reference."""

    step: int
    """The first update that differs."""
    link: Link
    """What differs first at that update."""
    is_drift: bool
    """No update stands out: differences had been growing, and this is merely where they passed the tolerance."""
    value: float | None
    """The difference; None where there is only same or not the same."""
    tolerance: float
    message: str
    """For people: the figures of both, and what they point to."""

    def headline(self) -> str:
        """Step, link and message in a line."""
        if self.is_drift:
            return (
                f"step {self.step}: {self.link} beyond the tolerance, but no step stands out: the differences grew bit "
                "by bit, as rounding does in a run that amplifies it, or as a fault too small for the tolerance does"
            )
        return f"step {self.step}: {self.link}: {self.message}"


def find_divergence(run: Curve, reference: Curve, tolerance: Tolerance) -> Divergence | None:
    """The first update that is beyond the tolerance, or None: the same curve, as far as both go.

    Args:
        run: compared to the reference.
        reference: what is right by definition.
        tolerance: how far is too far.
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
    """(link, difference, limit) of what is beyond the tolerance at an update, in causal order."""
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
    """Whether a difference is no more than the growth of what was there before it."""
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
    """Whether the weights differed before the first update. They are copied, not computed, so rounding is no excuse.

    The fingerprint itself is a sum that a device may order otherwise.
    """
    ours, theirs = run.weights_at_start, reference.weights_at_start
    if ours is None or theirs is None:
        return False
    limit = 0.0 if tolerance.is_exact else 1e-9 * max(map(abs, theirs))
    return len(ours) != len(theirs) or any(
        relative(a, b) and abs(a - b) > limit for a, b in zip(ours, theirs, strict=True)
    )
