"""Shape of an APT model as a transformers config: the keys of `ModelConfig`, readable without pydantic."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from transformers import PretrainedConfig, __version__

from apt_model.remote_code import AUTO_MAP, write_code

# The first version that can distinguish a chat template's control tokens from those that a user writes.
if tuple(map(int, __version__.split(".")[:2])) < (5, 23):
    raise ImportError(f"APT models need transformers 5.23 or later; this is {__version__}: pip install -U transformers")

SHAPE = (
    "d_model",
    "num_layers",
    "num_heads",
    "d_ff",
    "max_seq_len",
    "dropout",
    "attention",
    "tie_embeddings",
    "vocab_size",
    "rope_theta",
    "norm_eps",
)
"""Keys shared with `ModelConfig`: all that the network reads."""


class APTConfig(PretrainedConfig):  # type: ignore[misc]
    """Content of a portable model's `config.json`. `ModelConfig` documents each key and its limits.

    The names that the rest of transformers uses (`hidden_size`, `num_hidden_layers`, …) are aliases.

    Raises:
        ValueError: the heads do not divide `d_model` into parts of an even width.
    """

    model_type: ClassVar[str] = "apt"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "intermediate_size": "d_ff",
        "max_position_embeddings": "max_seq_len",
        "tie_word_embeddings": "tie_embeddings",
    }

    format: str = "apt-model"
    version: int = 1
    d_model: int = 256
    num_layers: int = 6
    num_heads: int = 8
    d_ff: int = 1024
    max_seq_len: int = 256
    dropout: float = 0.0
    attention: str = "autopoietic"
    tie_embeddings: bool = True
    vocab_size: int | None = None
    rope_theta: float = 10000.0
    norm_eps: float = 1e-6
    # The first ids of every APT vocabulary, in the order of `tokenizer.SPECIALS`.
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    sep_token_id: int | None = 3
    eos_token_id: int | None = 4

    def __post_init__(self, **kwargs: object) -> None:
        super().__post_init__(**kwargs)
        if self.d_model % (2 * self.num_heads):
            raise ValueError(
                f"d_model={self.d_model} cannot be divided among num_heads={self.num_heads} heads of an even width"
            )

    def save_pretrained(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Save the config, and the code that opens the directory where APT is not installed.

        A model saves its config together with itself, before a push to the Hub too; so the code goes there as well.
        """
        self.auto_map = dict(AUTO_MAP)
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        write_code(save_directory)
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    @property
    def head_dim(self) -> int:
        """Return the number of features per attention head."""
        return self.d_model // self.num_heads
