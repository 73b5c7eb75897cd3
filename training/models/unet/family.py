"""diffusers' UNet2DModel as a model family: any size, with or without classes. No torch at import."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from training.errors import CheckpointError, ConfigError
from training.language.messages import Message
from training.models.card import FamilyCard, PublishedModel
from training.models.denoiser import DIFFUSION, LABELS, BaseDenoiserFamily, refuse_other_data
from training.models.diffusers_library import needs_diffusers
from training.models.protocol import Artefacts, LoadedModel
from training.models.unet.card import unet_card
from training.models.unet.options import UNetOptions
from training.settings.tree import ModelOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

UNET, NETWORK = "unet", "network"
"""Directory of the network in that of a pipeline, and the artefact with the content of its config.json."""


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

    def build(self, options: ModelOptions, vocabulary: int | None) -> nn.Module:
        """See `ModelFamily.build`: a pipeline's network has settings that the options do not show."""
        options = cast(UNetOptions, options)
        if options.base_model is None or not (Path(options.base_model) / UNET / "config.json").is_file():
            return super().build(options, vocabulary)
        from torch._guards import detect_fake_mode

        from training.models.unet.foreign_pipeline import refuse_foreign_classes

        if detect_fake_mode() is not None:  # sizes are measured on fake tensors, into which nothing can be read
            return network_of({**read_config(Path(options.base_model)), "dropout": options.dropout})
        refuse_foreign_classes(Path(options.base_model))
        base = self.load(Path(options.base_model)).module
        network = network_of({**config_of(base), "dropout": options.dropout})
        network.load_state_dict(base.state_dict())
        return network

    def rebuild(self, options: ModelOptions, vocabulary: int | None, artefacts: Artefacts) -> nn.Module:
        """See `ModelFamily.rebuild`: from the network's own config."""
        return (
            network_of(artefacts[NETWORK]) if NETWORK in artefacts else super().rebuild(options, vocabulary, artefacts)
        )

    def artefacts_of(self, model: nn.Module) -> Artefacts:
        """See `ModelFamily.artefacts_of`: config.json."""
        return {NETWORK: config_of(model)}

    def shape_of(self, base: str) -> Mapping[str, Any]:
        """See `ModelFamily.shape_of`: also of a pipeline that others have trained."""
        from training.models.unet.foreign_pipeline import foreign_options, is_foreign, refuse_foreign_classes

        if not is_foreign(Path(base)):
            return super().shape_of(base)
        refuse_foreign_classes(Path(base))
        options = foreign_options(Path(base))
        fixed = UNetOptions.model_fields.keys() - {"model", "base_model"} - UNetOptions.fits_any_weights
        return {name: getattr(options, name) for name in sorted(fixed)}

    def data_settings_of(self, base: str) -> Mapping[str, Any]:
        """See `ModelFamily.data_settings_of`: noise schedule and prediction of a pipeline that others have trained."""
        from training.models.unet.foreign_pipeline import foreign_data_settings, is_foreign

        return foreign_data_settings(Path(base)) if is_foreign(Path(base)) else {}

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

        others = {name: content for name, content in artefacts.items() if name != NETWORK}
        save_pipeline(directory, model, options.model_copy(update={"base_model": None}), others)

    def load(self, directory: Path) -> LoadedModel:
        """See `ModelFamily.load`."""
        from training.models.unet.foreign_pipeline import is_foreign, read_foreign

        if is_foreign(directory):
            needs_diffusers(str(directory))
            found, described, diffusion = read_foreign(directory)
            return LoadedModel(found, described, None, {**self.artefacts_of(found), DIFFUSION: diffusion})
        if not (directory / UNET).is_dir():
            return super().load(directory)
        from training.models.unet.pipeline_directory import load_pipeline

        options, artefacts, weights = load_pipeline(directory, self.Options)
        network = network_of(read_config(directory))
        artefacts = {**artefacts, NETWORK: config_of(network)}
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise CheckpointError(f"{directory}: damaged model directory ({reason})") from error
        return LoadedModel(network.eval(), options, None, artefacts)

    def card(self, published: PublishedModel) -> FamilyCard:
        """See `ModelFamily.card`."""
        return unet_card(published)


def config_of(model: nn.Module) -> dict[str, Any]:
    """Return the content of a network's config.json, without the directory that it came from."""
    config: dict[str, Any] = json.loads(cast(Any, model).to_json_string())
    return {name: value for name, value in config.items() if name != "_name_or_path"}


def read_config(directory: Path) -> Mapping[str, Any]:
    """Return the content of the config.json of a pipeline's network.

    Raises:
        CheckpointError: it is damaged, or cannot be read.
    """
    from training.models.diffusion_pipeline.place import mapping_in

    return mapping_in(directory / UNET / "config.json")


def network_of(config: Mapping[str, Any]) -> nn.Module:
    """Build the network of a config.json in fp32; its weights are random.

    Raises:
        CheckpointError: the config is damaged.
    """
    from diffusers import UNet2DModel

    from training.models.diffusers_library import quiet_diffusers

    try:
        with quiet_diffusers():
            network: nn.Module = UNet2DModel.from_config(dict(config))
    except Exception as error:  # of the library: it raises anything on a damaged config
        raise CheckpointError(f"the config of the U-Net is damaged ({str(error).splitlines()[0]})") from error
    return network
