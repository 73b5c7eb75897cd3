"""Samples from a network: a function of seed and number alone; grids, plots and films of them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from training.diffusion.noise_schedules import NoiseSchedule
from training.diffusion.predictions import Prediction
from training.diffusion.samplers import SAMPLERS
from training.errors import ConfigError
from training.models.denoiser import DenoiserFamily
from training.models.denoising_mlp.family import DenoisingMLPFamily
from training.tasks.diffusion.drawing import (
    CELL,
    GAP,
    MOST_FRAMES,
    Sampling,
    columns_for,
    draw_samples,
    film_of,
    grid_of,
    labels_in_turn,
    noise_of,
    picture_of,
    pixels_of,
)

FAMILY = cast(DenoiserFamily, DenoisingMLPFamily())


def artefact(classes: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "schedule": NoiseSchedule("linear", levels=1000).to_dict(), "prediction": Prediction("v").to_dict(),
        "shape": [2], "class_names": [f"class {n}" for n in range(classes)] or None, "mean": [5.0, -3.0],
        "scale": [2.0, 0.5], **more,
    }  # fmt: skip


def network(diffusion: Mapping[str, Any]) -> nn.Module:
    options = FAMILY.Options.model_validate({"width": 16, "num_blocks": 1})
    classes = len(diffusion["class_names"] or ()) or None
    torch.manual_seed(0)
    built = FAMILY.build(FAMILY.completed_for(options, diffusion["shape"], classes, diffusion), None).eval()
    with torch.no_grad():  # new weights give zeros
        for parameter in built.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape))
    return built


def values_of(how: Sampling, labels: Sequence[int | None], diffusion: Mapping[str, Any], **more: Any) -> np.ndarray:
    return draw_samples(network(diffusion), FAMILY, diffusion, how, labels, **more).values


# -- samples -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_does_not_depend_on_those_that_are_drawn_with_it(sampler: str) -> None:
    how, diffusion = Sampling(sampler, steps=5, seed=7), artefact()
    together = values_of(how, [None] * 7, diffusion)
    for at_once in (1, 3):
        np.testing.assert_allclose(
            values_of(how, [None] * 7, diffusion, at_once=at_once), together, rtol=1e-4, atol=1e-5
        )
    np.testing.assert_allclose(values_of(how, [None] * 4, diffusion), together[:4], rtol=1e-4, atol=1e-5)
    assert not np.allclose(values_of(Sampling(sampler, steps=5, seed=8), [None] * 7, diffusion), together)
    assert np.array_equal(values_of(how, [None] * 7, diffusion), together)


@given(seed=st.integers(0, 2**63 - 1), number=st.integers(0, 10**6), draw=st.integers(0, 1000))
def test_noise_is_a_function_of_seed_number_and_draw(seed: int, number: int, draw: int) -> None:
    alone = noise_of(seed, [number], draw, (3, 2))
    among = noise_of(seed, [number + 1, number], draw, (3, 2))
    assert torch.equal(alone[0], among[1])
    assert not torch.equal(among[0], among[1])
    assert not torch.equal(noise_of(seed, [number], draw + 1, (3, 2)), alone)


def test_noise_has_the_variance_of_the_formulas() -> None:
    noise = noise_of(3, range(4000), 0, (4,))
    assert abs(float(noise.mean())) < 0.03
    assert abs(float(noise.std()) - 1.0) < 0.02
    assert np.abs(np.corrcoef(noise.T.numpy()) - np.eye(4)).max() < 0.06


def test_drawing_takes_nothing_from_the_global_generators() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    diffusion = artefact()
    trained = network(diffusion)
    torch.set_rng_state(before)
    draw_samples(trained, FAMILY, diffusion, Sampling("ddpm", steps=3), [None] * 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_vectors_come_in_the_units_of_their_file() -> None:
    how = Sampling(steps=2)
    plain = values_of(how, [None] * 5, artefact(mean=None, scale=None))
    np.testing.assert_allclose(values_of(how, [None] * 5, artefact()), plain * [2.0, 0.5] + [5.0, -3.0], rtol=1e-5)


def test_guidance_goes_beyond_the_class_and_needs_one() -> None:
    diffusion, labels = artefact(3), [0, 1, 2, None]
    plain, guided = (values_of(Sampling(steps=3, guidance=w), labels, diffusion) for w in (1.0, 3.0))
    assert not np.allclose(plain[:3], guided[:3])
    np.testing.assert_allclose(plain[3], guided[3], rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="this model was trained without classes, so there is nothing to guide it to"):
        values_of(Sampling(guidance=2.0), [None], artefact())
    with pytest.raises(ConfigError, match="has learned no sample without its class"):
        values_of(Sampling(guidance=2.0), [0], artefact(3, condition_dropout=0.0))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no such sampler; did you mean 'ddim'"):
        values_of(Sampling("ddin"), [None], artefact())
    with pytest.raises(ConfigError, match="step"):
        values_of(Sampling(steps=0), [None], artefact())


# -- pictures ------------------------------------------------------------------------------------------------------


@given(count=st.integers(1, 400), classes=st.integers(0, 30))
def test_classes_are_drawn_equally_often_and_together(count: int, classes: int) -> None:
    labels = labels_in_turn(count, classes)
    assert len(labels) == count
    if not classes:
        assert set(labels) == {None}
        return
    numbers = [labels.count(label) for label in range(classes)]
    assert max(numbers) - min(numbers) <= 1
    assert labels == sorted(labels, key=lambda label: label or 0)


def test_classes_of_one_length_have_a_row_each() -> None:
    assert columns_for(labels_in_turn(80, 10)) == 8
    assert columns_for(labels_in_turn(16, 10)) == 4
    assert columns_for(labels_in_turn(64, 0)) == 8
    assert columns_for([3] * 10) == 4


@settings(max_examples=30)
@given(
    count=st.integers(1, 20), columns=st.integers(1, 6), sides=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    channels=st.sampled_from([1, 3, 4]),
)  # fmt: skip
def test_each_image_stands_in_its_place_of_the_grid(
    count: int, columns: int, sides: tuple[int, int], channels: int
) -> None:
    values = np.random.default_rng(0).uniform(-1.0, 1.0, (count, channels, *sides)).astype(np.float32)
    factor = max(1, -(-CELL // max(sides)))
    grid = np.asarray(grid_of(values, columns))
    pixels = pixels_of(values)
    height, width = sides[0] * factor, sides[1] * factor
    assert grid.shape == (-(-count // columns) * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3)
    for number in {0, count - 1, count // 2}:
        row, column = divmod(number, columns)
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        shown = grid[top : top + height : factor, left : left + width : factor]
        wanted = pixels[number] if channels == 3 else np.repeat(pixels[number][..., :1], 3, axis=2)
        assert np.array_equal(shown, wanted)


def test_values_become_bytes_without_a_shift() -> None:
    values = np.array([-1.0, 0.0, 1.0, -7.0, 7.0, np.nan, np.inf], np.float32).reshape(1, 1, 1, 7)
    assert pixels_of(values)[0, 0, :, 0].tolist() == [0, 128, 255, 0, 255, 0, 255]
    levels = np.arange(256, dtype=np.float32) / 127.5 - 1.0
    assert pixels_of(levels.reshape(1, 1, 16, 16)).reshape(-1).tolist() == list(range(256))


def test_a_grid_that_no_viewer_opens_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a grid of 4 images of 5000×5000 pixels has .*; draw fewer"):
        grid_of(np.zeros((4, 1, 5000, 5000), np.float32), 2)


@pytest.mark.parametrize("steps", [2, 5, 200])
def test_a_film_begins_with_noise_and_ends_with_the_samples(steps: int) -> None:
    diffusion = artefact()
    drawn = draw_samples(network(diffusion), FAMILY, diffusion, Sampling(steps=steps), [None] * 6, with_frames=True)
    assert len(drawn.frames) == min(steps, MOST_FRAMES) + 1
    assert np.array_equal(drawn.frames[-1], drawn.values)
    first = (drawn.frames[0] - [5.0, -3.0]) / [2.0, 0.5]
    np.testing.assert_allclose(first, noise_of(0, range(6), 0, (2,)).numpy(), rtol=1e-5, atol=1e-5)


def test_films_and_plots_are_files_that_viewers_open() -> None:
    draws = np.random.default_rng(0)
    images = [draws.uniform(-1.0, 1.0, (9, 1, 8, 8)).astype(np.float32) for _ in range(4)]
    film = Image.open(io.BytesIO(film_of(images, [None] * 9, None)))
    assert film.format == "GIF"
    assert film.n_frames == 4  # type: ignore[attr-defined]
    film.seek(3)
    assert film.info["duration"] > 1000
    for dimensions in (1, 2, 5):
        points = draws.normal(size=(50, dimensions)).astype(np.float32)
        labels = labels_in_turn(50, 3)
        plot = Image.open(io.BytesIO(picture_of(points, labels, ["a", "b", "c"], points + 0.1)))
        assert (plot.format, plot.size) == ("PNG", (540, 540))
    film = Image.open(io.BytesIO(film_of([points, points * 0.5], labels, None)))
    assert film.n_frames == 2  # type: ignore[attr-defined]
