"""Shape of an APT model. No torch: `--help` and `--dry-run` read this file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ModelConfig(BaseModel):
    """The network: APT, a causal decoder (RMSNorm, rotary positions, SwiGLU, no biases)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    d_model: int = Field(256, ge=1, le=2**16, description="Width of the residual stream, in features.")
    num_layers: int = Field(
        6, ge=1, le=1000, description="Number of decoder blocks.", json_schema_extra={"aliases": ["n_layers"]}
    )
    num_heads: int = Field(
        8,
        ge=1,
        le=2**15,
        description="Attention heads per block; must divide d_model into heads of an even width.",
        json_schema_extra={"aliases": ["n_heads"]},
    )
    d_ff: int = Field(1024, ge=1, le=2**18, description="Width of the SwiGLU feed-forward layer, in features.")
    max_seq_len: int = Field(
        256, ge=4, le=2**20, description="Longest sequence, in tokens: [BOS] prompt [SEP] answer [EOS]."
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Share of activations dropped while training, 0 to 1.")
    attention: Literal["autopoietic", "standard"] = Field(
        "autopoietic",
        description="autopoietic: each head sets its own temperature and output gate per token; "
        "standard: plain attention, the control experiment.",
    )
    tie_embeddings: bool = Field(True, description="Share the input embedding with the output head.")
    vocab_size: int | None = Field(
        None,
        ge=1,
        le=2**24,
        description="Number of tokens; None: as many as the data's tokenizer has, which is also the least.",
    )
    rope_theta: float = Field(10000.0, ge=1.0, le=1e12, description="Base of the rotary positions' wavelengths.")
    norm_eps: float = Field(1e-6, ge=1e-12, le=1.0, description="Added to the mean square in RMSNorm.")

    @property
    def head_dim(self) -> int:
        """Return the number of features per attention head."""
        return self.d_model // self.num_heads

    @model_validator(mode="after")
    def _heads_divide_the_model(self) -> ModelConfig:
        if self.d_model % self.num_heads:
            fits = [n for n in range(1, self.d_model + 1) if self.d_model % (2 * n) == 0]
            near = min(fits, key=lambda n: abs(n - self.num_heads), default=None)
            advice = f"the nearest head count that divides it is {near}" if near else "make d_model even"
            raise ValueError(
                f"d_model={self.d_model} cannot be divided among num_heads={self.num_heads} heads; {advice}"
            )
        if self.head_dim % 2:
            raise ValueError(
                f"d_model={self.d_model} over num_heads={self.num_heads} gives heads of odd width {self.head_dim}; "
                "rotary positions turn pairs of features, so use an even width"
            )
        return self
