"""Settings of the model family denoising_mlp. No torch."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from training.models.denoiser import DenoiserOptions


class DenoisingMLPOptions(DenoiserOptions):
    """Residual network of linear layers for vectors, such as points in the plane."""

    in_training_loss: ClassVar[frozenset[str]] = frozenset({"dropout"})
    draws_at_random: ClassVar[frozenset[str]] = frozenset({"dropout"})
    fits_any_weights: ClassVar[frozenset[str]] = frozenset({"dropout"})

    width: int = Field(128, ge=4, le=2**16, multiple_of=2, description="Features of each layer, an even number.")
    num_blocks: int = Field(4, ge=1, le=1024, description="Residual blocks, each of two linear layers.")
    input_frequencies: int = Field(
        4,
        ge=0,
        le=32,
        description="Sines and cosines of each input value that the network reads next to it, in octaves from 1: fine "
        "detail in few dimensions (arXiv 2006.10739); 0: the values alone.",
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Share of features dropped while training, 0 to 1.")
