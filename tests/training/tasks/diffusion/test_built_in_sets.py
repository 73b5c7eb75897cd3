"""Built-in sets: the same in every run, and of the published distributions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.errors import UserError
from training.tasks.diffusion.built_in_sets import POINT_SETS, built_in_set, is_built_in, points


@settings(max_examples=30)
@given(name=st.sampled_from(POINT_SETS), count=st.integers(10, 300), seed=st.integers(0, 2**32))
def test_points_depend_on_their_arguments_alone(name: str, count: int, seed: int) -> None:
    drawn = points(name, count, seed)
    assert drawn.shape == (count, 2)
    assert np.abs(drawn).max() < 6
    assert drawn.tobytes() == points(name, count, seed).tobytes()
    assert drawn.tobytes() != points(name, count, seed + 1).tobytes()


def test_the_circle_has_sixteen_directions_and_a_center_as_the_published_set_has() -> None:
    drawn = points("circle", 25_000)
    radius = np.hypot(drawn[:, 0], drawn[:, 1])
    assert ((radius < 0.0901) | (np.abs(radius - 3) < 0.0901)).all()
    assert (radius < 0.0901).mean() == pytest.approx(1 / 25, abs=0.005)
    angle = np.arctan2(drawn[:, 1], drawn[:, 0])[radius > 1]
    places = [(x, y) for x in range(-2, 3) for y in range(-2, 3) if (x, y) != (0, 0)]
    directions, weights = np.unique(np.round([np.arctan2(y, x) for x, y in places], 9), return_counts=True)
    assert len(directions) == 16
    nearest = np.abs(np.angle(np.exp(1j * (angle[:, None] - directions)))).argmin(axis=1)
    shares = np.bincount(nearest, minlength=16) / len(drawn)
    np.testing.assert_allclose(shares, weights / 25, atol=0.007)


def test_the_line_fills_its_rectangle() -> None:
    drawn = points("line", 8000)
    np.testing.assert_allclose(drawn.std(axis=0), [4 / 12**0.5, 8 / 12**0.5], rtol=0.02)
    assert (np.abs(drawn) <= [2, 4]).all()


def test_the_moons_are_two_half_circles_stretched_as_the_published_set_is() -> None:
    drawn = (points("moons", 8000) + 1) / [2, 3] - 0.3
    lower = np.abs(np.hypot(drawn[:, 0] - 1, drawn[:, 1] - 0.5) - 1) < 0.15
    upper = np.abs(np.hypot(drawn[:, 0], drawn[:, 1]) - 1) < 0.15
    assert (lower | upper).all()
    lower &= drawn[:, 1] < 0.5 + 0.15
    upper &= drawn[:, 1] > -0.15
    assert (lower | upper).all()
    assert upper.mean() == pytest.approx(0.5, abs=0.05)
    radius = np.hypot(*drawn[upper & ~lower].T)
    assert radius.std() == pytest.approx(0.03, abs=0.003)


def test_the_swiss_roll_is_a_spiral() -> None:
    drawn = points("swiss_roll", 4000) / (4 / (4.5 * np.pi))
    radius, angle = np.hypot(drawn[:, 0], drawn[:, 1]), np.arctan2(drawn[:, 1], drawn[:, 0])
    turns = (radius - angle) / (2 * np.pi)
    assert np.abs(turns - np.round(turns)).max() < 0.1
    assert 4.2 < radius.min() < 5
    assert 13.8 < radius.max() < 14.7


def test_the_digits_are_images_in_the_range_of_images() -> None:
    digits = built_in_set("digits")
    assert digits.values.shape == (1797, 8, 8, 1)
    assert (digits.values.min(), digits.values.max()) == (-1, 1)
    assert digits.class_names == tuple("0123456789")


@pytest.mark.slow
def test_the_digits_are_those_that_scikit_learn_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.datasets import load_digits

    digits, theirs = built_in_set("digits"), load_digits()
    np.testing.assert_array_equal((digits.values[..., 0] + 1) * 8, theirs.images)
    assert digits.labels is not None
    np.testing.assert_array_equal(digits.labels, theirs.target)
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    assert built_in_set("digits").content == digits.content


def test_digits_without_scikit_learn_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^scikit-learn is not installed, which the set digits comes with; run: pip"):
        built_in_set("digits")


@pytest.mark.parametrize("name", ["digits", "moons", "circle:50", "line:x", "swiss_roll:"])
def test_names_of_built_in_sets(name: str) -> None:
    assert is_built_in(name)


@pytest.mark.parametrize("name", ["digit", "./digits", "moons.npz", "xmoons", "MOONS", ""])
def test_names_of_something_else(name: str) -> None:
    assert not is_built_in(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digits:100", "always the same 1,797"),
        ("circle:", "'' is no number of points; give 10 to 10000000, such as circle:8000"),
        ("line:9", "'9' is no number of points"),
        ("moons:-20", "no number of points"),
        ("moons:²", "no number of points"),
        ("moons:100000000000000000000", "no number of points"),
    ],
)
def test_a_number_of_points_that_cannot_be_is_refused(name: str, words: str) -> None:
    with pytest.raises(UserError, match=r"^--datasets ") as caught:
        built_in_set(name)
    assert words in str(caught.value)
