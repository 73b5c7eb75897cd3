"""A tiny pipeline of diffusers with random weights, and pictures with captions; made here, without a network."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 16
"""Side of the pictures in pixels; the latents have half of it."""
TOKENS = 16
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220)}


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="apt-trainer-test-pipeline-"))


@cache
def captioned_pictures(count: int = 12) -> Path:
    """Return a directory of pictures, each with its caption in metadata.jsonl."""
    from PIL import Image

    directory = _folder() / f"pictures_{count}"
    directory.mkdir()
    rows = []
    for number in range(count):
        name, colour = list(COLOURS.items())[number % len(COLOURS)]
        pixels = np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)
        left = 2 + number % 6
        pixels[3:11, left : left + 8] = colour
        Image.fromarray(pixels).save(directory / f"{number:02}.png")
        rows.append({"file_name": f"{number:02}.png", "text": f"a {name} box"})
    (directory / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return directory


@cache
def tiny_pipeline() -> Path:
    """Return the directory of a Stable Diffusion pipeline whose parts have a few thousand random weights each."""
    import torch
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from training.machine.environment import variables_set
    from training.models.diffusers_library import quiet_diffusers
    from training.models.transformers_library import quiet_transformers

    directory = _folder() / "pipeline"
    torch.manual_seed(0)
    with quiet_transformers(), quiet_diffusers(), variables_set(DS_ACCELERATOR="cpu"):
        tokenizer = _tokenizer()
        pipeline = StableDiffusionPipeline(
            vae=AutoencoderKL(
                block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4, sample_size=SIDE,
            ),
            text_encoder=CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                    num_attention_heads=2, max_position_embeddings=TOKENS, projection_dim=16,
                    bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                    pad_token_id=tokenizer.pad_token_id,
                )
            ),
            tokenizer=tokenizer,
            unet=UNet2DConditionModel(
                sample_size=SIDE // 2, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=16, attention_head_dim=2,
            ),
            scheduler=PNDMScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1,
            ),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
        pipeline.save_pretrained(directory)
    return directory


@cache
def tiny_unconditional() -> Path:
    """Return the directory of a pipeline that draws gray pictures of 8 × 8 from noise alone."""
    import torch
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    from training.models.diffusers_library import quiet_diffusers

    directory = _folder() / "unconditional"
    torch.manual_seed(0)
    with quiet_diffusers():
        network = UNet2DModel(
            sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 16), layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=4, attention_head_dim=4,
        )  # fmt: skip
        DDPMPipeline(network, DDPMScheduler(beta_schedule="squaredcos_cap_v2")).save_pretrained(directory)
    return directory


def _tokenizer() -> Any:
    """Return CLIP's tokenizer with a vocabulary of single bytes."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[], model_max_length=TOKENS)
