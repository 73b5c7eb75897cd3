"""Pipeline directories that diffusers itself wrote: read as they mean, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from training.checkpoints.finished_model import load_trained_model
from training.diffusion.noise_schedules import NoiseSchedule
from training.errors import CheckpointError
from training.models.denoiser import DIFFUSION, DenoiserFamily
from training.models.unet.foreign_pipeline import is_foreign
from training.tasks.diffusion.drawing import Sampling, draw_samples

pytestmark = pytest.mark.slow


def saved(directory: Path, classes: int | None = None, **scheduler: Any) -> Path:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
        num_class_embeds=classes,
    )  # fmt: skip
    DDPMPipeline(network, DDPMScheduler(**scheduler)).save_pretrained(directory)
    return directory


@pytest.mark.parametrize(
    ("scheduler", "kind", "prediction"),
    [
        ({}, "linear", "epsilon"),
        ({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}, "scaled_linear", "epsilon"),
        ({"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}, "cosine", "v"),
        ({"beta_end": 0.03, "num_train_timesteps": 200, "prediction_type": "sample"}, "linear", "x0"),
    ],
)
def test_noise_levels_and_prediction_are_the_schedulers(
    scheduler: dict[str, Any], kind: str, prediction: str, tmp_path: Path
) -> None:
    from diffusers import DDPMScheduler

    assert is_foreign(saved(tmp_path, **scheduler))
    found = load_trained_model(tmp_path)
    diffusion = found.artefacts[DIFFUSION]
    schedule = NoiseSchedule.from_dict(diffusion["schedule"])
    assert (schedule.kind, diffusion["prediction"]["kind"]) == (kind, prediction)
    signals = DDPMScheduler(**scheduler).alphas_cumprod.double().numpy()
    np.testing.assert_allclose(schedule.sigmas, np.sqrt((1.0 - signals) / signals), rtol=5e-4)
    family = cast(DenoiserFamily, found.family)
    drawn = draw_samples(found.model, family, diffusion, Sampling("ddim", steps=3), [None] * 2)
    assert drawn.values.shape == (2, 1, 8, 8)
    assert np.isfinite(drawn.values).all()


def test_its_classes_are_numbers_and_none_of_them_means_no_class(tmp_path: Path) -> None:
    diffusion = load_trained_model(saved(tmp_path, classes=3)).artefacts[DIFFUSION]
    assert (diffusion["class_names"], diffusion["condition_dropout"]) == (["0", "1", "2"], 0.0)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("scheduler/scheduler_config.json", {"trained_betas": [0.1, 0.2]}, "a table of betas of its own"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "sigmoid"}, "beta_schedule = 'sigmoid' is not supported"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "prediction_type = 'flow' is not supported"),
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "this is a UNet2DConditionModel"),
        ("model_index.json", {"vqvae": ["diffusers", "VQModel"]}, "a pipeline of latents"),
        ("unet/config.json", {"sample_size": None}, "does not say the size"),
        ("scheduler/scheduler_config.json", None, "scheduler_config.json is missing"),
        ("unet/diffusion_pytorch_model.safetensors", None, "safetensors is missing"),
    ],
)
def test_what_cannot_be_sampled_is_refused(file: str, change: dict[str, Any] | None, said: str, tmp_path: Path) -> None:
    path = saved(tmp_path) / file
    if change is None:
        path.unlink()
    else:
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=said) as caught:
        load_trained_model(tmp_path)
    assert "\n" not in str(caught.value)
