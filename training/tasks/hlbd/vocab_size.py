"""The size of the vocabulary, which the data settles where the settings do not."""

from __future__ import annotations

from training.errors import ConfigError
from training.settings.tree import TrainingConfig


def with_vocab_size(config: TrainingConfig, vocab_size: int) -> TrainingConfig:
    """The config with the data's vocabulary size, which a larger given one may exceed.

    Raises:
        ConfigError: the given size is too small for the data.
    """
    given = config.model.vocab_size
    if given is not None and given < vocab_size:
        raise ConfigError(f"vocab_size={given} is too small: the data has {vocab_size} tokens; leave vocab_size out")
    model = config.model.model_copy(update={"vocab_size": given or vocab_size})
    return config.model_copy(update={"model": model})
