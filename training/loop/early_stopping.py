"""Early stopping: the best loss so far, and the number of epochs since then."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class EarlyStopping:
    """Counter of epochs without a better loss.

    Attributes:
        patience: number of such epochs after which the run ends; None: it never ends early.
        best: lowest loss so far.
        epochs_without_gain: epochs since then.
    """

    patience: int | None
    best: float | None = None
    epochs_without_gain: int = 0

    def note(self, loss: float, *, whole_epoch: bool = True) -> bool:
        """Count a loss; return True if it is the best so far.

        Args:
            loss: of an epoch; one that is not finite is never the best.
            whole_epoch: False: measured inside an epoch, at the end of the run. It may be the best, and is no epoch
                without one.
        """
        if math.isfinite(loss) and (self.best is None or loss < self.best):
            self.best, self.epochs_without_gain = loss, 0
            return True
        self.epochs_without_gain += whole_epoch
        return False

    @property
    def is_due(self) -> bool:
        """Return True if the run should end."""
        return self.patience is not None and self.epochs_without_gain >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"best": self.best, "epochs_without_gain": self.epochs_without_gain}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.best, self.epochs_without_gain = state["best"], state["epochs_without_gain"]
