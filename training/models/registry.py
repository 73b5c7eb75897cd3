"""Registry of model families by name. It holds strings: a family's module is imported when it is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from training.settings.registry import Entry, Registry

if TYPE_CHECKING:
    from training.models.protocol import ModelFamily

MODELS: Registry[ModelFamily] = Registry(
    kind="model family",
    flag="--model",
    group="apt_trainer.models",
    built_in={
        "apt": Entry("training.models.apt.family:APTFamily", "APT, a causal decoder with autopoietic attention"),
        "huggingface": Entry(
            "training.models.huggingface.family:HuggingFaceFamily",
            "any causal language model of transformers, whole or with LoRA; chosen by --model DIR_OR_NAME",
        ),
        "unet": Entry(
            "training.models.unet.family:UNetFamily", "UNet of diffusers for images, with or without classes"
        ),
        "denoising_mlp": Entry(
            "training.models.denoising_mlp.family:DenoisingMLPFamily", "residual MLP for vectors, such as points"
        ),
        "diffusion_pipeline": Entry(
            "training.models.diffusion_pipeline.family:DiffusionPipelineFamily",
            "a Stable Diffusion pipeline of diffusers, its U-Net whole or with LoRA; chosen by --model DIR",
        ),
    },
    required=("name", "Options", "inputs", "build", "save", "load"),
    accepts_classes=True,
)


def describe_models() -> Iterator[str]:
    """Yield one line per model family: its name and its description."""
    width = max(12, *map(len, MODELS.names()))
    for name in MODELS.names():
        yield f"{name:<{width}} {MODELS.entry(name).summary}"
