"""Samples from a trained model by the command: what it writes, that a seed is enough, and what it refuses."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.diffusion_runs import trained_run
from tools import sample
from training.checkpoints.checkpoint import load_checkpoint
from training.checkpoints.finished_model import load_trained_model
from training.errors import UserError
from training.models.denoiser import DIFFUSION

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of digits with classes, an average of its weights, and samples while it learned."""
    return trained_run(tmp_path_factory.mktemp("runs") / "digits", "unet", {
        "datasets": ["digits"], "block_channels": [8, 16], "layers_per_block": 1, "batch_size": 64, "max_steps": 40,
        "sample_every": 1, "sample_count": 20, "sampling_steps": 2, "ema_decay": 0.9,
    })  # fmt: skip


@pytest.fixture(scope="module")
def moons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of points without classes."""
    return trained_run(tmp_path_factory.mktemp("runs") / "moons", "denoising_mlp", {
        "datasets": ["moons"], "width": 16, "num_blocks": 1, "batch_size": 256, "max_steps": 20, "condition_on": "none",
    })  # fmt: skip


def drawn(model: Path, output: Path, *words: str) -> bytes:
    assert sample.run(["--model", str(model), "--output", str(output), "--steps", "3", *words]) == 0
    return output.read_bytes()


def test_a_grid_has_a_row_for_each_class(digits: Path, tmp_path: Path) -> None:
    picture = Image.open(io.BytesIO(drawn(digits, tmp_path / "grid.png", "--count", "30")))
    assert picture.size == (3 * 66 + 2, 10 * 66 + 2)


def test_the_same_seed_draws_the_same_whatever_is_drawn_with_it(digits: Path, tmp_path: Path) -> None:
    words = ["--class", "3", "--guidance", "2", "--seed", "7", "--sampler", "euler_ancestral"]
    with np.load(io.BytesIO(drawn(digits, tmp_path / "a.npz", "--count", "6", *words))) as found:
        whole, labels = found["samples"], found["labels"]
    with np.load(io.BytesIO(drawn(digits, tmp_path / "b.npz", "--count", "4", "--at-once", "3", *words))) as found:
        part = found["samples"]
    assert whole.shape == (6, 1, 8, 8)
    assert labels.tolist() == [3] * 6
    np.testing.assert_allclose(part, whole[:4], rtol=1e-4, atol=1e-4)
    again = drawn(digits, tmp_path / "c.npz", "--count", "6", *words)
    assert np.array_equal(np.load(io.BytesIO(again))["samples"], whole)


def test_films_plots_and_numbers(digits: Path, moons: Path, tmp_path: Path) -> None:
    film = Image.open(io.BytesIO(drawn(digits, tmp_path / "film.gif", "--class", "0", "none", "--count", "4")))
    assert film.n_frames == 4  # type: ignore[attr-defined]
    assert Image.open(io.BytesIO(drawn(moons, tmp_path / "plot.png", "--count", "300"))).size == (540, 540)
    with np.load(io.BytesIO(drawn(moons, tmp_path / "moons.npz", "--count", "5000"))) as found:
        assert found["samples"].shape == (5000, 2)
        assert set(found["labels"].tolist()) == {-1}


def test_a_run_in_the_making_and_its_finished_model_draw_the_same(digits: Path, tmp_path: Path) -> None:
    """The averaged weights, which stand in the last checkpoint and are the finished model."""
    checkpoint = max(digits.glob("checkpoint_*"), key=lambda path: load_checkpoint(path)["step"])
    ours, theirs = (drawn(path, tmp_path / f"{n}.npz") for n, path in enumerate((checkpoint, digits / "final_model")))
    assert np.array_equal(np.load(io.BytesIO(ours))["samples"], np.load(io.BytesIO(theirs))["samples"])
    live = load_checkpoint(checkpoint)["engine"]["model"]
    averaged = load_trained_model(checkpoint).model.state_dict()
    assert any(not np.array_equal(live[name], tensor) for name, tensor in averaged.items())


def test_the_run_has_drawn_samples_while_it_learned(digits: Path) -> None:
    pictures = sorted((digits / "samples").iterdir())
    assert len(pictures) >= 2
    for path in pictures:
        with Image.open(path) as picture:
            assert (picture.format, picture.size) == ("PNG", (2 * 66 + 2, 10 * 66 + 2))
    assert load_trained_model(digits).artefacts[DIFFUSION]["class_names"] == [str(n) for n in range(10)]


def test_an_output_is_replaced_only_if_that_is_said(moons: Path, tmp_path: Path) -> None:
    before = drawn(moons, tmp_path / "plot.png", "--count", "10")
    with pytest.raises(UserError, match=r"plot\.png: this file exists; replace it \(--overwrite\)"):
        drawn(moons, tmp_path / "plot.png", "--count", "20")
    assert (tmp_path / "plot.png").read_bytes() == before
    assert drawn(moons, tmp_path / "plot.png", "--count", "20", "--overwrite") != before
    (tmp_path / "mine.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(UserError, match="not an earlier output"):
        drawn(moons, tmp_path / "mine.png", "--overwrite")


@pytest.mark.parametrize(
    ("which", "words", "said"),
    [
        ("digits", ["--steps", "0"], "--steps must be a whole number from 1 to"),
        ("digits", ["--sampler", "ddin"], "--sampler ddin: unknown sampler; did you mean 'ddim'?"),
        ("digits", ["--class", "11"], "--class 11: unknown class.*the model knows 0, 1, 2"),
        ("digits", ["--guidance", "nan"], "--guidance must be a number from 0 to 1000"),
        ("digits", ["--count", "5000"], "--count 5000: a picture shows 4096 samples at most"),
        ("moons", ["--class", "1"], "--class 1: this model was trained without classes"),
        ("moons", ["--guidance", "2"], "guidance 2: this model was trained without classes"),
        ("moons", ["--spacing", "linear"], "--spacing linear: unknown spacing"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    which: str, words: list[str], said: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model: Any = request.getfixturevalue(which)
    with pytest.raises(UserError, match=said):
        sample.run(["--model", str(model), "--output", str(tmp_path / "x.png"), *words])
    assert list(tmp_path.iterdir()) == []
