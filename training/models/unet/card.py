"""The UNet's part of a model card: code that opens it with diffusers. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from training.models.card import FamilyCard, PublishedModel, loading_code
from training.models.denoiser import DIFFUSION
from training.models.unet.options import UNetOptions


def unet_card(published: PublishedModel) -> FamilyCard:
    """Return the card of a UNet: as a pipeline of diffusers, where it is saved so."""
    options = cast(UNetOptions, published.options)
    diffusion = published.artefacts.get(DIFFUSION)
    card = FamilyCard(
        subject=f"A diffusion model (UNet2DModel of diffusers) of {published.num_parameters:,} parameters",
        library="diffusers" if diffusion else "apt-trainer",
        pipeline="unconditional-image-generation" if diffusion and not options.num_classes else None,
        tags=("unet",),
        usage=loading_code(published) if diffusion is None else list(_code(published, diffusion["prediction"]["kind"])),
    )
    return card


def _code(published: PublishedModel, prediction: str) -> Iterator[str]:
    classes = cast(UNetOptions, published.options).num_classes
    is_own = bool(classes) or prediction == "edm"
    trust = ", trust_remote_code=True" if is_own else ""
    asked = ", class_labels=[0, 0, 0, 0], guidance_scale=2.0" if classes else ""
    yield from (
        "```python",
        "from diffusers import DiffusionPipeline",
        "",
        f"pipeline = DiffusionPipeline.from_pretrained({published.place!r}{trust})",
        f"images = pipeline(batch_size=4, num_inference_steps=50{asked}).images",
        'images[0].save("sample.png")',
        "```",
    )
    if is_own:
        why = "knows classes" if classes else "has EDM's preconditioning"
        yield ""
        yield (
            f"No pipeline class of diffusers samples from this network, which {why}: `trust_remote_code=True` runs the "
            "file `noise_to_images.py` of this directory, 70 lines that need diffusers and torch only. Read it first."
        )
