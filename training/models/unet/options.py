"""Settings of the model family unet. No torch."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from training.models.denoiser import DenoiserOptions

MOST_LEVELS = 8
"""Largest number of resolutions: the last of eight is a 128th of the first."""


class UNetOptions(DenoiserOptions):
    """UNet of diffusers (UNet2DModel) for images: convolutions at several resolutions, attention at the lowest."""

    in_training_loss: ClassVar[frozenset[str]] = frozenset({"dropout"})
    draws_at_random: ClassVar[frozenset[str]] = frozenset({"dropout"})
    fits_any_weights: ClassVar[frozenset[str]] = frozenset({"dropout"})

    block_channels: tuple[int, ...] = Field(
        (32, 64),
        description="Channels at each resolution, the image's own first; each further one has half of its height and "
        "width.",
        json_schema_extra={"aliases": ["block_out_channels"], "metavar": "N"},
    )
    layers_per_block: int = Field(2, ge=1, le=64, description="Residual layers at each resolution.")
    attention_levels: tuple[int, ...] = Field(
        (),
        description="Resolutions whose layers have self-attention, counted from 1, the image's own. The middle of the "
        "network always has it.",
        json_schema_extra={"metavar": "N"},
    )
    attention_head_dim: int = Field(8, ge=1, le=2**12, description="Channels of an attention head.")
    norm_groups: int = Field(
        8,
        ge=1,
        le=2**12,
        description="Groups of each group norm; block_channels are multiples of it.",
        json_schema_extra={"aliases": ["norm_num_groups"]},
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Share of features dropped while training, 0 to 1.")

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        """Refuse a shape that no network has."""
        channels, levels = self.block_channels, len(self.block_channels)
        if not 1 <= levels <= MOST_LEVELS:
            raise ValueError(f"block_channels has {levels} numbers; give one to {MOST_LEVELS}, such as 32 64")
        for number in channels:
            if not 1 <= number <= 2**16 or number % self.norm_groups:
                raise ValueError(
                    f"block_channels has {number}, which is not a positive multiple of norm_groups={self.norm_groups}; "
                    "choose others"
                )
        for level in self.attention_levels:
            if not 1 <= level <= levels:
                raise ValueError(
                    f"attention_levels has {level}, and block_channels has {levels} resolutions; count them from 1"
                )
        return self
