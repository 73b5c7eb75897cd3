"""What cannot be, and what would go wrong only after hours of training, told before anything is written."""

from __future__ import annotations

from training.backends.protocol import Backend, requested_features
from training.errors import ConfigError
from training.publish.hub import check_before_training
from training.settings.tree import TrainingConfig
from training.tracking.choice import check as check_trackers


def refuse_unsupported(backend: Backend, config: TrainingConfig, resume: bool) -> None:
    """What the backend cannot do is refused, with its reason.

    Raises:
        ConfigError: the first such feature that the config asks for.
    """
    for feature in sorted(requested_features(config, resume), key=lambda f: f.name):
        if feature in backend.unsupported:
            raise ConfigError(f"--backend {backend.name} cannot do {feature.value}: {backend.unsupported[feature]}")


def preflight(config: TrainingConfig) -> None:
    """Look whether trackers and the Hub can be used as the settings say.

    Raises:
        ConfigError: a package, a login or a right is missing; with what to do.
    """
    check_trackers(config)
    if warning := check_before_training(config.hub):
        print(f"warning: {warning}")
