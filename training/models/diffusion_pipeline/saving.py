"""Trained pipelines as directories that diffusers opens alone, and the proof that they are what was trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from training.errors import UserError, printable
from training.language.messages import Message
from training.models.diffusers_library import quiet_diffusers
from training.models.diffusion_pipeline.network import adapter_weights, has_adapters, plain_weights, read_unet
from training.models.diffusion_pipeline.place import PipelineDirectory, files_of, read_pipeline
from training.models.named_model import INDEX_NAME
from training.models.protocol import SavedProof
from training.storage.json_files import read_json
from training.storage.tensor_files import let_the_umask_decide, save_tensors

WEIGHTS = "diffusion_pytorch_model.safetensors"
TOLERANCE = 1e-3
"""Largest difference that is no warning, as a share of the largest output: rounding in fp32 makes a hundredth of it."""
PROOF_SIDE = 16
"""Largest side of the latents by which the saved U-Net is compared."""


def config_of(unet: nn.Module) -> dict[str, Any]:
    """Return the content of a U-Net's config.json, without the directory that it came from."""
    config: dict[str, Any] = json.loads(cast(Any, unet).to_json_string())
    return {name: value for name, value in config.items() if name != "_name_or_path"}


def save_pipeline(directory: Path, unet: nn.Module, base: PipelineDirectory) -> None:
    """Write a pipeline: the trained U-Net with its adapters added, all other parts as they are in the base.

    With adapters it also writes `pytorch_lora_weights.safetensors`, for the base as it was.

    Args:
        directory: empty directory.
        unet: trained U-Net.
        base: pipeline that training began with.

    Raises:
        OSError: the disk is full or refuses.
        UserError: a file of the base is gone.
    """
    index = {name: value for name, value in read_json(base.path / INDEX_NAME).items() if name != "_name_or_path"}
    _write_json(directory / INDEX_NAME, index)
    for name, file in files_of(base, [part for part in base.parts if part != "unet"]):
        target = directory / name
        target.parent.mkdir(exist_ok=True)
        try:
            source = file.open("rb")
        except OSError as error:
            raise UserError(f"{file}: a part of the pipeline cannot be read any more ({error.strerror})") from error
        with source, target.open("xb") as copy:
            shutil.copyfileobj(source, copy, 16 * 2**20)
    folder = directory / "unet"
    folder.mkdir()
    _write_json(folder / "config.json", config_of(unet))
    save_tensors(plain_weights(unet), folder / WEIGHTS, {"format": "pt"})
    if has_adapters(unet):
        from diffusers import StableDiffusionPipeline

        with quiet_diffusers():
            StableDiffusionPipeline.save_lora_weights(directory, unet_lora_layers=adapter_weights(unet))
        let_the_umask_decide(directory)


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def compare_merged(directory: Path, unet: nn.Module) -> SavedProof:
    """Compare the U-Net in a directory, to which the adapters are added, with the one that was trained.

    Args:
        directory: as `save_pipeline` wrote it.
        unet: trained U-Net with its adapters, on the device of the run.

    Returns:
        Largest difference of an output at three noise levels; a warning if it matters.
    """
    pipeline = read_pipeline(directory)
    plain = read_unet(pipeline)
    random = torch.Generator().manual_seed(0)
    side = min(pipeline.unet.sample_size if isinstance(pipeline.unet.sample_size, int) else PROOF_SIDE, PROOF_SIDE)
    latents = torch.randn(3, pipeline.unet.in_channels, side, side, generator=random)
    texts = torch.randn(3, 4, pipeline.text_encoder.hidden_size, generator=random)
    levels = pipeline.scheduler.num_train_timesteps
    times = torch.tensor([0.0, levels // 2, levels - 1])
    was_training, device = unet.training, next(unet.parameters()).device
    unet.eval()
    try:
        with torch.no_grad():
            expected = cast(Any, unet)(latents.to(device), times.to(device), texts.to(device)).sample.float().cpu()
            found = plain(latents, times, texts).sample
    finally:
        unet.train(was_training)
    largest, scale = float((expected - found).abs().max()), float(expected.abs().max())
    figures = {"largest_output_difference": largest, "largest_output": scale, "tolerance": TOLERANCE}
    where = f"{directory.name}/unet/"
    line = Message(
        "merge   {where} against the adapters: outputs differ by {largest:.1e} at most (the largest is {scale:.1e})",
        where=where, largest=largest, scale=scale,
    )  # fmt: skip
    if largest <= TOLERANCE * scale:
        return SavedProof({"merge": figures}, (line,))
    warning = Message(
        "{where} is not the network that was trained: its outputs differ by {largest:.1e} (tolerance {tolerance:.1e}); "
        "use the adapters with their base",
        where=printable(where), largest=largest, tolerance=TOLERANCE * scale,
    )  # fmt: skip
    return SavedProof({"merge": figures}, (line,), (warning,))
