"""The model card's part of a fine-tuned pipeline: its base, whose license that has, and code that draws. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from training.models.card import FamilyCard, PublishedModel
from training.models.diffusion_pipeline.options import DiffusionPipelineOptions
from training.models.huggingface.card import license_of

LORA = ("lora_rank", "lora_alpha", "lora_targets", "lora_rslora")


def pipeline_card(published: PublishedModel) -> FamilyCard:
    """Return the card of a pipeline whose U-Net was trained."""
    options = cast(DiffusionPipelineOptions, published.options)
    settings = published.settings or options.model_dump()
    base = settings.get("base_model")
    named = f"the pipeline in a directory `{Path(base).name}`" if isinstance(base, str) else "a pipeline"
    has_lora = bool(settings.get("lora"))
    how = "LoRA adapters for" if has_lora else "A fine-tune of"
    found = license_of(base) if isinstance(base, str) else {}
    license_name = found.get("license")
    known = f"({license_name}) " if license_name else ""
    return FamilyCard(
        subject=f"{how} {named} (a U-Net of {published.num_parameters:,} parameters)",
        library="diffusers",
        pipeline="text-to-image",
        tags=("stable-diffusion", *(("lora",) if has_lora else ())),
        usage=list(_code(published, has_lora)),
        metadata=found,
        shape=list(_shape(published, settings, has_lora)),
        limits=[
            f"The license of its base {known}applies to it too{'' if known else '; the base does not record which'}."
        ],
    )


def _shape(published: PublishedModel, settings: Any, has_lora: bool) -> Iterator[tuple[str, object]]:
    network = published.artefacts.get("network", {})
    for name in ("sample_size", "in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim"):
        value = network.get(name)
        if value is not None:
            yield name, " ".join(map(str, value)) if isinstance(value, list | tuple) else value
    for name in LORA if has_lora else ():
        value = settings.get(name)
        if value not in (None, False):
            yield name, " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _code(published: PublishedModel, has_lora: bool) -> Iterator[str]:
    yield "```python"
    yield "from diffusers import StableDiffusionPipeline"
    yield ""
    yield f"pipeline = StableDiffusionPipeline.from_pretrained({published.place!r})"
    yield 'pipeline("a caption like those of the training data").images[0].save("picture.png")'
    yield "```"
    if has_lora:
        yield ""
        yield (
            "The adapters are added to the U-Net here. `pytorch_lora_weights.safetensors` has them alone, for the base "
            "as it was: `base.load_lora_weights(place)`."
        )
