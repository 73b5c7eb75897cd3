"""The differences between a run and the reference at each update, and the tolerances within which both are one curve.

The tolerances are declared here and nowhere else.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from tools.parity.curve import Curve, Fingerprint, Update


@dataclass(frozen=True)
class Difference:
    """The difference between one update of a run and the same update of the reference. None: one did not record it."""

    step: int
    same_batch: bool | None
    same_tokens: bool | None
    """True if both counted the same number of trained tokens, by which the loss is divided."""
    loss: float
    """|run - reference| / |reference|; infinite where one of the two is not finite."""
    grad_norm: float
    """As `loss`."""
    learning_rate: float | None
    """As `loss`."""
    update: float | None
    """Difference of the weights' movement: the largest difference of a fingerprint's movement over its usual movement.

    The usual movement is the reference's median, scaled to this update's learning rate. So 1 means: as different as if
    the update had been left out; a wrong rate or a wrong decay shows at once, long before it shows in the loss.
    """
    weights: float | None
    """Distance of the weights after the update, in usual movements: the sum of the differences so far."""
    only_one_skipped: bool
    """One of the two left the update out because its loss or gradient was not finite."""


def relative(value: float, reference: float) -> float:
    """Return |value - reference| / |reference|; 0 for the same bits (or both NaN), infinite if only one is finite."""
    if value == reference or (math.isnan(value) and math.isnan(reference)):
        return 0.0
    if not (math.isfinite(value) and math.isfinite(reference)):
        return math.inf
    return abs(value - reference) / abs(reference) if reference else math.inf


def differences(run: Curve, reference: Curve) -> list[Difference]:
    """Return the differences at the updates that both have, in the order of steps."""
    theirs = {update.step: update for update in reference.updates}
    usual = _usual_movement(reference)
    # Where a schedule ends near zero, weights move by less than their own rounding.
    lowest_rate = 0.01 * max(map(_rate, reference.updates), default=0.0)
    return [
        _difference(run, reference, ours, other, [unit * max(_rate(other), lowest_rate) for unit in usual])
        for ours in run.updates
        if (other := theirs.get(ours.step)) is not None
    ]


def _difference(run: Curve, reference: Curve, ours: Update, other: Update, scale: Sequence[float]) -> Difference:
    rates = (ours.learning_rate, other.learning_rate)
    return Difference(
        step=ours.step,
        same_batch=_same(ours.batch_hash, other.batch_hash),
        same_tokens=_same(ours.loss_tokens, other.loss_tokens),
        loss=relative(ours.loss, other.loss),
        grad_norm=relative(ours.grad_norm, other.grad_norm),
        learning_rate=None if rates[0] is None or rates[1] is None else relative(rates[0], rates[1]),
        update=_apart(movement(run, ours), movement(reference, other), scale),
        weights=_apart(ours.weights, other.weights, scale),
        only_one_skipped=ours.skipped != other.skipped,
    )


def movement(curve: Curve, update: Update) -> Fingerprint | None:
    """Return the change of the fingerprint in an update; None where it was not recorded."""
    before, after = curve.weights_before(update.step), update.weights
    if before is None or after is None or len(before) != len(after):
        return None
    return tuple(b - a for a, b in zip(before, after, strict=True))


def _usual_movement(curve: Curve) -> list[float]:
    """Return for each number of the fingerprint the median of its absolute movement per unit of learning rate."""
    moves: list[Fingerprint] = []
    for update in curve.updates:
        move = movement(curve, update)
        if move is not None and not update.skipped and _rate(update) and all(map(math.isfinite, move)):
            moves.append(tuple(abs(part) / _rate(update) for part in move))
    return [statistics.median(parts) for parts in zip(*moves, strict=True)]


def _rate(update: Update) -> float:
    return 1.0 if update.learning_rate is None else update.learning_rate


def _same(ours: object, theirs: object) -> bool | None:
    return None if ours is None or theirs is None else ours == theirs


def _apart(ours: Fingerprint | None, theirs: Fingerprint | None, scale: Sequence[float]) -> float | None:
    """Return the largest |ours - theirs| / scale; None where there is nothing to compare."""
    if ours is None or theirs is None or not scale or not len(ours) == len(theirs) == len(scale):
        return None
    largest = 0.0
    for a, b, unit in zip(ours, theirs, scale, strict=True):
        if a == b or (math.isnan(a) and math.isnan(b)):
            continue
        largest = max(largest, abs(a - b) / unit if unit and math.isfinite(a - b) else math.inf)
    return largest


@dataclass(frozen=True)
class Tolerance:
    """The largest differences that rounding explains; `Difference` says how each is measured."""

    loss: float
    """Relative."""
    grad_norm: float
    """Relative."""
    update: float
    """Difference of an update's movement, in units of a usual update."""
    learning_rate: float = 1e-12
    """Relative. It is computed from the step alone, in fp64."""

    @property
    def is_exact(self) -> bool:
        """True if only identical numbers pass."""
        return self.loss == self.grad_norm == self.update == 0.0


EXACT = Tolerance(loss=0.0, grad_norm=0.0, update=0.0, learning_rate=0.0)
"""The same backend with the same processes on the same CPU does the same sums in the same order."""

BY_PRECISION: Mapping[str, Tolerance] = MappingProxyType({
    # Another number of ranks or micro-batches sums in another order.
    "fp32": Tolerance(loss=1e-5, grad_norm=1e-4, update=1e-3),
    # Each micro-batch is rounded to eight bits by itself, so cutting a batch otherwise is another rounding.
    "bf16": Tolerance(loss=2e-2, grad_norm=5e-2, update=0.2),
})  # fmt: skip
"""Precision of the forward pass -> the tolerance between different backends, a few times what was measured
(docs/TRAINING_BACKENDS.md)."""
