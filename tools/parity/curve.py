"""The curve of a run, update by update, read from its progress record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.errors import UserError
from training.record.history import History, without
from training.record.log import LOG_NAME, DamagedLines, read_events

Fingerprint = tuple[float, ...]
"""The norm of all weights, then projections of them onto fixed directions, in fp64 (`training.tasks.fingerprints`)."""


@dataclass(frozen=True)
class Update:
    """One optimizer update. NaN stands for a number that was not finite, None for one that was not recorded."""

    step: int
    loss: float
    """Mean over the trained tokens of the global batch, before the update."""
    grad_norm: float
    """Norm of the whole gradient, before clipping."""
    learning_rate: float | None
    loss_tokens: int | None
    batch_hash: str | None
    """Hash of the samples in the global batch, in any order."""
    weights: Fingerprint | None
    """Fingerprint of the weights after the update."""
    clipped: bool = False
    skipped: bool = False


@dataclass(frozen=True)
class Curve:
    """All updates of a run, oldest first, and the facts that it recorded at its start."""

    updates: tuple[Update, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    weights_at_start: Fingerprint | None = None
    """Fingerprint before the first update of this run; None where it was not recorded."""
    earlier: tuple[Update, ...] = ()
    """Updates before the first one: those of the run whose checkpoint this one resumed."""

    def at(self, step: int) -> Update:
        """Return the update with this number.

        Raises:
            StopIteration: there is none.
        """
        return next(update for update in self.updates if update.step == step)

    def weights_before(self, step: int) -> Fingerprint | None:
        """Return the fingerprint that update `step` started from."""
        first = self.weights_at_start or (self.earlier[-1].weights if self.earlier else None)
        return next((u.weights for u in reversed(self.updates) if u.step < step), first)


def read_curve(run_dir: Path) -> Curve:
    """Return the curve in a run directory; an empty one where there is no record.

    Raises:
        UserError: lines of the record are damaged: a curve with holes certifies nothing.
    """
    log, damaged = run_dir / LOG_NAME, DamagedLines()
    if not log.is_file():
        return Curve()
    curve = curve_of(read_events(log, damaged))
    if damaged.count:
        raise UserError(f"{run_dir}: {damaged}, so its curve cannot be compared; run it again")
    return curve


def curve_of(events: Iterable[Mapping[str, Any]]) -> Curve:
    """Return the curve that a run's events hold; what a resumed run did again counts once."""
    history = History.of(dict(event) for event in events)
    facts = without(history.facts, "started_at", "resumed_at_steps")
    return Curve(tuple(map(_update, history.updates)), facts, _floats(facts.pop("weights_fingerprint", None)))


def _update(event: Mapping[str, Any]) -> Update:
    return Update(
        step=event["step"],
        loss=_number(event.get("loss")),
        grad_norm=_number(event.get("grad_norm")),
        learning_rate=event.get("learning_rate"),
        loss_tokens=event.get("loss_tokens", event.get("loss_weight")),
        batch_hash=event.get("batch_hash"),
        weights=_floats(event.get("weights_fingerprint")),
        clipped=bool(event.get("clipped")),
        skipped=bool(event.get("skipped")),
    )


def _number(value: float | None) -> float:
    """Return NaN for null, which is how the record writes a number that is not finite."""
    return math.nan if value is None else float(value)


def _floats(values: Iterable[float | None] | None) -> Fingerprint | None:
    return None if values is None else tuple(map(_number, values))
