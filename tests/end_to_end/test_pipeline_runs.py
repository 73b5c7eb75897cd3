"""Runs that fine-tune a pipeline: killed and resumed bit for bit, the same curve on two ranks, pictures that change."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import Outcome, enter_front_door
from tests.support.matrix_runs import steps
from tests.support.tiny_pipeline import captioned_pictures, tiny_pipeline
from tests.support.warm_start import WarmStart
from training.errors import UserError

pytestmark = pytest.mark.slow

UPDATES = 6
WAYS = {"whole": [], "lora": ["--lora", "--lora-rank", "2", "--lora-dropout", "0.1"]}


def words(directory: Path, *more: object) -> list[str]:
    return [
        "--task", "diffusion", "--model", str(tiny_pipeline()), "--datasets", str(captioned_pictures()),
        "--device", "cpu", "--max-steps", str(UPDATES), "--save-steps", "2", "--save-interval", "none",
        "--global-batch-size", "4", "--batch-size", "2", "--learning-rate", "0.01", "--validation-split", "0.2",
        "--random-flip", "--condition-dropout", "0.3", "--sample-count", "2", "--sampling-steps", "2",
        "--snapshots", "0",
        "--run-dir", str(directory), *map(str, more),
    ]  # fmt: skip


class Run(NamedTuple):
    path: Path
    outcome: Outcome


@pytest.fixture(scope="module", params=list(WAYS))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run in this process."""
    path = tmp_path_factory.mktemp("pipeline") / request.param
    outcome = enter_front_door(words(path, *WAYS[request.param]))
    assert outcome.exit_code == 0, outcome
    return Run(path, outcome)


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmStart]:
    modules = ("training.train", "training.run", "torch._dynamo", "peft", "diffusers.models.unets.unet_2d_condition")
    with WarmStart(*modules, "diffusers.models.autoencoders.autoencoder_kl") as started:
        yield started


def curve(directory: Path) -> dict[int, float]:
    return {event["step"]: event["loss"] for event in steps(directory)}


def weights(directory: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(
        directory / "final_model" / "unet" / "diffusion_pytorch_model.safetensors"
    )
    return found


def test_the_pipelines_scheduler_decides_the_noise_and_that_is_said(run: Run) -> None:
    told = run.outcome.stdout
    assert "noise   schedule and prediction are those of the pipeline's scheduler" in told
    assert "noise   scaled_linear, 1,000 levels" in told
    assert "predicts epsilon" in told


def test_a_resumed_run_ends_with_the_same_weights(run: Run, tmp_path: Path) -> None:
    again = shutil.copytree(run.path, tmp_path / "run")
    outcome = enter_front_door(["--resume", again / "checkpoint_step_2", "--run-dir", again])
    assert outcome.exit_code == 0, outcome
    assert "parity tolerance" not in outcome.stdout
    assert curve(again) == curve(run.path)
    found, expected = weights(again), weights(run.path)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_diffusers_alone_draws_other_pictures_by_a_caption_after_training(run: Run) -> None:
    from diffusers import StableDiffusionPipeline

    pictures = []
    for place in (tiny_pipeline(), run.path / "final_model"):
        pipeline: Any = StableDiffusionPipeline.from_pretrained(place, local_files_only=True)
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        pictures.append(pipeline("a red box", num_inference_steps=3, generator=generator, output_type="np").images[0])
    assert pictures[0].shape == (16, 16, 3)
    assert np.abs(pictures[0] - pictures[1]).max() > 1e-3


def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one_and_two_ranks_have_its_curve(
    run: Run, warm: WarmStart, tmp_path: Path
) -> None:
    more = WAYS[run.path.name]
    process = warm.start(words(tmp_path / "killed", *more))
    while process.poll(0.002) is None and not (tmp_path / "killed" / "checkpoint_step_2").is_dir():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it was at work"
    process = warm.start([*words(tmp_path / "killed", *more), "--resume"])
    told = process.wait()
    assert process.returncode == 0, told
    found, expected = weights(tmp_path / "killed"), weights(run.path)
    assert all(torch.equal(found[name], expected[name]) for name in expected)

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": "2"}
    ranks = [
        warm.start(words(tmp_path / "two", *more), {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    told = "".join(rank.wait() for rank in ranks)
    assert [rank.returncode for rank in ranks] == [0, 0], told
    if not more:  # dropout's draws are those of a batch, and two ranks have other batches
        one, two = curve(run.path), curve(tmp_path / "two")
        assert all(abs(one[step] - two[step]) < 1e-4 for step in one)


def test_samples_are_drawn_for_captions_of_the_data_and_for_a_prompt(run: Run, tmp_path: Path) -> None:
    from PIL import Image

    from tools import sample

    (picture,) = (run.path / "samples").rglob("*.png")
    with Image.open(picture) as grid:
        assert grid.size == (2 * 64 + 6, 64 + 4)
    common = ["--steps", "2", "--count", "2", "--guidance", "2", "--seed", "3", "--device", "cpu"]

    def drawn(model: Path, *prompts: str) -> Any:
        file = tmp_path / "drawn.npz"
        words = ["--model", str(model), *common, "--output", str(file), "--overwrite"]
        assert sample.run([*words, "--prompt", *prompts]) == 0
        return np.load(file)["samples"]

    after = drawn(run.path, "a red box")
    assert after.shape == (2, 3, 16, 16)
    assert np.array_equal(after, drawn(run.path, "a red box", "a red box"))
    assert not np.array_equal(after, drawn(tiny_pipeline(), "a red box")), "the base draws others"
    other = drawn(run.path, "a red box", "a blue box")
    assert np.allclose(other[0], after[0], atol=1e-5)
    assert not np.allclose(other[1], after[1], atol=1e-5)
    with pytest.raises(UserError, match="--prompt is missing"):
        sample.run(["--model", str(run.path), *common, "--output", str(tmp_path / "none.png")])


@pytest.mark.parametrize(("flags", "line"), [
    (("--noise-schedule", "cosine"), "noise_schedule is scaled_linear in the model that training starts from"),
    (("--prediction", "v"), "prediction is epsilon in the model that training starts from"),
    (("--image-size", "15"), "image_size=15: .*set --image-size 14 or 16"),
    (("--condition-on", "class"), "condition"),
    (("--lora", "--lora-targets", "q_proj"), "--lora-targets q_proj: no layer has such a name"),
    (("--task", "text"), "takes noisy samples"),
])  # fmt: skip
def test_settings_that_do_not_fit_the_pipeline_are_refused_in_one_line(
    flags: tuple[str, ...], line: str, tmp_path: Path
) -> None:
    refusal = enter_front_door([*words(tmp_path / "run"), *flags])
    assert refusal.exit_code == 2, refusal
    assert refusal.stderr.startswith("error: ")
    assert refusal.stderr.count("\n") == 1
    assert re.search(line, refusal.stderr), refusal.stderr
