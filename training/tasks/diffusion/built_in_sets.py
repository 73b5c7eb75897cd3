"""Small sets that need no download: scikit-learn's digits, and points of the plane from a formula. No torch.

A set is the same in every run: its points come from a generator with a fixed seed, whatever the run's seed is, so that
runs with different seeds can be compared. `NAME:COUNT` asks for another number of points.

The plane sets `circle`, `line` and `moons` have the distributions of the sets of the same names of the project
tiny-diffusion (github.com/tanelp/tiny-diffusion, `datasets.py`), in its units and its number, so that distances between
distributions can be compared with its published figures. Their coordinates are drawn by our own code.
"""

from __future__ import annotations

import gzip
import importlib.util
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import ConfigError, DataError
from training.language.messages import Message
from training.tasks.diffusion.arrays import ArraySamples

POINT_SETS = ("circle", "line", "moons", "swiss_roll")
DIGITS = "digits"
BUILT_IN_SETS = (DIGITS, *POINT_SETS)
POINTS, FEWEST_POINTS, MOST_POINTS = 8000, 10, 10_000_000
"""Number of points of a plane set unless the user says another, and the limits of what may be asked for."""
SEED = 42
"""Seed of the points that a run learns from. For a comparison with a sample draw others by another seed."""
_NAME = re.compile(rf"({'|'.join(BUILT_IN_SETS)})(?::(.*))?", re.DOTALL)


def is_built_in(name: str) -> bool:
    """Return True for a name of a built-in set: `digits`, `moons`, `moons:20000`."""
    return _NAME.fullmatch(name) is not None


def built_in_set(name: str) -> ArraySamples:
    """Return a built-in set by name.

    Args:
        name: one that `is_built_in` accepts.

    Returns:
        Images (1797, 8, 8, 1) with 10 classes, or points (N, 2) without.

    Raises:
        DataError: the number of points is none that can be drawn.
        ConfigError: scikit-learn is not installed, which the digits come with.

    Example:
        >>> built_in_set("circle:100").values.shape
        (100, 2)
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no built-in set; there are {', '.join(BUILT_IN_SETS)}")
    kind, asked = match[1], match[2]
    if kind == DIGITS:
        if asked is not None:
            raise DataError(f"--datasets {name}: the digits are always the same 1,797; write {DIGITS}")
        return _digits()
    count = POINTS if asked is None else int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 12 else 0
    if not FEWEST_POINTS <= count <= MOST_POINTS:
        raise DataError(
            f"--datasets {name}: {asked!r} is no number of points; give {FEWEST_POINTS} to {MOST_POINTS}, such as "
            f"{kind}:{POINTS}"
        )
    return ArraySamples(kind, Message("points of the plane from a formula"), points(kind, count))


def points(name: str, count: int, seed: int = SEED) -> NDArray[np.float64]:
    """Draw points of one of `POINT_SETS`, the same for the same arguments.

    - `circle`: 16 directions and the center. A place of the grid {-2 … 2}² is drawn, each as likely, and moved to
      distance 3 from the center; then it moves by up to 0.09 in a direction that is drawn. So the center and the
      directions have 1/25 of the points each, those along the axes and diagonals 2/25.
    - `line`: uniform in the rectangle [-2, 2] × [-4, 4].
    - `moons`: two half circles at even angles, scikit-learn's `make_moons` with noise 0.03, stretched by 2 and 3.
    - `swiss_roll`: one and a half turns of a spiral, the plane in which scikit-learn's `make_swiss_roll` rolls, with
      noise 0.1, within [-4, 4].

    Args:
        name: one of `POINT_SETS`.
        count: number of points.
        seed: seed of the draws.

    Returns:
        Float64 (count, 2), in an order of the generator: neighbours in the array are not neighbours in the plane.
    """
    draws = np.random.Generator(np.random.Philox(seed))
    drawn = {"circle": _circle, "line": _line, "moons": _moons, "swiss_roll": _swiss_roll}[name](count, draws)
    # Sines of two C libraries differ in the last bit: rounding leaves the same bytes, so the same fingerprint.
    return np.asarray(np.round(drawn[draws.permutation(count)], 6) + 0.0, dtype=np.float64)


def _circle(count: int, draws: np.random.Generator) -> NDArray[np.float64]:
    places = draws.integers(-2, 3, size=(count, 2)).astype(np.float64)
    centers = places / np.maximum(np.hypot(places[:, 0], places[:, 1]), 1e-10)[:, None]
    radius = 0.03 * draws.random(count)
    moved: NDArray[np.float64] = centers + radius[:, None] * _on_circle(2 * np.pi * draws.random(count))
    return 3.0 * moved


def _line(count: int, draws: np.random.Generator) -> NDArray[np.float64]:
    rectangle: NDArray[np.float64] = (draws.random((count, 2)) - 0.5) * np.array([4.0, 8.0])
    return rectangle


def _moons(count: int, draws: np.random.Generator) -> NDArray[np.float64]:
    upper = count // 2
    outer = _on_circle(np.linspace(0.0, np.pi, upper))
    inner = np.array([1.0, 0.5]) - _on_circle(np.linspace(0.0, np.pi, count - upper))
    both: NDArray[np.float64] = np.concatenate([outer, inner]) + 0.03 * draws.standard_normal((count, 2))
    both = (both + 0.3) * np.array([2.0, 3.0]) - 1.0
    return both


def _swiss_roll(count: int, draws: np.random.Generator) -> NDArray[np.float64]:
    angle = 1.5 * np.pi * (1.0 + 2.0 * draws.random(count))
    spiral: NDArray[np.float64] = angle[:, None] * _on_circle(angle) + 0.1 * draws.standard_normal((count, 2))
    return spiral * (4.0 / (4.5 * np.pi))


def _on_circle(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _digits() -> ArraySamples:
    rows = _rows_of_digits()
    images = (rows[:, :64].reshape(-1, 8, 8, 1) / 8.0 - 1.0).astype(np.float32)
    return ArraySamples(
        DIGITS,
        Message("handwritten digits of scikit-learn, levels 0 to 16 as [-1, 1]"),
        images,
        rows[:, 64].astype(np.int64),
        tuple(map(str, range(10))),
    )


def _rows_of_digits() -> NDArray[np.float64]:
    """Return scikit-learn's digits, (1797, 65): 64 pixels of levels 0 to 16, and the class.

    The file that `load_digits` reads is read here where it lies: importing scikit-learn takes three seconds, in each of
    a run's processes.
    """
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            f"scikit-learn is not installed, which the set {DIGITS} comes with; run: pip install -e '.[diffusion]'"
        )
    path = Path(found.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    if path.is_file():
        with gzip.open(path, "rt", encoding="ascii") as file:
            return np.loadtxt(file, delimiter=",", dtype=np.float64)
    from sklearn.datasets import load_digits  # of a release that keeps it elsewhere

    digits = load_digits()
    return np.column_stack([digits.data, digits.target])
