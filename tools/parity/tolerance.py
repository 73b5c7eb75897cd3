"""How far two runs of one config may lie apart and still count as the same curve. Declared here, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Tolerance:
    """Largest differences that rounding explains; see `tools.parity.difference` for how each is measured."""

    loss: float
    """Relative."""
    grad_norm: float
    """Relative."""
    update: float
    """Of what an update moves the weights by, in units of a usual update."""
    learning_rate: float = 1e-12
    """Relative. It is computed from the step alone, in fp64."""

    @property
    def is_exact(self) -> bool:
        """Whether nothing but identical numbers pass."""
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
