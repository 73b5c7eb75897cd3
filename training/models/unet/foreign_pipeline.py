"""Pipeline directories of diffusers that another program wrote: a UNet2DModel and a scheduler, for drawing samples.

Their scheduler's table of noise levels becomes a `NoiseSchedule`, so every sampler here draws from them. No torch at
import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.diffusion.noise_schedules import NoiseSchedule
from training.errors import CheckpointError
from training.models.protocol import DESCRIPTION_NAME
from training.models.unet.family import needs_diffusers
from training.storage.json_files import DamagedFileError, read_json

if TYPE_CHECKING:
    from torch import nn

INDEX, UNET, SCHEDULER = "model_index.json", "unet", "scheduler"
KINDS = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
"""`beta_schedule` of diffusers -> our noise schedule."""
PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}
"""`prediction_type` of diffusers -> our prediction."""


@dataclass(frozen=True)
class ForeignPipeline:
    """A network and what it was trained on, in the form of our own artefact."""

    module: nn.Module
    """In eval mode, on the CPU."""
    diffusion: Mapping[str, Any]
    """See `training.models.denoiser.DIFFUSION`."""


def is_foreign_pipeline(path: Path) -> bool:
    """Return True for a pipeline directory of diffusers with a UNet that this program did not write."""
    return (path / INDEX).is_file() and (path / UNET).is_dir() and not (path / DESCRIPTION_NAME).is_file()


def load_foreign_pipeline(path: Path) -> ForeignPipeline:
    """Read a pipeline directory.

    Raises:
        CheckpointError: a part is missing or damaged, or it is of a kind that samples cannot be drawn from here.
        ConfigError: diffusers is not installed.
    """
    needs_diffusers(f"--model {path}")
    index, config = _json(path / INDEX), _json(path / UNET / "config.json")
    kind = config.get("_class_name")
    if kind != "UNet2DModel":
        raise CheckpointError(
            f"{path}: a pipeline with a {kind}; samples are drawn from one with a UNet2DModel (DDPMPipeline, "
            "DDIMPipeline)"
        )
    if "vqvae" in index or "vae" in index:
        raise CheckpointError(f"{path}: a pipeline of latents ({index.get('_class_name')}); give one of pixels")
    schedule = _schedule(path, _json(path / SCHEDULER / "scheduler_config.json"))
    from diffusers import UNet2DModel

    try:
        module = UNet2DModel.from_pretrained(path / UNET, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{path / UNET}: the network cannot be read ({str(error).splitlines()[0]})") from error
    size, classes = module.config.sample_size, module.config.num_class_embeds
    if size is None:
        raise CheckpointError(f"{path / UNET}: its config.json does not say the size of the images (sample_size)")
    sides = [size, size] if isinstance(size, int) else list(size)
    names = [str(number) for number in range(classes)] if classes else None
    diffusion = {
        **schedule, "shape": [module.config.in_channels, *sides], "class_names": names, "mean": None, "scale": None,
        "condition_dropout": 0.0,  # no class of its stands for "no class", as far as its files say
    }  # fmt: skip
    return ForeignPipeline(module.eval(), diffusion)


def _schedule(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return schedule and prediction of a scheduler's configuration, as our artefact has them.

    Raises:
        CheckpointError: the scheduler has a table of its own, or one that is not known here.
    """
    where = path / SCHEDULER / "scheduler_config.json"
    if config.get("trained_betas") is not None:
        raise CheckpointError(
            f"{where}: the scheduler has a table of betas of its own (trained_betas), which is not read"
        )
    kind, prediction = (
        KINDS.get(config.get("beta_schedule", "")),
        PREDICTIONS.get(config.get("prediction_type", "epsilon")),
    )
    if kind is None:
        known = ", ".join(KINDS)
        raise CheckpointError(f"{where}: beta_schedule {config.get('beta_schedule')!r} is not read; {known} are")
    if prediction is None:
        known = ", ".join(PREDICTIONS)
        raise CheckpointError(f"{where}: prediction_type {config.get('prediction_type')!r} is not read; {known} are")
    betas: dict[str, Any] = {} if kind == "cosine" else {name: config.get(name) for name in ("beta_start", "beta_end")}
    schedule = NoiseSchedule(
        kind,
        levels=config.get("num_train_timesteps", 1000),
        zero_terminal_snr=bool(config.get("rescale_betas_zero_snr", False)),
        **betas,
    )
    return {"schedule": schedule.to_dict(), "prediction": {"kind": prediction, "sigma_data": 0.5}}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except OSError as error:
        raise CheckpointError(f"{path}: a part of the pipeline cannot be read ({error.strerror})") from error
    except DamagedFileError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: it should hold settings by name")
    return found
