"""The task diffusion: what it refuses, what it says before training, what a run records and concludes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FrontDoor
from training.backends.prepare import choose, config_class, prepare
from training.checkpoints.finished_model import load_trained_model
from training.errors import UserError
from training.record.log import read_report
from training.record.reporter import read_events
from training.settings.tree import TrainingConfig
from training.tasks.diffusion.task import DiffusionTask

MLP = {"width": 16, "num_blocks": 1}
POINTS: Mapping[str, Any] = {"data": {"datasets": ["circle"]}, "model": MLP}
DIGITS: Mapping[str, Any] = {
    "data": {"datasets": ["digits"]}, "model": {"block_channels": [4, 8], "layers_per_block": 1, "norm_groups": 2},
}  # fmt: skip


def config(model: str, settings: Mapping[str, Any], **data: Any) -> TrainingConfig:
    tree = config_class(task="diffusion", model=model)
    return tree.from_dict({**settings, "data": {**settings["data"], **data}}, "the test")


@pytest.mark.parametrize(
    ("model", "settings", "data", "told"),
    [
        ("denoising_mlp", POINTS, {"noise_levels": 100},
         "the linear noise schedule ends far from pure noise: 0.60 of the signal (36% of its variance) are left"),
        ("denoising_mlp", POINTS, {"noise_schedule": "sigma", "sigma_max": 5.0}, "raise --sigma-max (now 5)"),
        ("denoising_mlp", POINTS, {"beta_start": 0.5, "beta_end": 0.01, "noise_levels": 3}, "pure noise"),
        ("denoising_mlp", POINTS, {"sigma_min": 5.0, "sigma_max": 5.0, "noise_schedule": "karras"}, "sigma_min"),
        ("unet", {**DIGITS, "data": POINTS["data"]}, {}, "add --model denoising_mlp"),
        ("denoising_mlp", {**POINTS, "data": DIGITS["data"]}, {}, "add --model unet"),
        ("unet", {**DIGITS, "model": {"block_channels": [8, 8, 8, 8, 8]}}, {}, "set --image-size 16"),
        ("denoising_mlp", {**POINTS, "model": {**MLP, "sample_shape": [3]}}, {},
         "the network takes samples of 3 values, and this data has 2"),
        ("unet", {**DIGITS, "model": {**DIGITS["model"], "sample_shape": [3, 8, 8]}}, {}, "give --channels 3"),
        ("unet", {**DIGITS, "model": {**DIGITS["model"], "num_classes": 4}}, {},
         "the network knows 4 classes, and this data has 10"),
        ("unet", DIGITS, {"condition_on": "caption"}, "caption"),
        ("denoising_mlp", POINTS, {"datasets": []}, "needs data"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_is_refused_in_one_line(
    model: str, settings: Mapping[str, Any], data: Mapping[str, Any], told: str
) -> None:
    with pytest.raises(UserError) as refused:
        DiffusionTask().prepare(config(model, settings, **data))
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"zero_terminal_snr": True}, "take --prediction v"),
        ({"prediction": "edm", "zero_terminal_snr": True}, "leave zero_terminal_snr out"),
        ({"sampling_steps": 0}, "sampling_steps"),
        ({"prediction": "noise"}, "prediction"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(data: Mapping[str, Any], told: str) -> None:
    with pytest.raises(UserError) as refused:
        config("denoising_mlp", POINTS, **data)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_it_trains_a_unet_where_nobody_says_otherwise() -> None:
    assert choose(task="diffusion").model == "unet"
    assert prepare(choose(task="diffusion")).request.config.model.model == "unet"
    assert prepare(choose(task="diffusion", model="denoising_mlp")).request.config.model.model == "denoising_mlp"


def test_what_the_data_decides_and_what_is_said_before_training() -> None:
    prepared = DiffusionTask().prepare(config("unet", DIGITS, prediction="edm", sigma_data=3.0))
    assert prepared.config.model.sample_shape == (1, 8, 8)
    assert prepared.config.model.num_classes == 10
    assert prepared.artefacts["diffusion"]["class_names"] == [str(digit) for digit in range(10)]
    assert prepared.artefacts["diffusion"]["schedule"]["kind"] == "karras"
    told = "\n".join(prepared.introduction)
    assert "karras, 1,000 levels, sigma from 0.002 to 80; the network predicts edm" in told
    assert "sigma_data is 3; set --sigma-data 0.7" in told
    without = DiffusionTask().prepare(config("unet", DIGITS, condition_on="none"))
    assert without.config.model.num_classes == 0
    assert without.train[0].conditions == {}


@pytest.mark.slow
def test_a_run_records_bands_concludes_with_the_ideal_denoiser_and_its_model_goes_on(
    tmp_path: Path, front_door: FrontDoor
) -> None:
    words: list[str | Path] = [
        "--task", "diffusion", "--model", "denoising_mlp", "--width", "32", "--num-blocks", "1", "--device", "cpu",
        "--datasets", "circle", "--epochs", "2", "--batch-size", "128", "--validation-split", "0.2",
        "--save-interval", "none", "--sample-count", "0",
    ]  # fmt: skip
    done = front_door([*words, "--run-dir", tmp_path / "run"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "the ideal denoiser of the" in done.stdout
    events = list(read_events(tmp_path / "run" / "progress.jsonl"))
    evaluations = [event for event in events if event["event"] == "eval"]
    names = [f"loss_band_{number}" for number in range(1, 5)]
    assert len(evaluations) == 2
    for event in evaluations:
        assert event["loss"] == pytest.approx(sum(event[name] for name in names) / 4, rel=1e-6)
    assert not any(name in event for event in events if event["event"] == "step" for name in names)
    report = read_report(tmp_path / "run")
    assert report is not None
    ideal = report["ideal_denoiser"]
    assert 0.0 < ideal["least_loss"] < ideal["loss"]
    assert [metric["at"] for metric in report["metrics"]] == ["evaluation"] * 4

    trained = load_trained_model(tmp_path / "run")
    assert trained.options.sample_shape == (2,)
    again: list[str | Path] = ["--task", "diffusion", "--model", tmp_path / "run", "--device", "cpu"]
    more = ["--datasets", "circle", "--max-steps", "1", "--sample-count", "0", "--save-interval", "none"]
    went_on = front_door([*again, *more, "--run-dir", tmp_path / "next"])
    assert (went_on.exit_code, went_on.stderr) == (0, "")
    refused = front_door([*again, *more, "--prediction", "v", "--run-dir", tmp_path / "other"])
    assert refused.exit_code == 2
    assert "it was trained with another prediction (kind=epsilon) than these settings have (kind=v)" in refused.stderr
    assert refused.stderr.count("\n") == 1
