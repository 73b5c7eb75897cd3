"""Latents and embeddings are those that diffusers' own pipeline computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.tiny_pipeline import TOKENS, tiny_pipeline
from training.models.diffusion_pipeline.latent_space import PipelineLatentSpace
from training.models.diffusion_pipeline.place import read_pipeline

pytestmark = pytest.mark.slow

CAPTIONS = ["a red box", "", "a box in a very long caption that goes on behind all tokens"]


@pytest.fixture(scope="module")
def space() -> PipelineLatentSpace:
    return PipelineLatentSpace(read_pipeline(tiny_pipeline()))


@pytest.fixture(scope="module")
def theirs() -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(tiny_pipeline(), local_files_only=True)


def test_captions_become_the_embeddings_of_diffusers(space: PipelineLatentSpace, theirs: Any) -> None:
    expected, _ = theirs.encode_prompt(CAPTIONS, torch.device("cpu"), 1, False)
    assert torch.equal(space.embed(CAPTIONS), expected)
    assert (space.text_length, space.text_width) == (TOKENS, 16)
    assert space.num_cut(CAPTIONS) == 1


def test_images_become_the_latents_of_diffusers_and_back(space: PipelineLatentSpace, theirs: Any) -> None:
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, deviation = space.encode(images)
    factor = theirs.vae.config.scaling_factor
    spread = theirs.vae.encode(images).latent_dist
    assert torch.allclose(mean, spread.mean * factor, atol=1e-6)
    assert torch.allclose(deviation, spread.std * factor, atol=1e-6)
    assert torch.allclose(space.decode(mean), theirs.vae.decode(mean / factor).sample, atol=1e-6)
