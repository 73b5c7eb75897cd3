"""What an update and an evaluation give."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class UpdateResult:
    """One update's figures, over the global batch."""

    loss: float
    """Mean over the weight (answer tokens), before any division by accumulation."""
    accuracy: float
    """Share of the weight's tokens that were right, 0 to 1."""
    grad_norm: float
    """Global norm of the gradient before stabilizer and clipping."""
    weight: int
    tokens: int
    forward_ms: float
    backward_ms: float
    skipped: bool
    """The update was left out because the loss or the gradient was not finite; the weights did not change."""
    clipped: bool


@dataclass(frozen=True)
class EvaluationResult:
    """Means over a data set."""

    loss: float
    accuracy: float
    weight: int
