"""Updates that were left out because the loss or the gradient was not finite."""

from __future__ import annotations

from training.engines.results import UpdateResult
from training.errors import UserError


class Skips:
    """Counts skipped updates in a row and ends the run when there are too many.

    Args:
        limit: as many in a row end the run.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_a_row = 0

    def note(self, result: UpdateResult, step: int) -> str | None:
        """Take note of an update; returns what the user should know of it."""
        if not result.skipped:
            self.in_a_row = 0
            return None
        self.in_a_row += 1
        return f"update {step} skipped: loss {result.loss:g}, gradient norm {result.grad_norm:g}"

    def refuse_too_many(self, step: int) -> None:
        """End a run that no longer learns.

        Raises:
            UserError: the limit is reached.
        """
        if self.in_a_row >= self.limit:
            raise UserError(
                f"{self.in_a_row} updates in a row had a loss or gradient that is not finite "
                f"(step {step}); the weights are the last good ones: lower --learning-rate, "
                "raise --warmup-steps, use --precision fp32 or look at the data, then --resume an earlier checkpoint"
            )
