"""Updates that were skipped because the loss or the gradient was not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from training.checkpoints.finite_weights import REMEDY
from training.engines.results import UpdateResult
from training.errors import UserError
from training.language.messages import Message


class SkippedUpdates:
    """Counter of skipped updates in a row, which ends the run when there are too many.

    Args:
        limit: number of them in a row that ends the run.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_a_row = 0

    def note(self, result: UpdateResult, step: int) -> str | None:
        """Count an update; return a warning for the user if it was skipped."""
        if not result.skipped:
            self.in_a_row = 0
            return None
        self.in_a_row += 1
        return Message(
            "update {step} skipped: loss {loss:g}, gradient norm {norm:g}",
            step=step,
            loss=result.loss,
            norm=result.grad_norm,
        )

    def refuse_too_many(self, step: int) -> None:
        """End a run that has stopped learning.

        Raises:
            UserError: the limit is reached.
        """
        if self.in_a_row >= self.limit:
            raise UserError(
                f"{self.in_a_row} updates in a row had a loss or gradient that is not finite "
                f"(step {step}), the run has diverged; {REMEDY}"
            )

    def refuse_end(self, step: int, loss: float) -> None:
        """End a run as a failure whose last updates were skipped.

        Args:
            step: updates that the run has, which is all of them.
            loss: of another batch, with the weights as they are now.

        Raises:
            UserError: the loss is not finite, or no update was made at all.
        """
        if self.in_a_row >= step or not math.isfinite(loss):
            raise UserError(
                f"the run ends without a finite loss: the last {self.in_a_row} of its {step} updates were skipped, and "
                f"the loss is {loss:g} now; no final model is written; {REMEDY}"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"in_a_row": self.in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.in_a_row = state["in_a_row"]
