"""Settings of the model family diffusion_pipeline. No torch."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from training.settings.tree import ModelOptions

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""Ends of the names of the layers that diffusers' own LoRA script adapts: the attention's projections."""


class DiffusionPipelineOptions(ModelOptions):
    """The U-Net of a Stable Diffusion pipeline, whole or with LoRA; its text encoder and VAE stay as they are."""

    in_training_loss: ClassVar[frozenset[str]] = frozenset({"lora_dropout"})
    draws_at_random: ClassVar[frozenset[str]] = frozenset({"lora_dropout"})

    base_model: str | None = Field(
        None,
        min_length=1,
        description="Directory of the pipeline to start from, with a model_index.json; --model DIR sets it. None: none "
        "is named, which is refused.",
        json_schema_extra={"metavar": "DIR", "goes_along": True},
    )
    base_digest: str | None = Field(
        None,
        pattern="^[0-9a-f]{32}$",
        description="Hash of the pipeline's files, which a run notes, so that it is resumed with the same ones. None: "
        "whatever lies in base_model.",
    )
    lora: bool = Field(
        False, description="Train low-rank adapters (LoRA, arXiv 2106.09685, by PEFT); the U-Net's weights stay."
    )
    lora_rank: int = Field(16, ge=1, le=2**14, description="LoRA: rank of each adapter.")
    lora_alpha: float | None = Field(
        None, gt=0.0, le=2.0**20, description="LoRA: scale of the adapters, over the rank. None: twice the rank."
    )
    lora_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="LoRA: share of the adapters' inputs dropped, 0 to 1.")
    lora_targets: tuple[str, ...] = Field(
        ATTENTION,
        min_length=1,
        description="LoRA: ends of the names of the layers that get an adapter (to_q to_v conv1); all-linear: every "
        "linear layer.",
    )
    lora_rslora: bool = Field(False, description="LoRA: scale by the root of the rank (arXiv 2312.03732).")
    freeze: tuple[str, ...] = Field(
        (),
        description="Patterns of the U-Net's parameters that are not trained, with * for any part of a name "
        "(down_blocks.*).",
        json_schema_extra={"metavar": "PATTERN"},
    )

    @property
    def has_lora(self) -> bool:
        """True where only adapters are trained."""
        return self.lora

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        """Refuse settings of LoRA without LoRA, and frozen parts with it."""
        if self.lora and self.freeze:
            raise ValueError("freeze has no effect with lora, which trains the adapters only: leave one of them out")
        if not self.lora:
            for name in ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets", "lora_rslora"):
                if getattr(self, name) != type(self).model_fields[name].get_default():
                    raise ValueError(f"{name} needs lora: add --lora, or leave it out")
        return self
