"""The points of a surface, and the file that keeps it: for all inputs, not for some."""

from __future__ import annotations

import itertools
import math
import os
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_architecture import LIGHT, reached_on_import
from tools.landscape.grid import COARSE, axis, check_resolution, strides
from tools.landscape.surface import KEPT, Surface, dumps, read_file, read_surface, surface_path, write_surface
from training.errors import UserError

RESOLUTIONS = st.integers(1, 100).map(lambda number: COARSE * number + 1)
LENGTHS = st.just(0.0) | st.floats(1e-30, 1e30)


@given(RESOLUTIONS)
def test_grids_begin_with_5_x_5_and_keep_every_point_of_the_coarser_ones(resolution: int) -> None:
    found = strides(resolution)
    assert (resolution - 1) // found[0] == COARSE
    assert found[-1] == 1
    assert all(coarse % fine == 0 and coarse > fine for coarse, fine in itertools.pairwise(found))


@given(RESOLUTIONS, LENGTHS, LENGTHS)
def test_an_axis_covers_what_it_should_and_has_the_centre_on_every_grid(
    resolution: int, below: float, above: float
) -> None:
    if below == above == 0.0:
        return
    values = axis(-below, above, resolution)
    assert len(values) == resolution
    assert values[0] <= -below * (1.0 - 1e-12)
    assert values[-1] >= above * (1.0 - 1e-12)
    assert 0.0 in values[:: strides(resolution)[0]]
    assert np.allclose(np.diff(values), values[1] - values[0], rtol=1e-9)


@pytest.mark.parametrize(("resolution", "near"), [(1, 5), (4, 5), (10, 9), (24, 25), (26, 25), (1000, 401)])
def test_a_resolution_without_a_coarse_grid_in_it_is_refused_with_the_nearest(resolution: int, near: int) -> None:
    with pytest.raises(UserError, match=rf"--resolution {resolution}: .* the nearest is {near}$"):
        check_resolution(resolution)
    assert check_resolution(near) == near


# -- the file ------------------------------------------------------------------------------------------------------


def made_surface(resolution: int = 9, key: str = "00", **changes: Any) -> Surface:
    """Return a paraboloid with a path of three points."""
    alphas = betas = axis(-1.0, 1.0, resolution)
    return replace(
        Surface(
            alphas=alphas,
            betas=betas,
            losses=alphas[None, :] ** 2 + betas[:, None] ** 2,
            directions="pca",
            explained_variance=np.array([0.75, 0.125]),
            path_steps=np.array([0, 2, 4]),
            path_plane=np.array([[-0.5, 0.25], [-0.1, 0.3], [0.0, 0.0]]),
            path_distance=np.array([0.1, 0.2, 0.0]),
            path_loss=np.array([0.4, 0.2, 0.0]),
            path_plane_loss=np.array([0.3125, 0.1, 0.0]),
            center_step=4,
            center_loss=0.0,
            center="checkpoint_epoch_2",
            center_norm=3.0,
            probe_tokens=100,
            seconds=1.5,
            key=key,
        ),
        **changes,
    )


def same(one: Surface, other: Surface) -> bool:
    pairs = ((getattr(one, field.name), getattr(other, field.name)) for field in fields(Surface))
    return all(
        np.array_equal(a, b, equal_nan=a.dtype == np.float64) if isinstance(a, np.ndarray) else a == b for a, b in pairs
    )


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=25, max_size=25))
def test_every_number_comes_back_bit_for_bit(losses: list[float]) -> None:
    surface = made_surface(5, losses=np.array(losses).reshape(5, 5))
    with tempfile.TemporaryDirectory() as folder:
        path = surface_path(Path(folder), surface.key)
        write_surface(path, surface)
        assert same(read_file(path), surface)


def test_what_is_not_measured_and_what_is_not_finite_are_told_apart(tmp_path: Path) -> None:
    losses = made_surface(5).losses.copy()
    losses[0, 0], losses[1, 1] = math.nan, math.inf
    surface = made_surface(5, losses=losses, explained_variance=None, directions="random")
    write_surface(surface_path(tmp_path, "00"), surface)
    back = read_surface(tmp_path)
    assert back is not None
    assert same(back, surface)
    assert not back.finished
    assert "NaN" not in dumps(surface), "JSON that every reader understands"


def test_a_viewer_sees_the_finest_grid_that_is_whole(tmp_path: Path) -> None:
    surface = made_surface(25)
    holes = surface.losses.copy()
    holes[1, 1] = math.nan  # on the finest grid only
    write_surface(surface_path(tmp_path, "00"), replace(surface, losses=holes))
    back = read_surface(tmp_path)
    assert back is not None
    assert len(back.alphas) == len(back.betas) == 9
    assert np.array_equal(back.losses, surface.losses[::3, ::3])
    holes[0, 0] = math.nan
    write_surface(surface_path(tmp_path, "00"), replace(surface, losses=holes))
    coarsest = read_surface(tmp_path)
    assert coarsest is not None
    assert coarsest.losses.shape == (5, 5)
    assert np.isnan(coarsest.losses).sum() == 1


def test_a_viewer_sees_the_newest_surface_and_passes_over_what_is_none(tmp_path: Path) -> None:
    assert read_surface(tmp_path) is None
    for number, key in enumerate(("0a", "0b")):
        path = surface_path(tmp_path, key)
        write_surface(path, made_surface(key=key))
        os.utime(path, ns=(number, number))
    newest = read_surface(tmp_path)
    assert newest is not None
    assert newest.key == "0b"
    for name, content in (("x", "{"), ("y", '{"format": "apt-landscape", "version": 99}'), ("z", "[1]"), ("v", "null")):
        surface_path(tmp_path, name).write_text(content, encoding="utf-8")
    still = read_surface(tmp_path)
    assert still is not None
    assert still.key == "0b"


def test_old_surfaces_are_deleted(tmp_path: Path) -> None:
    for number in range(KEPT + 3):
        path = surface_path(tmp_path, f"{number:02d}")
        write_surface(path, made_surface(5, key=f"{number:02d}"))
        os.utime(path, ns=(number, number))
    kept = sorted(path.stem for path in (tmp_path / "landscape").iterdir())
    assert kept == [f"surface_{number:02d}" for number in range(3, KEPT + 3)]


def test_a_surface_is_read_without_torch() -> None:
    assert reached_on_import("tools.landscape.surface").isdisjoint(LIGHT)
