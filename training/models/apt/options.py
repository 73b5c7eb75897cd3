"""Settings of the model family apt. No torch."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from apt_model.config import ModelConfig
from training.settings.tree import ModelOptions


class APTOptions(ModelConfig, ModelOptions):
    """Options of the network: APT, a causal decoder (RMSNorm, rotary positions, SwiGLU, no biases)."""

    decides_loss: ClassVar[frozenset[str]] = frozenset({"max_seq_len"})
    in_training_loss: ClassVar[frozenset[str]] = frozenset({"dropout"})
    draws_at_random: ClassVar[frozenset[str]] = frozenset({"dropout"})
    fits_any_weights: ClassVar[frozenset[str]] = frozenset({"dropout", "max_seq_len"})

    base_model: str | None = Field(
        None,
        min_length=1,
        description="Finished model to go on from with new data (final_model/); --model RUN sets it. None: new "
        "weights.",
        json_schema_extra={"metavar": "DIR", "goes_along": True},
    )

    def network(self, vocab_size: int | None = None) -> ModelConfig:
        """Return only the shape of the network, as `APT` takes it.

        Args:
            vocab_size: number of tokens that the data needs; used if the settings leave it open.
        """
        shape = self.model_dump(include=set(ModelConfig.model_fields))
        return ModelConfig(**{**shape, "vocab_size": self.vocab_size or vocab_size})
