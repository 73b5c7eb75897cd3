"""A pipeline of diffusers that draws images from noise alone and was not trained here: sampled from, or gone on with.

Its network is built from its own config.json, which has more settings than `UNetOptions`; those show what they can. No
torch at import.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.errors import CheckpointError, ConfigError, printable
from training.models.diffusers_library import quiet_diffusers
from training.models.diffusion_pipeline.place import (
    SCHEDULERS,
    Part,
    SchedulerConfig,
    check_part,
    declared_in,
    diffusion_of,
    mapping_in,
    pipeline_kind,
    settings_of_scheduler,
    variant_of,
)
from training.models.named_model import INDEX_NAME
from training.models.named_model import PIPELINES as FAMILIES
from training.models.protocol import DESCRIPTION_NAME
from training.models.transformers_library import reason_of
from training.models.unet.options import UNetOptions

if TYPE_CHECKING:
    from torch import nn

PIPELINES = tuple(name for name, family in FAMILIES.items() if family == "unet")
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

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample, (C, H, W)."""
        sides = [self.sample_size] * 2 if isinstance(self.sample_size, int) else list(self.sample_size or ())
        return self.in_channels, *sides


def is_foreign(directory: Path) -> bool:
    """Return True if a directory holds a pipeline that this project did not write."""
    return (directory / INDEX_NAME).is_file() and not (directory / DESCRIPTION_NAME).is_file()


def _described(directory: Path) -> UNetConfig:
    """Return what the files of a pipeline say of its network, and check that all parts are there.

    Raises:
        ConfigError: it is a pipeline of another kind, or has a part or a network that is not supported.
        CheckpointError: a part is missing or damaged.
    """
    document = mapping_in(directory / INDEX_NAME)
    if (kind := pipeline_kind(document)) not in PIPELINES:
        raise ConfigError(
            f"{directory}: a pipeline of the kind {printable(repr(kind))}, and not {' or '.join(PIPELINES)}"
        )
    for name, part in PARTS.items():
        check_part(directory, name, part, document)
    if others := sorted(name for name, entry in document.items() if isinstance(entry, list) and name not in PARTS):
        raise ConfigError(
            f"{directory / INDEX_NAME}: the pipeline has a {printable(others[0])} too (a pipeline of latents?); "
            f"supported are pipelines of a {' and a '.join(PARTS)} alone"
        )
    file = directory / UNET / "config.json"
    if (of := mapping_in(file).get("_class_name", "UNet2DModel")) != "UNet2DModel":
        raise ConfigError(
            f"{file}: this is a {printable(str(of))}, and {INDEX_NAME} names a UNet2DModel; give a whole copy"
        )
    found = declared_in(file, UNetConfig)
    if found.in_channels != found.out_channels:
        raise ConfigError(
            f"{file}: the network reads {found.in_channels} channels and writes {found.out_channels}: one that "
            "predicts a variance too is not supported"
        )
    if found.class_embed_type is not None:
        raise ConfigError(f"{file}: the network reads classes as {found.class_embed_type!r}, which is not supported")
    if not found.sample_size:
        raise ConfigError(f"{file}: it does not say the size of the images (sample_size); write it in")
    return found


def refuse_foreign_classes(directory: Path) -> None:
    """Refuse to go on with a network that reads classes: nobody says which, and none means "no class".

    Raises:
        UserError: it does, or the pipeline cannot be used.
    """
    if is_foreign(directory) and _described(directory).num_class_embeds is not None:
        file = directory / UNET / "config.json"
        raise ConfigError(f"{file}: the network reads classes, whose names and meaning the pipeline does not say")


def foreign_options(directory: Path) -> UNetOptions:
    """Return the settings that describe the network of a pipeline.

    Raises:
        ConfigError: it is a pipeline of another kind, or has a part or a network that is not supported.
        CheckpointError: a part is missing or damaged.
    """
    found = _described(directory)
    attention = (n for n, block in enumerate(found.down_block_types, start=1) if "Attn" in block)
    try:
        return UNetOptions(
            model="unet",
            sample_shape=found.shape,
            num_classes=0,
            block_channels=tuple(found.block_out_channels),
            layers_per_block=found.layers_per_block,
            attention_levels=tuple(attention),
            attention_head_dim=found.attention_head_dim or max(found.block_out_channels),
            norm_groups=found.norm_num_groups,
            dropout=found.dropout,
        )
    except ValueError as error:
        file = directory / UNET / "config.json"
        raise CheckpointError(f"{file}: damaged, no network has such a shape ({reason_of(error)})") from error


def foreign_data_settings(directory: Path) -> Mapping[str, Any]:
    """Return the noise schedule and the prediction of a pipeline's scheduler as settings of the data.

    Raises:
        UserError: it is damaged, or was trained by others than there are here.
    """
    refuse_foreign_classes(directory)
    return settings_of_scheduler(*_scheduler(directory))


def _scheduler(directory: Path) -> tuple[SchedulerConfig, Path]:
    file = directory / SCHEDULER / "scheduler_config.json"
    return declared_in(file, SchedulerConfig), file


def read_foreign(directory: Path) -> tuple[nn.Module, UNetOptions, dict[str, Any]]:
    """Read the network of a pipeline in fp32, in eval mode, what describes it, and how noise was added.

    Returns:
        Network, options, and the artefact `training.models.denoiser.DIFFUSION`.

    Raises:
        CheckpointError: the pipeline cannot be used.
    """
    import torch
    from diffusers import UNet2DModel

    try:
        described, options = _described(directory), foreign_options(directory)
        classes = described.num_class_embeds
        names = None if classes is None else [str(number) for number in range(classes)]
        diffusion = diffusion_of(*_scheduler(directory), described.shape, class_names=names)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
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
    return network.eval(), options, diffusion
