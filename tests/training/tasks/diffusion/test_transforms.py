"""Transforms of images: pure functions of the image and the draws, exact at the ends of the range."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from training.tasks.diffusion.transforms import Framing, Pixels, resized, square, to_values, with_channels

SHAPES = st.tuples(st.integers(2, 12), st.integers(2, 12), st.sampled_from([1, 3]))
LEVELS = arrays.arrays(np.uint8, SHAPES)
FLOATS = arrays.arrays(np.float32, SHAPES, elements=st.floats(-1, 1, width=32))
IMAGES = st.one_of(LEVELS, FLOATS)
FRAMINGS = st.builds(
    Framing, st.one_of(st.none(), st.integers(2, 16)), st.sampled_from(["center", "random"]), st.booleans()
)


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def framed(framing: Framing, pixels: Pixels, seed: int) -> bytes:
    draws = generator(seed)
    return to_values(framing.flipped(framing.drawn(pixels, draws), draws)).tobytes()


@settings(max_examples=30)
@given(pixels=IMAGES, framing=FRAMINGS, seed=st.integers(0, 2**64 - 1))
def test_a_sample_is_a_pure_function_of_the_image_and_the_seed(pixels: Pixels, framing: Framing, seed: int) -> None:
    before = pixels.copy()
    first = framed(framing, pixels, seed)
    framed(framing, pixels, seed + 1 & 2**64 - 1)
    assert framed(framing, pixels, seed) == first
    np.testing.assert_array_equal(pixels, before)


@settings(max_examples=30)
@given(pixels=IMAGES, other=IMAGES, framing=FRAMINGS, seed=st.integers(0, 2**64 - 1))
def test_what_is_drawn_after_an_image_does_not_depend_on_it(
    pixels: Pixels, other: Pixels, framing: Framing, seed: int
) -> None:
    after = []
    for image in (pixels, other):
        draws = generator(seed)
        framing.flipped(framing.drawn(image, draws), draws)
        after.append(draws.random())
    assert after[0] == after[1]


@settings(max_examples=30)
@given(pixels=IMAGES, size=st.integers(2, 16))
def test_values_stay_in_range_at_any_size(pixels: Pixels, size: int) -> None:
    values = to_values(Framing(size).centered(pixels))
    assert values.shape == (pixels.shape[2], size, size)
    assert values.dtype == np.float32
    assert -1 <= values.min() <= values.max() <= 1


@settings(max_examples=30)
@given(pixels=LEVELS)
def test_levels_are_divided_by_half_of_255_and_come_back_exactly(pixels: NDArray[np.uint8]) -> None:
    values = to_values(pixels)
    np.testing.assert_array_equal(values, (np.moveaxis(pixels, 2, 0) / 127.5 - 1).astype(np.float32))
    np.testing.assert_array_equal(np.rint((values + 1) * 127.5).astype(np.uint8), np.moveaxis(pixels, 2, 0))


@given(pixels=IMAGES, place=st.one_of(st.none(), st.floats(0, 1, exclude_max=True)))
@settings(max_examples=30)
def test_a_square_is_a_part_of_the_image_of_its_shorter_side(pixels: Pixels, place: float | None) -> None:
    height, width, _ = pixels.shape
    side = min(height, width)
    part = square(pixels, place)
    assert part.shape[:2] == (side, side)
    starts = [(top, left) for top in range(height - side + 1) for left in range(width - side + 1)]
    assert any(np.array_equal(pixels[top : top + side, left : left + side], part) for top, left in starts)


def test_every_place_of_a_random_crop_is_as_likely_and_the_center_is_the_middle_one() -> None:
    pixels = np.arange(2 * 7, dtype=np.uint8).reshape(2, 7, 1)
    starts = [int(square(pixels, place)[0, 0, 0]) for place in np.linspace(0, 1, 600, endpoint=False)]
    assert np.bincount(starts).tolist() == [100] * 6
    assert int(square(np.moveaxis(pixels, 0, 1), None)[0, 0, 0]) == 2


@pytest.mark.parametrize("crop", ["center", "random"])
def test_half_of_the_draws_flip_an_image_left_to_right(crop: Literal["center", "random"]) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    framing = Framing(2, crop, flip=True)
    seen = [framed(framing, pixels, seed) for seed in range(400)]
    straight, mirrored = to_values(pixels).tobytes(), to_values(pixels[:, ::-1]).tobytes()
    assert set(seen) == {straight, mirrored}
    assert 160 < seen.count(mirrored) < 240
    assert framing.flipped(pixels, None) is pixels, "validation flips nothing"


@given(pixels=LEVELS, channels=st.sampled_from([1, 3]))
@settings(max_examples=30)
def test_gray_and_colors_become_each_other_as_pillow_does_it(pixels: NDArray[np.uint8], channels: int) -> None:
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    expected = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(*pixels.shape[:2], channels)
    np.testing.assert_array_equal(with_channels(pixels, channels), expected)


def test_gray_of_floats_is_that_of_levels() -> None:
    pixels = np.random.Generator(np.random.Philox(1)).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    floats = np.moveaxis(to_values(pixels), 0, 2)
    np.testing.assert_allclose(
        to_values(with_channels(floats, 1)), to_values(with_channels(pixels, 1)), atol=0.51 / 127.5
    )


@given(level=st.integers(0, 255), shape=SHAPES, size=st.integers(2, 16))
@settings(max_examples=30)
def test_an_even_image_stays_even_at_any_size(level: int, shape: tuple[int, int, int], size: int) -> None:
    assert (resized(square(np.full(shape, level, dtype=np.uint8), None), size) == level).all()


def test_shrinking_averages_over_all_pixels() -> None:
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))[:, :, None]
    small = resized(stripes, 8)
    assert abs(small.astype(int) - 127).max() <= 12, "a filter without averaging takes black or white stripes alone"
