"""A trained UNet as a pipeline of diffusers: what diffusers alone draws from it, and how it is read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from training.checkpoints.finished_model import TrainedModel, load_trained_model
from training.diffusion.denoiser import Denoiser
from training.diffusion.noise_schedules import NoiseSchedule
from training.diffusion.predictions import Prediction
from training.diffusion.samplers import draw
from training.errors import CheckpointError
from training.machine.seeding import seed_everything
from training.models.denoiser import LABELS
from training.models.named_model import named_model
from training.models.unet.family import UNetFamily, config_of
from training.models.unet.options import UNetOptions
from training.models.unet.pipeline_directory import scheduler_of

pytestmark = pytest.mark.slow
STEPS, COUNT, SEED, CLASSES, GUIDANCE = 5, 2, 7, 3, 2.0
"""The steps divide the number of levels: otherwise diffusers' DDIM, which rounds the length of its steps down, goes to
other levels than the next one that it asks for."""
SHAPE = (1, 8, 4)
CASES: Mapping[str, tuple[NoiseSchedule, Prediction, int | None, str]] = {
    "epsilon": (NoiseSchedule("linear"), Prediction("epsilon"), None, "ddim"),
    "x0": (NoiseSchedule("sigma", levels=40), Prediction("x0"), None, "ddim"),
    "v_with_classes": (NoiseSchedule("cosine", zero_terminal_snr=True), Prediction("v"), CLASSES, "ddim"),
    "edm": (NoiseSchedule("karras"), Prediction("edm", 0.4), None, "euler"),
}
"""Schedule, prediction, number of classes, and our sampler that does what the pipeline's scheduler does."""
PROGRAM = """
import json, sys
import numpy as np
import torch
from diffusers import DDPMPipeline, DiffusionPipeline
for directory, asked, loaded in json.loads(sys.argv[1]):
    pipeline = DiffusionPipeline.from_pretrained(directory, **loaded)
    pipeline.set_progress_bar_config(disable=True)
    drawn = []
    step = pipeline.scheduler.step
    pipeline.scheduler.step = lambda *a, **k: drawn.append(step(*a, **k)) or drawn[-1]
    steps, count, seed = json.loads(sys.argv[2])
    generator = torch.Generator().manual_seed(seed)
    images = pipeline(
        batch_size=count, generator=generator, num_inference_steps=steps, output_type="np", **asked
    ).images
    last = drawn[-1].prev_sample
    assert np.allclose(images, (last / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy())
    np.save(f"{directory}.npy", last.numpy())
    if not loaded:
        assert type(DDPMPipeline.from_pretrained(directory).unet) is type(pipeline.unet)
assert not {"training", "apt_model"} & sys.modules.keys()
"""


def artefact(case: str) -> dict[str, Any]:
    schedule, prediction, classes, _ = CASES[case]
    names = None if classes is None else [str(number) for number in range(classes)]
    return {
        "schedule": schedule.to_dict(), "prediction": prediction.to_dict(), "shape": list(SHAPE), "class_names": names,
        "mean": None, "scale": None,
    }  # fmt: skip


def options_of(case: str) -> UNetOptions:
    given = UNetOptions(model="unet", block_channels=(8, 16), layers_per_block=1, norm_groups=4)
    completed = UNetFamily().completed_for(given, SHAPE, CASES[case][2], artefact(case))
    assert isinstance(completed, UNetOptions)
    return completed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a saved model for each case, and next to it the samples that diffusers draws from it in its own process."""
    made = tmp_path_factory.mktemp("pipelines")
    family, jobs = UNetFamily(), []
    for case, (_, _, classes, _) in CASES.items():
        seed_everything(3)
        options = options_of(case)
        model = family.build(options, None).eval()
        saved = TrainedModel(model, family, options, None, made, {"diffusion": artefact(case)})
        saved.save(made / case)
        asked = {} if classes is None else {"class_labels": [0, classes - 1], "guidance_scale": GUIDANCE}
        is_own = classes is not None or case == "edm"
        jobs.append((str(made / case), asked, {"trust_remote_code": True} if is_own else {}))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(jobs), json.dumps([STEPS, COUNT, SEED])],
        env={**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1", "HF_MODULES_CACHE": str(made / "modules")},
        cwd=made,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return made


def ours(directory: Path, case: str) -> Tensor:
    """Draw samples with our sampler from the same noise."""
    trained = load_trained_model(directory)
    schedule, prediction, classes, sampler = CASES[case]
    family = UNetFamily()

    def network(sample: Tensor, time: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        return family.denoise(trained.model, sample, time, conditions)

    conditions = unconditional = None
    if classes is not None:
        conditions = {LABELS: torch.tensor([0, classes - 1])}
        unconditional = {LABELS: torch.full((COUNT,), classes)}
    guidance = 1.0 if classes is None else GUIDANCE
    denoise = Denoiser(network, schedule, prediction, conditions, unconditional, guidance)
    start = torch.randn(COUNT, *SHAPE, generator=torch.Generator().manual_seed(SEED))
    spacing = "karras" if sampler == "euler" else "levels"
    if sampler == "ddim":  # diffusers takes the last level for pure noise, where we scale the noise to its level
        start = start / float(schedule.signal_and_noise(schedule.levels - 1)[1])
    with torch.no_grad():
        return draw(denoise, start, schedule.sampling_sigmas(STEPS, spacing), sampler, None)


@pytest.mark.parametrize("case", CASES)
def test_diffusers_alone_draws_what_we_draw(folder: Path, case: str) -> None:
    theirs, mine = torch.from_numpy(np.load(folder / f"{case}.npy")), ours(folder / case, case)
    assert float(mine.abs().max()) > 0.1, "it draws something"
    scale = float(mine.abs().max())
    assert float((theirs - mine).abs().max()) <= 3e-5 * scale


@pytest.mark.parametrize("case", CASES)
def test_the_scheduler_has_the_levels_of_the_schedule(case: str) -> None:
    schedule = CASES[case][0]
    scheduler = scheduler_of(artefact(case))
    if case == "edm":
        scheduler.set_timesteps(STEPS)
        found, expected = scheduler.sigmas.double().numpy()[:-1], schedule.sampling_sigmas(STEPS, "karras")[:-1]
    else:
        signals = scheduler.alphas_cumprod.double().numpy()
        with np.errstate(divide="ignore"):
            found, expected = np.sqrt((1.0 - signals) / signals), schedule.sigmas
        assert scheduler.config.clip_sample is False
    assert np.allclose(found[~np.isinf(expected)], expected[~np.isinf(expected)], rtol=2e-2)
    assert np.isinf(found[np.isinf(expected)]).all()


def test_it_is_found_and_read_back_as_our_model(folder: Path) -> None:
    for case in CASES:
        assert named_model(str(folder / case)) == ("unet", str(folder / case))
        read = load_trained_model(folder / case)
        assert read.options == options_of(case)
        assert read.artefacts == {"diffusion": artefact(case), "network": config_of(read.model)}


@pytest.mark.parametrize(
    "part",
    ["model.json", "artefacts.json", "model_index.json", "unet/config.json", "scheduler/scheduler_config.json",
     "unet/diffusion_pytorch_model.safetensors"],
)  # fmt: skip
def test_a_damaged_part_is_refused_in_one_line(folder: Path, part: str, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folder / "x0", tmp_path / "model")
    path = tmp_path / "model" / part
    path.write_bytes(path.read_bytes()[:10])
    for read in (UNetFamily().load, load_trained_model):
        with pytest.raises(CheckpointError) as refused:
            read(tmp_path / "model")
        assert "\n" not in str(refused.value)
    path.unlink()
    with pytest.raises(CheckpointError):
        UNetFamily().load(tmp_path / "model")
