"""The U-Net of a pipeline: read with its weights, given adapters or frozen parts, and taken apart again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._guards import detect_fake_mode

from training.errors import CheckpointError, ConfigError, did_you_mean, printable
from training.models.diffusers_library import quiet_diffusers
from training.models.diffusion_pipeline.options import DiffusionPipelineOptions
from training.models.diffusion_pipeline.place import PipelineDirectory
from training.models.huggingface.lora import ALL_LINEAR, matches, needs_peft
from training.models.huggingface.network import freeze
from training.models.transformers_library import reason_of

ADAPTER = "default"
"""Name that PEFT gives the one adapter of a network."""


def build_unet(pipeline: PipelineDirectory, options: DiffusionPipelineOptions) -> nn.Module:
    """Build the U-Net of a pipeline in fp32 as it is trained: with its weights, adapters and frozen parts.

    Raises:
        UserError: its weights are damaged, or LoRA targets or freezing patterns match nothing.
    """
    # Sizes are measured on fake tensors, into which nothing can be read.
    unet = read_unet(pipeline) if detect_fake_mode() is None else _described(pipeline)
    if options.lora:
        add_adapters(unet, options)
    if options.freeze:
        freeze(unet, options.freeze)
    trained: nn.Module = unet
    return trained


def read_unet(pipeline: PipelineDirectory) -> Any:
    """Read the U-Net of a pipeline in fp32.

    Raises:
        CheckpointError: a file of it is damaged, or tensors are missing, of another shape or not finite.
    """
    from diffusers import UNet2DConditionModel

    return read_weights(UNet2DConditionModel, pipeline, "unet")


def read_weights(kind: Any, pipeline: PipelineDirectory, part: str) -> Any:
    """Read a network of diffusers in fp32, in eval mode, from its folder in a pipeline.

    Raises:
        CheckpointError: a file of it is damaged, or tensors are missing, of another shape or not finite.
    """
    folder = pipeline.path / part
    try:
        with quiet_diffusers():
            network, found = kind.from_pretrained(
                folder, torch_dtype=torch.float32, use_safetensors=True, variant=pipeline.variant(part),
                low_cpu_mem_usage=False, output_loading_info=True, local_files_only=True,
            )  # fmt: skip
    except Exception as error:  # of the library: it raises anything on damaged files
        raise CheckpointError(f"{folder}: it cannot be read ({reason_of(error)}); copy the pipeline again") from error
    if missing := sorted(found["missing_keys"]):
        raise CheckpointError(
            f"{folder}: {len(missing)} tensors of this network are not in its files, the first is "
            f"{printable(missing[0])!r}; copy the pipeline again"
        )
    refuse_not_finite(network, str(folder))
    return network.eval()


def refuse_not_finite(network: nn.Module, where: str) -> None:
    """Refuse weights with NaN or infinity.

    Raises:
        CheckpointError: names the first such tensor.
    """
    for name, parameter in network.named_parameters():
        if not torch.isfinite(parameter).all():
            raise CheckpointError(f"{where}: its weights hold NaN or infinity ({name}); copy the pipeline again")


def _described(pipeline: PipelineDirectory) -> Any:
    from diffusers import UNet2DConditionModel

    with quiet_diffusers():
        return unet_of(UNet2DConditionModel.load_config(pipeline.path / "unet"))


def unet_of(config: Mapping[str, Any]) -> Any:
    """Build the U-Net of a config.json in fp32; its weights are random.

    Raises:
        CheckpointError: the config is damaged.
    """
    from diffusers import UNet2DConditionModel

    try:
        with quiet_diffusers():
            return UNet2DConditionModel.from_config(dict(config))
    except Exception as error:  # of the library
        raise CheckpointError(f"the config of the U-Net is damaged ({reason_of(error)})") from error


# -- adapters --------------------------------------------------------------------------------------------------------


def add_adapters(unet: Any, options: DiffusionPipelineOptions) -> None:
    """Give a U-Net LoRA adapters; all else is frozen.

    Raises:
        ConfigError: no layer has such a name (lists those that there are).
    """
    needs_peft("--lora")
    from peft import LoraConfig

    adaptable = {name for name, module in unet.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    targets = list(options.lora_targets)
    if options.lora_targets == ALL_LINEAR:
        targets = sorted(name for name in adaptable if isinstance(unet.get_submodule(name), nn.Linear))
    _refuse_strangers(targets, adaptable)
    unet.requires_grad_(False)
    config = LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha or 2 * options.lora_rank,
        lora_dropout=options.lora_dropout,
        target_modules=targets,
        use_rslora=options.lora_rslora,
        bias="none",
    )
    try:
        with quiet_diffusers():
            unet.add_adapter(config)
    except (ValueError, TypeError, NotImplementedError, ImportError) as error:
        raise ConfigError(
            f"--lora: PEFT refuses ({reason_of(error)}); --lora-targets chooses of {' '.join(_ends(adaptable))}"
        ) from error


def has_adapters(model: nn.Module) -> bool:
    """Return True if a U-Net is trained by LoRA."""
    return hasattr(model, "peft_config")


def _refuse_strangers(targets: list[str], layers: set[str]) -> None:
    for target in targets:
        if not any(matches(layer, (target,)) for layer in layers):
            ends = _ends(layers)
            raise ConfigError(
                f"--lora-targets {printable(target)}: no layer has such a name{did_you_mean(target, ends)}; there are "
                f"{', '.join(ends)}"
            )


def _ends(layers: set[str]) -> list[str]:
    """Return the ends of names that choose layers: the last word, with the numbers behind it (`to_out.0`)."""
    found = set()
    for layer in layers:
        words = layer.split(".")
        first = max((n for n, word in enumerate(words) if not word.isdigit()), default=0)
        found.add(".".join(words[first:]))
    return sorted(found)


def adapter_weights(unet: nn.Module) -> dict[str, Tensor]:
    """Return the adapters' matrices on the CPU by the names that diffusers reads, their scale multiplied into B.

    So they are right for any program that reads them, whether or not it knows of a scale: with a rank and an alpha that
    are equal it is 1.
    """
    weights: dict[str, Tensor] = {}
    for name, layer in _adapted(unet).items():
        weights[f"{name}.lora_A.weight"] = _copied(layer.lora_A[ADAPTER].weight)
        weights[f"{name}.lora_B.weight"] = _copied(layer.lora_B[ADAPTER].weight) * layer.scaling[ADAPTER]
    return weights


def plain_weights(unet: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a U-Net on the CPU in fp32, its adapters added to them; they are copies.

    An engine may hold all parameters in one block of memory (DeepSpeed does), which cannot be saved.
    """
    adapted = _adapted(unet)
    weights: dict[str, Tensor] = {}
    for name, tensor in unet.state_dict().items():
        layer, _, own = name.rpartition(".base_layer.")
        if layer in adapted:
            change = adapted[layer].get_delta_weight(ADAPTER).detach().cpu().float() if own == "weight" else 0.0
            weights[f"{layer}.{own}"] = _copied(tensor) + change
        elif name.partition(".lora_")[0] not in adapted:
            weights[name] = _copied(tensor)
    return weights


def _adapted(unet: nn.Module) -> dict[str, Any]:
    return {name: module for name, module in unet.named_modules() if hasattr(module, "lora_A") and name}


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().float().contiguous().clone()
