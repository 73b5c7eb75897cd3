"""When training no longer helps: the best loss so far, and how long ago it was."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Patience:
    """Counts epochs without a better loss.

    Attributes:
        limit: as many end the run; None: none do.
        best: lowest loss so far.
        epochs_without_gain: since then.
    """

    limit: int | None
    best: float | None = None
    epochs_without_gain: int = 0

    def note(self, loss: float) -> bool:
        """Take note of an epoch's loss; returns whether it is the best so far."""
        if self.best is None or loss < self.best:
            self.best, self.epochs_without_gain = loss, 0
            return True
        self.epochs_without_gain += 1
        return False

    @property
    def ran_out(self) -> bool:
        """Whether the run should end."""
        return self.limit is not None and self.epochs_without_gain >= self.limit
