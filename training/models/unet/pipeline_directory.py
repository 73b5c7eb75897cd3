"""A trained UNet as a pipeline directory of diffusers: written so that diffusers alone samples from it, and read back.

Beside diffusers' own files lie ours (`model.json`, `artefacts.json`), by which training goes on. What diffusers' own
pipelines cannot do (classes, EDM's preconditioning) does a small pipeline in a file of the directory, `PIPELINE_FILE`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from training.diffusion.noise_schedules import NoiseSchedule
from training.errors import CheckpointError, unreadable
from training.models.denoiser import DIFFUSION
from training.models.diffusers_library import NOISE_SCHEDULES, PREDICTIONS
from training.models.named_model import INDEX_NAME
from training.models.protocol import (
    ARTEFACTS_NAME,
    DESCRIPTION_NAME,
    FORMAT,
    VERSION,
    Artefacts,
    read_description,
    weights_of,
)
from training.models.unet.options import UNetOptions
from training.settings.tree import ModelOptions
from training.storage.atomic import replacing_directory
from training.storage.json_files import DamagedFileError, read_json
from training.storage.tensor_files import load_tensors, save_tensors

SCHEDULER, UNET = "scheduler", "unet"
UNET_WEIGHTS = "diffusion_pytorch_model.safetensors"
PIPELINE_FILE, PIPELINE_CLASS = "noise_to_images", "NoiseToImagesPipeline"
"""Module in the directory, and its class."""
PREDICTION_TYPES = {ours: theirs for theirs, ours in PREDICTIONS.items()}
"""Prediction -> diffusers' name of it."""
BETA_SCHEDULES = {ours: theirs for theirs, ours in NOISE_SCHEDULES.items()}
"""Noise schedule -> diffusers' name of it."""
SAME = 1e-3
"""Largest relative difference of a sigma by which a schedule counts as diffusers' own, which is rounded to fp32."""


def needs_own_pipeline(diffusion: Mapping[str, Any], options: ModelOptions) -> bool:
    """Return True where no pipeline class of diffusers' own samples from such a network."""
    return bool(cast(UNetOptions, options).num_classes) or diffusion["prediction"]["kind"] == "edm"


def scheduler_of(diffusion: Mapping[str, Any]) -> Any:
    """Return diffusers' scheduler with the noise levels and the prediction of a run.

    Args:
        diffusion: the artefact `DIFFUSION`.

    Returns:
        `EDMEulerScheduler` for the prediction edm, else `DDIMScheduler`; it never clips samples.
    """
    from diffusers import DDIMScheduler, EDMEulerScheduler

    schedule, prediction = NoiseSchedule.from_dict(diffusion["schedule"]), diffusion["prediction"]
    if prediction["kind"] == "edm":
        sigmas = schedule.sigmas
        return EDMEulerScheduler(
            sigma_min=float(sigmas[0]),
            sigma_max=float(sigmas[-1]),
            sigma_data=prediction["sigma_data"],
            rho=schedule.rho,
            num_train_timesteps=schedule.levels,
            prediction_type="epsilon",  # its name for EDM's c_skip and c_out (arXiv 2206.00364, table 1)
        )
    common = {
        "num_train_timesteps": schedule.levels, "prediction_type": PREDICTION_TYPES[prediction["kind"]],
        "clip_sample": False, "timestep_spacing": "trailing",
    }  # fmt: skip
    if schedule.kind in BETA_SCHEDULES and not schedule.zero_terminal_snr:
        betas = {"beta_start": schedule.beta_start, "beta_end": schedule.beta_end} if "linear" in schedule.kind else {}
        named = DDIMScheduler(beta_schedule=BETA_SCHEDULES[schedule.kind], **betas, **common)
        signals = named.alphas_cumprod.double().numpy()
        if np.allclose(np.sqrt((1.0 - signals) / signals), schedule.sigmas, rtol=SAME, atol=0.0):
            return named
    return DDIMScheduler(trained_betas=_betas(schedule).tolist(), **common)


def _betas(schedule: NoiseSchedule) -> NDArray[np.float64]:
    """Return the betas of the Markov chain with these levels: 1 - ā(t) / ā(t - 1), with ā = 1 / (1 + sigma²)."""
    squares_T = 1.0 / (1.0 + schedule.sigmas**2)
    betas: NDArray[np.float64] = 1.0 - squares_T / np.concatenate([[1.0], squares_T[:-1]])
    return betas


def save_pipeline(directory: Path, model: nn.Module, options: ModelOptions, artefacts: Artefacts) -> None:
    """Write a pipeline directory, atomically; an older one of that name is replaced.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    import diffusers

    diffusion = artefacts[DIFFUSION]
    scheduler = scheduler_of(diffusion)
    is_own = needs_own_pipeline(diffusion, options)
    index = {
        "_class_name": [PIPELINE_FILE, PIPELINE_CLASS] if is_own else "DDIMPipeline",
        "_diffusers_version": diffusers.__version__,
        SCHEDULER: ["diffusers", type(scheduler).__name__],
        UNET: ["diffusers", "UNet2DModel"],
    }
    described = {
        "format": FORMAT, "version": VERSION, "family": options.model, "vocabulary": None,
        "options": options.model_dump(mode="json"),
    }  # fmt: skip
    with replacing_directory(directory) as fresh:
        (fresh / UNET).mkdir()
        # The weights are copied first: an engine may hold all parameters in one block of memory (DeepSpeed does).
        save_tensors(weights_of(model), fresh / UNET / UNET_WEIGHTS, {"format": "pt"})
        cast(Any, model).save_config(fresh / UNET)
        scheduler.save_config(fresh / SCHEDULER)
        for name, content in ((INDEX_NAME, index), (DESCRIPTION_NAME, described), (ARTEFACTS_NAME, dict(artefacts))):
            (fresh / name).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        if is_own:
            file = f"{PIPELINE_FILE}.py"
            (fresh / file).write_bytes(Path(__file__).with_name(file).read_bytes())


def load_pipeline(
    directory: Path, options_class: type[ModelOptions]
) -> tuple[ModelOptions, Artefacts, dict[str, Tensor]]:
    """Read the options, the artefacts and the weights of a directory that `save_pipeline` wrote.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    from safetensors import SafetensorError

    described = read_description(directory)
    try:
        options = options_class.model_validate(described["options"])
        artefacts = read_json(directory / ARTEFACTS_NAME)
        for name in (INDEX_NAME, f"{UNET}/config.json", f"{SCHEDULER}/scheduler_config.json"):
            read_json(directory / name)
        weights = load_tensors(directory / UNET / UNET_WEIGHTS)
    except DamagedFileError as error:
        raise CheckpointError(str(error)) from error
    except PermissionError as error:
        raise unreadable(Path(error.filename), error) from error
    except (KeyError, ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{directory}: damaged model directory ({str(error).splitlines()[0]})") from error
    return options, artefacts, weights
