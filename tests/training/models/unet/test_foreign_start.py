"""A pipeline that others have trained to draw from noise alone is a start for --model unet, with its own settings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import Outcome, enter_front_door
from tests.support.tiny_pipeline import tiny_unconditional
from training.models.named_model import named_model

pytestmark = pytest.mark.slow

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def train(model: object, directory: Path, *flags: str) -> Outcome:
    return enter_front_door([
        "--task", "diffusion", "--model", str(model), "--datasets", "digits", "--device", "cpu",
        "--max-steps", "3", "--condition-on", "none",
        "--save-steps", "2", "--batch-size", "4", "--sample-count", "0", "--run-dir", directory, "--snapshots", "0",
        *flags,
    ])  # fmt: skip


def test_it_goes_on_with_the_networks_own_settings_and_opens_with_diffusers(tmp_path: Path) -> None:
    from diffusers import DDIMPipeline

    assert named_model(str(tiny_unconditional())) == ("unet", str(tiny_unconditional()))
    outcome = train(tiny_unconditional(), tmp_path / "run", "--dropout", "0.1")
    assert outcome.exit_code == 0, outcome
    assert "noise   cosine, 1,000 levels" in outcome.stdout
    final = tmp_path / "run" / "final_model"
    config, given = (
        json.loads((place / "unet" / "config.json").read_text()) for place in (final, tiny_unconditional())
    )
    assert {key: value for key, value in config.items() if key not in ("dropout", "_name_or_path")} == {
        key: value for key, value in given.items() if key not in ("dropout", "_name_or_path")
    }
    before, after = (load_file(place / WEIGHTS) for place in (tiny_unconditional(), final))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert DDIMPipeline.from_pretrained(final, local_files_only=True).scheduler.config.clip_sample is False

    again = shutil.copytree(tmp_path / "run", tmp_path / "again")
    resumed = enter_front_door(["--resume", again / "checkpoint_step_2", "--run-dir", again])
    assert resumed.exit_code == 0, resumed
    found = load_file(again / "final_model" / WEIGHTS)
    assert all(torch.equal(found[name], after[name]) for name in after)


def changed(file: str, **values: Any) -> Callable[[Path], object]:
    def change(place: Path) -> None:
        document = {**json.loads((place / file).read_text()), **values}
        (place / file).write_text(json.dumps(document))

    return change


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no network": (lambda place: shutil.rmtree(place / "unet"), "unet is missing"),
    "no scheduler": (lambda place: shutil.rmtree(place / "scheduler"), "scheduler is missing"),
    "no weights": (lambda place: (place / WEIGHTS).unlink(), "safetensors is missing"),
    "pickled": (lambda place: (place / WEIGHTS).rename(place / "unet" / "model.bin"), "a pickle (model.bin)"),
    "cut": (lambda place: (place / WEIGHTS).write_bytes((place / WEIGHTS).read_bytes()[:99]), "it cannot be read"),
    "a variance too": (changed("unet/config.json", out_channels=2), "predicts a variance too"),
    "classes": (changed("unet/config.json", num_class_embeds=4), "reads classes"),
    "another schedule": (
        changed("scheduler/scheduler_config.json", beta_schedule="sigmoid"),
        "'sigmoid' is not supported",
    ),
}


@pytest.mark.parametrize("case", list(BAD))
def test_what_cannot_be_trained_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    damage, line = BAD[case]
    damage(shutil.copytree(tiny_unconditional(), tmp_path / "pipeline"))
    refusal = train(tmp_path / "pipeline", tmp_path / "run")
    assert refusal.exit_code == 2, refusal
    assert line in refusal.stderr
    assert refusal.stderr.count("\n") == 1


def test_another_schedule_than_the_networks_is_refused(tmp_path: Path) -> None:
    refusal = train(tiny_unconditional(), tmp_path / "run", "--noise-schedule", "linear")
    assert refusal.exit_code == 2, refusal
    assert "noise_schedule is cosine in the model that training starts from" in refusal.stderr
