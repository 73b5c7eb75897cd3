"""Runs that are simulated, link by link: what each has as its events follows causally from its faults, as in real ones.

A small model in numpy: weights in R^8 are drawn towards each batch's mean. A fault changes one link from its step on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tools.parity.divergence import Link
from training.record.reporter import Event

WIDTH = 8
_DIRECTIONS = np.random.default_rng(1).normal(size=(2, WIDTH))


@dataclass(frozen=True)
class Fault:
    """A link that is wrong from a step on."""

    link: Link
    step: int
    size: float = 0.1
    """Relative; of an update: in units of the update itself."""


@dataclass
class SimulatedRun:
    """One run's events.

    Args:
        steps: its first and last update.
        seed: decides batches and first weights.
        faults: what is wrong with it.
        noise: relative size of the rounding that is drawn for each figure.
        noise_seed: two runs of one config differ in this.
    """

    steps: tuple[int, int] = (4, 33)
    seed: int = 0
    faults: tuple[Fault, ...] = ()
    noise: float = 0.0
    noise_seed: int = 0
    _rounding: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._rounding = np.random.default_rng(self.noise_seed)

    def events(self) -> Iterator[Event]:
        """As `training.record.reporter.read_events` gives them."""
        weights = np.random.default_rng(self.seed).normal(size=WIDTH)
        first, last = self.steps
        weights = weights * (1.0 + self._fault(Link.START, first))
        yield {"event": "run_resumed", "step": first - 1, "device": "cpu", "weights_fingerprint": fingerprint(weights)}
        for step in range(first, last + 1):
            yield self._update(step, weights)
        yield {"event": "run_finished", "reason": "all steps done"}

    def _update(self, step: int, weights: NDArray[np.float64]) -> Event:
        draw = step + 1000 if self._fault(Link.DATA, step) else step
        target = np.random.default_rng((self.seed, draw)).normal(size=WIDTH)
        # A wrong loss is a wrong gradient too: both come from it.
        scale = 1.0 + self._fault(Link.LOSS, step)
        loss = self._rounded((1.0 + float(np.square(weights - target).mean())) * scale)
        gradient = (weights - target) * scale * (1.0 + self._fault(Link.GRADIENT, step))
        rate = learning_rate(step) * (1.0 + self._fault(Link.SCHEDULE, step))
        movement = -rate * gradient
        # A wrong update turns: the same length in another direction.
        weights += movement + self._fault(Link.UPDATE, step) * np.roll(movement, 1)
        weights *= 1.0 + self.noise * 1e-3 * self._rounding.uniform(-1.0, 1.0, WIDTH)
        return {
            "event": "step",
            "step": step,
            "loss": loss,
            "grad_norm": self._rounded(float(np.linalg.norm(gradient))),
            "learning_rate": rate,
            "loss_tokens": 100,
            "batch_hash": f"{draw:016x}",
            "weights_fingerprint": fingerprint(weights),
        }

    def _fault(self, link: Link, step: int) -> float:
        return math.fsum(fault.size for fault in self.faults if fault.link is link and step >= fault.step)

    def _rounded(self, value: float) -> float:
        return value * (1.0 + self.noise * float(self._rounding.uniform(-1.0, 1.0)))


def learning_rate(step: int) -> float:
    """Another one at each step."""
    return 0.02 * (1.0 + 0.5 * math.cos(0.7 * step))


def fingerprint(weights: NDArray[np.float64]) -> list[float]:
    """As `training.tasks.fingerprints` makes it: the norm, and two projections."""
    return [float(np.linalg.norm(weights)), *map(float, _DIRECTIONS @ weights)]
