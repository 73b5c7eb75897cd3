"""The frozen parts of a pipeline: images become latents and back, captions become embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from training.errors import CheckpointError
from training.models.diffusion_pipeline.network import read_weights, refuse_not_finite
from training.models.diffusion_pipeline.place import ENCODERS, PipelineDirectory, digest_of
from training.models.transformers_library import quiet_transformers, reason_of

AT_ONCE = 4
"""Images or captions that are encoded in one pass; the same everywhere, so that a cache made again is the same."""


class PipelineLatentSpace:
    """Latent space of a pipeline: its VAE, its text encoder and its tokenizer, each read when it is first used.

    Args:
        pipeline: directory with them.
        device: where they compute.
    """

    def __init__(self, pipeline: PipelineDirectory, device: torch.device | None = None) -> None:
        self._pipeline, self._device = pipeline, device or torch.device("cpu")

    @property
    def image_size(self) -> int | None:
        """Side in pixels of the images that the network was made for; None: it does not say."""
        return self._pipeline.image_size

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        return self._pipeline.vae.in_channels

    @property
    def text_width(self) -> int:
        """Numbers of the embedding of a token."""
        return self._pipeline.text_encoder.hidden_size

    @property
    def text_length(self) -> int:
        """Tokens of a caption: a longer one is cut, a shorter one filled up."""
        return min(int(self._tokenizer.model_max_length), self._pipeline.text_encoder.max_position_embeddings)

    @cached_property
    def digest(self) -> str:
        """Hash of all that latents and embeddings depend on."""
        return digest_of(self._pipeline, ENCODERS)

    def shape(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the shape of the latents of images.

        Args:
            image_shape: (channels, height, width).

        Raises:
            ConfigError: the VAE takes other images; says which.
        """
        return self._pipeline.latent_shape(image_shape)

    def encode(self, images_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the latents of images, as the network reads them.

        Args:
            images_NCHW: float32 in [-1, 1].

        Returns:
            Two tensors (N, c, h, w), float32, on the CPU: a latent is mean + deviation · noise (arXiv 2112.10752 §3.1).
        """
        with torch.inference_mode():
            spread = self._vae.encode(images_NCHW.to(self._device)).latent_dist
            scale = self._pipeline.vae.scaling_factor
            return (spread.mean * scale).float().cpu(), (spread.std * abs(scale)).float().cpu()

    def decode(self, latents_NChw: Tensor) -> Tensor:
        """Return the images of latents, float32 on the CPU, (N, C, H, W), about in [-1, 1]."""
        with torch.inference_mode():
            scaled = latents_NChw.to(self._device, torch.float32) / self._pipeline.vae.scaling_factor
            parts = [self._vae.decode(one, return_dict=False)[0].float().cpu() for one in torch.split(scaled, AT_ONCE)]
        return torch.cat(parts)

    def embed(self, captions: Sequence[str]) -> Tensor:
        """Return the embeddings of captions, float32 on the CPU, (N, tokens, width), as diffusers computes them."""
        with torch.inference_mode():
            parts = [self._embedded(captions[n : n + AT_ONCE]) for n in range(0, len(captions), AT_ONCE)]
        return torch.cat(parts)

    def _embedded(self, captions: Sequence[str]) -> Tensor:
        read = self._tokens(captions)
        mask = read["attention_mask"] if getattr(self._text_encoder.config, "use_attention_mask", False) else None
        found: Tensor = self._text_encoder(
            read["input_ids"].to(self._device), attention_mask=None if mask is None else mask.to(self._device)
        )[0]
        return found.float().cpu()

    def num_cut(self, captions: Sequence[str]) -> int:
        """Return how many captions have more tokens than the text encoder reads."""
        ids = self._tokenizer(list(captions))["input_ids"] if captions else []
        return sum(len(tokens) > self.text_length for tokens in ids)

    def _tokens(self, captions: Sequence[str]) -> Any:
        return self._tokenizer(
            list(captions), padding="max_length", max_length=self.text_length, truncation=True, return_tensors="pt"
        )

    @cached_property
    def _vae(self) -> Any:
        from diffusers import AutoencoderKL

        return read_weights(AutoencoderKL, self._pipeline, "vae").requires_grad_(False).to(self._device)

    @cached_property
    def _text_encoder(self) -> Any:
        from transformers import CLIPTextModel

        folder = self._pipeline.path / "text_encoder"
        try:
            with quiet_transformers():
                model, found = CLIPTextModel.from_pretrained(
                    folder, dtype=torch.float32, use_safetensors=True, variant=self._pipeline.variant("text_encoder"),
                    output_loading_info=True, local_files_only=True,
                )  # fmt: skip
        except Exception as error:  # of the library: it raises anything on damaged files
            raise CheckpointError(
                f"{folder}: it cannot be read ({reason_of(error)}); copy the pipeline again"
            ) from error
        if missing := sorted([*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])]):
            raise CheckpointError(
                f"{folder}: {len(missing)} tensors of this network are not in its files, the first is {missing[0]!r}; "
                "copy the pipeline again"
            )
        refuse_not_finite(model, str(folder))
        return model.eval().requires_grad_(False).to(self._device)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import CLIPTokenizer

        folder = self._pipeline.path / "tokenizer"
        try:
            with quiet_transformers():
                tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
                if len(tokenizer("a")["input_ids"]) < 2:
                    raise ValueError("it gives a text no tokens")
        except Exception as error:  # of the library
            raise CheckpointError(
                f"{folder}: it cannot be read ({reason_of(error)}); copy the pipeline again"
            ) from error
        return tokenizer
