"""What would go wrong only after hours of training, asked before anything is written."""

from __future__ import annotations

from training.config import TrainingConfig
from training.hub import check_before_training
from training.tracking.choice import check as check_trackers


def preflight(config: TrainingConfig) -> None:
    """Look whether trackers and the Hub can be used as the settings say.

    Raises:
        ConfigError: a package, a login or a right is missing; with what to do.
    """
    check_trackers(config)
    if warning := check_before_training(config.hub):
        print(f"warning: {warning}")
