"""diffusers' UNet2DModel as a model family: any size, with or without classes. No torch at import."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from training.errors import CheckpointError, ConfigError
from training.language.messages import Message
from training.models.card import FamilyCard, PublishedModel
from training.models.denoiser import DIFFUSION, LABELS, BaseDenoiserFamily, refuse_other_data
from training.models.protocol import Artefacts, LoadedModel
from training.models.unet.card import unet_card
from training.models.unet.options import UNetOptions
from training.settings.tree import ModelOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

UNET = "unet"
"""Directory of the network in that of a pipeline."""


class UNetFamily(BaseDenoiserFamily):
    """Model family of diffusers' unconditional and class-conditional UNet."""

    name: ClassVar[str] = "unet"
    Options: ClassVar[type[ModelOptions]] = UNetOptions

    def describe(self, options: ModelOptions, num_parameters: int) -> str:
        """See `ModelFamily.describe`."""
        options = cast(UNetOptions, options)
        return Message(
            "UNet {count:,} parameters (channels {channels})",
            count=num_parameters, channels=", ".join(map(str, options.block_channels)),
        )  # fmt: skip

    def completed_for(
        self, options: ModelOptions, shape: Sequence[int], num_classes: int | None, diffusion: Mapping[str, Any]
    ) -> ModelOptions:
        """See `DenoiserFamily.completed_for`: images whose sides the lowest resolution divides."""
        if len(shape) != 3:
            raise ConfigError(
                f"--model unet takes images, and this data has vectors of {shape[0]} values; add --model denoising_mlp"
            )
        refuse_other_data(options, shape, num_classes)
        channels = cast(UNetOptions, options).block_channels
        divisor = 2 ** (len(channels) - 1)
        for side in shape[1:]:
            if side % divisor:
                fitting = max(divisor, side - side % divisor)
                raise ConfigError(
                    f"--model unet: images of {shape[1]}×{shape[2]} pixels, and {len(channels)} resolutions "
                    f"(block_channels) need sides that are multiples of {divisor}; set --image-size {fitting}, or give "
                    "fewer --block-channels"
                )
        return options.model_copy(update={"sample_shape": tuple(shape), "num_classes": num_classes or 0})

    def network(self, options: ModelOptions) -> nn.Module:
        """See `BaseDenoiserFamily.network`."""
        needs_diffusers("--model unet")
        from diffusers import UNet2DModel

        options = cast(UNetOptions, options)
        if len(options.sample_shape) != 3:
            raise ConfigError("--model unet: the shape of the images is not known; train it on a task that has images")
        channels, height, width = options.sample_shape
        levels = range(1, len(options.block_channels) + 1)
        down = ["AttnDownBlock2D" if level in options.attention_levels else "DownBlock2D" for level in levels]
        up = ["AttnUpBlock2D" if level in options.attention_levels else "UpBlock2D" for level in reversed(levels)]
        classes = options.num_classes or 0
        network: nn.Module = UNet2DModel(
            sample_size=height if height == width else (height, width),
            in_channels=channels,
            out_channels=channels,
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            block_out_channels=options.block_channels,
            layers_per_block=options.layers_per_block,
            attention_head_dim=options.attention_head_dim,
            norm_num_groups=options.norm_groups,
            dropout=options.dropout,
            num_class_embeds=classes + 1 if classes else None,  # the last one: no class
        )
        return network

    def denoise(
        self, model: Callable[..., Any], sample: Tensor, time: Tensor, conditions: Mapping[str, Tensor]
    ) -> Tensor:
        """See `DenoiserFamily.denoise`."""
        output: Tensor = model(sample, time, conditions.get(LABELS), return_dict=False)[0]
        return output

    def recompute_activations(self, model: nn.Module) -> None:
        """See `ModelFamily.recompute_activations`."""
        cast(Any, model).enable_gradient_checkpointing()

    def save(
        self, directory: Path, model: nn.Module, options: ModelOptions, vocabulary: int | None, artefacts: Artefacts
    ) -> None:
        """See `ModelFamily.save`: a pipeline directory of diffusers, where the artefacts say how noise was added."""
        if DIFFUSION not in artefacts:
            super().save(directory, model, options, vocabulary, artefacts)
            return
        from training.models.unet.pipeline_directory import save_pipeline

        save_pipeline(directory, model, options.model_copy(update={"base_model": None}), artefacts)

    def load(self, directory: Path) -> LoadedModel:
        """See `ModelFamily.load`."""
        if not (directory / UNET).is_dir():
            return super().load(directory)
        from training.models.unet.pipeline_directory import load_pipeline

        options, artefacts, weights = load_pipeline(directory, self.Options)
        network = self.network(options)
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise CheckpointError(f"{directory}: damaged model directory ({reason})") from error
        return LoadedModel(network.eval(), options, None, artefacts)

    def card(self, published: PublishedModel) -> FamilyCard:
        """See `ModelFamily.card`."""
        return unet_card(published)


def needs_diffusers(flag: str) -> None:
    """Refuse to go on without diffusers.

    Raises:
        ConfigError: it is not installed.
    """
    from importlib.util import find_spec

    if find_spec("diffusers") is None:
        raise ConfigError(f"{flag} needs diffusers, which is not installed; pip install 'apt-trainer[diffusion]'")
