"""Figures of an update and of an evaluation, and their summation on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from training.tasks.objective import LossSum


@dataclass(frozen=True)
class UpdateResult:
    """Figures of one update over the global batch."""

    loss: float
    """Mean loss over the weight (answer tokens), before any division by accumulation."""
    grad_norm: float
    """Global norm of the gradient before stabilizer and clipping."""
    weight: int
    tokens: int
    """Number of tokens read by all ranks, never padding; 0 if samples have no tokens."""
    forward_ms: float
    backward_ms: float
    skipped: bool
    """True if the update was skipped because the loss or the gradient was not finite; the weights did not change."""
    clipped: bool
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Measured metrics of the task, as means over the weight."""


@dataclass(frozen=True)
class EvaluationResult:
    """Mean figures over a data set."""

    loss: float
    weight: int
    metrics: Mapping[str, float] = field(default_factory=dict)


class FigureSums:
    """Sums of the loss and the metrics of several batches, kept on the device until they are read in one transfer.

    Args:
        device: device that computes the batches.
        dtype: dtype of the sums.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self._zero = torch.zeros((), device=device, dtype=dtype)
        self._loss = self._zero
        self._metrics: dict[str, Tensor] = {}

    def add(self, result: LossSum, weight: int) -> None:
        """Add a batch's sums; one of weight 0 only makes the names of the metrics known."""
        for name, value in result.sums.items():
            so_far = self._metrics.get(name, self._zero)
            self._metrics[name] = so_far + value.detach() if weight else so_far
        if weight:
            self._loss = self._loss + result.loss.detach()

    def clear(self) -> None:
        """Reset the sums for the next update."""
        self._loss = self._zero
        self._metrics = dict.fromkeys(self._metrics, self._zero)

    def stacked(self) -> Tensor:
        """Return one vector: the loss, then the metrics in the order of `means`."""
        return torch.stack([self._loss, *self._metrics.values()])

    def means(self, totals: list[float], weight: float) -> tuple[float, dict[str, float]]:
        """Divide the totals over all ranks.

        Args:
            totals: values of `stacked`, summed over the ranks.
            weight: total weight of all ranks' batches.

        Returns:
            Mean loss, and mean of each metric by name.
        """
        loss, *metrics = (total / weight for total in totals)
        return loss, dict(zip(self._metrics, metrics, strict=True))
