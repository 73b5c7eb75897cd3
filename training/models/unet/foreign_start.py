"""A pipeline of diffusers that draws images from noise alone and was not trained here, as a start. No torch at import.

Its network is built from its own config.json, which has more settings than `UNetOptions`; those show what they can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import CheckpointError, ConfigError, printable
from training.models.diffusers_library import quiet_diffusers
from training.models.diffusion_pipeline.place import (
    INDEX,
    SCHEDULERS,
    Part,
    SchedulerConfig,
    check_part,
    declared_in,
    mapping_in,
    pipeline_kind,
    settings_of_scheduler,
    variant_of,
)
from training.models.protocol import DESCRIPTION_NAME
from training.models.transformers_library import reason_of
from training.models.unet.options import UNetOptions

PIPELINES = ("DDPMPipeline", "DDIMPipeline")
UNET, SCHEDULER = "unet", "scheduler"
PARTS: Mapping[str, Part] = {
    UNET: Part(("UNet2DModel",), "config.json", "diffusion_pytorch_model"),
    SCHEDULER: Part(SCHEDULERS, "scheduler_config.json"),
}


@dataclass(frozen=True)
class UNetConfig:
    """Schema of unet/config.json, as far as it is shown as settings or decides what fits."""

    in_channels: int
    out_channels: int
    block_out_channels: Sequence[int]
    down_block_types: Sequence[str]
    sample_size: int | Sequence[int] | None = None
    layers_per_block: int = 2
    attention_head_dim: int | None = 8
    norm_num_groups: int = 32
    dropout: float = 0.0
    num_class_embeds: int | None = None
    class_embed_type: str | None = None


def is_foreign(directory: Path) -> bool:
    """Return True if a directory holds a pipeline that this project did not write."""
    return (directory / INDEX).is_file() and not (directory / DESCRIPTION_NAME).is_file()


def foreign_options(directory: Path) -> UNetOptions:
    """Return the settings that describe the network of a pipeline.

    Raises:
        ConfigError: it is a pipeline of another kind, or a network that cannot be trained on here.
        CheckpointError: a part is missing or damaged.
    """
    document = mapping_in(directory / INDEX)
    if (kind := pipeline_kind(document)) not in PIPELINES:
        raise ConfigError(
            f"{directory}: a pipeline of the kind {printable(repr(kind))}, and not {' or '.join(PIPELINES)}"
        )
    for name, part in PARTS.items():
        check_part(directory, name, part, document)
    file = directory / UNET / "config.json"
    found = declared_in(file, UNetConfig)
    if found.in_channels != found.out_channels:
        raise ConfigError(
            f"{file}: the network reads {found.in_channels} channels and writes {found.out_channels}: one that "
            "predicts a variance too cannot be trained here"
        )
    if found.num_class_embeds is not None or found.class_embed_type is not None:
        raise ConfigError(f"{file}: the network reads classes, whose names and meaning the pipeline does not say")
    sides = [found.sample_size] * 2 if isinstance(found.sample_size, int) else list(found.sample_size or ())
    attention = (n for n, block in enumerate(found.down_block_types, start=1) if "Attn" in block)
    try:
        return UNetOptions(
            model="unet",
            sample_shape=(found.in_channels, *sides) if sides else (),
            num_classes=0,
            block_channels=tuple(found.block_out_channels),
            layers_per_block=found.layers_per_block,
            attention_levels=tuple(attention),
            attention_head_dim=found.attention_head_dim or max(found.block_out_channels),
            norm_groups=found.norm_num_groups,
            dropout=found.dropout,
        )
    except ValueError as error:
        raise CheckpointError(f"{file}: damaged, no network has such a shape ({reason_of(error)})") from error


def foreign_data_settings(directory: Path) -> Mapping[str, Any]:
    """Return the noise schedule and the prediction of a pipeline's scheduler as settings of the data.

    Raises:
        UserError: it is damaged, or was trained by others than there are here.
    """
    foreign_options(directory)
    file = directory / SCHEDULER / "scheduler_config.json"
    return settings_of_scheduler(declared_in(file, SchedulerConfig), file)


def read_foreign(directory: Path) -> Any:
    """Read the network of a pipeline in fp32, in eval mode.

    Raises:
        UserError: the pipeline cannot be used.
    """
    import torch
    from diffusers import UNet2DModel

    foreign_options(directory)
    folder = directory / UNET
    try:
        with quiet_diffusers():
            network, found = UNet2DModel.from_pretrained(
                folder, torch_dtype=torch.float32, use_safetensors=True, low_cpu_mem_usage=False,
                variant=variant_of(folder, PARTS[UNET].weights), output_loading_info=True, local_files_only=True,
            )  # fmt: skip
    except Exception as error:  # of the library: it raises anything on damaged files
        raise CheckpointError(f"{folder}: it cannot be read ({reason_of(error)}); copy the pipeline again") from error
    if missing := sorted(found["missing_keys"]):
        raise CheckpointError(
            f"{folder}: {len(missing)} tensors of this network are not in its files, the first is {missing[0]!r}; copy "
            "the pipeline again"
        )
    for name, parameter in network.named_parameters():
        if not torch.isfinite(parameter).all():
            raise CheckpointError(f"{folder}: its weights hold NaN or infinity ({name}); copy the pipeline again")
    return network.eval()
