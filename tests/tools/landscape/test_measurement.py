"""The surface of a quadratic model is known in closed form; what is measured must be that, and leave no trace."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from tools.landscape.directions import Plane, path_plane, project, random_plane
from tools.landscape.flat_weights import FlatWeights
from tools.landscape.grid import axis
from tools.landscape.measurement import Budget, Measurement
from tools.landscape.path import Snapshot, WeightPath
from tools.landscape.surface import Surface
from training.errors import CheckpointError, UserError


class Quadratic(nn.Module):
    """Loss 1/2 sum c (w - m)^2 over all its weights."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(7)
        for name, shape in (("matrix", (3, 5)), ("other", (7, 2)), ("gain", (5,)), ("filters", (2, 3, 2))):
            weight = torch.randn(shape, generator=draw, dtype=torch.float64)
            self.register_parameter(name, nn.Parameter(weight))
        self.calls = 0

    def forward(self) -> Tensor:
        self.calls += 1
        terms = [
            (torch.arange(1, p.numel() + 1, dtype=p.dtype) * (p.reshape(-1) - 0.5).square()).sum()
            for p in self.parameters()
        ]
        return torch.stack(terms).sum() / 2.0


def closed_form(vector: Tensor, weights: FlatWeights) -> float:
    """Return the loss of a vector of weights, without a module."""
    total = 0.0
    for place in weights.places:
        numbers = vector[place.part].numpy()
        total += float((np.arange(1, len(numbers) + 1) * np.square(numbers - 0.5)).sum()) / 2.0
    return total


class Clock:
    """A clock that advances only when the loss is computed."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A quadratic model with all that is needed to measure it."""

    def __init__(self, folder: Path, resolution: int = 9) -> None:
        self.model = Quadratic()
        self.weights = FlatWeights(self.model)
        self.path = self._walk(folder)
        self.plane = random_plane(self.weights, seed=3)
        self.clock = Clock()
        self.published: list[Surface] = []
        nothing = np.full(len(self.path), math.nan)
        self.unmeasured = Surface(
            alphas=axis(-1.0, 1.0, resolution),
            betas=axis(-0.5, 0.75, resolution),
            losses=np.full((resolution, resolution), math.nan),
            directions="random",
            explained_variance=None,
            path_steps=np.array([s.step for s in self.path.snapshots]),
            path_plane=project(self.plane, self.path).on_plane,
            path_distance=project(self.plane, self.path).distance,
            path_loss=nothing,
            path_plane_loss=nothing,
            center_step=99,
            center_loss=math.nan,
            center="here",
            center_norm=1.0,
            probe_tokens=1,
            seconds=0.0,
            key="0",
        )

    def _walk(self, folder: Path) -> WeightPath:
        draw = torch.Generator().manual_seed(1)
        snapshots = []
        for step in range(4):
            moved = {
                name: (p.detach() + torch.randn(p.shape, generator=draw, dtype=p.dtype)).bfloat16()
                for name, p in self.model.named_parameters()
            }
            save_file(moved, folder / f"{step}.safetensors")
            snapshots.append(Snapshot(step, folder / f"{step}.safetensors"))
        return WeightPath(snapshots, self.weights)

    def loss(self) -> float:
        self.clock.now += 1.0
        return float(self.model().detach())

    def measure(
        self, known: Surface | None = None, seconds: float = 1e9, loss: Callable[[], float] | None = None
    ) -> Surface:
        measurement = Measurement(
            self.weights, loss or self.loss, self.plane, self.path, known or self.unmeasured, self.published.append
        )
        return measurement.run(Budget(seconds, self.clock))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# -- what is measured ----------------------------------------------------------------------------------------------


def test_the_surface_of_a_quadratic_model_is_its_closed_form(bench: Bench) -> None:
    surface = bench.measure()
    center, plane, weights = bench.weights.center, bench.plane, bench.weights
    for row, beta in enumerate(surface.betas):
        for column, alpha in enumerate(surface.alphas):
            expected = closed_form(center + alpha * plane.first + beta * plane.second, weights)
            assert surface.losses[row, column] == pytest.approx(expected, rel=1e-12)
    for number, (alpha, beta) in enumerate(surface.path_plane):
        true = closed_form(bench.path.vector(number), weights)
        assert surface.path_loss[number] == pytest.approx(true, rel=1e-12)
        nearest = closed_form(center + alpha * plane.first + beta * plane.second, weights)
        assert surface.path_plane_loss[number] == pytest.approx(nearest, rel=1e-12)
    assert surface.finished


def test_the_origin_is_the_loss_of_the_weights_as_they_are(bench: Bench) -> None:
    as_they_are = float(bench.model().detach())
    surface = bench.measure()
    assert surface.center_loss == as_they_are
    assert surface.losses[surface.betas == 0.0, surface.alphas == 0.0].tolist() == [as_they_are]


def test_the_weights_are_bit_identical_afterwards_and_in_the_same_memory(bench: Bench) -> None:
    before = [(p.data_ptr(), p.detach().clone()) for p in bench.model.parameters()]
    bench.measure()

    def fails() -> float:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bench.measure(loss=fails)
    after = [(p.data_ptr(), p.detach()) for p in bench.model.parameters()]
    assert all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in zip(before, after, strict=True))


def test_two_measurements_give_the_same_numbers(bench: Bench) -> None:
    one, other = bench.measure(), bench.measure()
    assert np.array_equal(one.losses, other.losses)
    assert np.array_equal(one.path_loss, other.path_loss)


def test_no_point_is_measured_twice(bench: Bench) -> None:
    bench.measure()
    # 9 x 9 points, one of them the centre, and four points of the path, each there and on the plane.
    assert bench.model.calls == 81 + 2 * 4


def test_what_is_not_finite_is_told_from_what_is_not_measured(bench: Bench) -> None:
    surface = bench.measure(loss=lambda: math.nan)
    assert np.isinf(surface.losses).all()
    assert surface.finished


# -- the budget ----------------------------------------------------------------------------------------------------


def test_coarse_comes_before_fine_and_each_is_published_whole(bench: Bench) -> None:
    bench.measure()
    sides = [len(surface.finest().alphas) for surface in bench.published if not np.isnan(surface.finest().losses).any()]
    assert sides == sorted(sides)
    assert {5, 9} == set(sides)
    with_path = next(s for s in bench.published if not np.isnan(s.path_loss).any())
    assert len(with_path.finest().alphas) == 5, "the path comes before the finer grids"


@pytest.mark.parametrize("seconds", [0.5, 1.0, 7.0, 25.0, 40.0, 88.0])
def test_the_budget_is_kept_and_the_next_call_goes_on(bench: Bench, seconds: float) -> None:
    whole = Bench(bench.path.snapshots[0].file.parent).measure()
    surface = bench.measure(seconds=seconds)
    assert bench.clock.now - 100.0 <= max(1.0, seconds), "a forward pass takes one second; the centre's is always made"
    assert not surface.finished
    assert np.array_equal(bench.published[-1].losses, surface.losses, equal_nan=True)
    assert surface.center_loss == whole.center_loss
    calls = bench.model.calls
    finished = bench.measure(surface)
    assert bench.model.calls == 89, f"{calls} were not made again"
    assert np.array_equal(finished.losses, whole.losses)
    assert np.array_equal(finished.path_plane_loss, whole.path_plane_loss)
    assert finished.seconds == 89.0


def test_a_finished_surface_is_not_measured_again(bench: Bench) -> None:
    finished = bench.measure()
    calls = bench.model.calls
    assert bench.measure(finished).finished
    assert bench.model.calls == calls


# -- directions ----------------------------------------------------------------------------------------------------


def test_random_directions_have_the_norm_of_the_weights_in_every_filter_and_leave_vectors_alone(bench: Bench) -> None:
    with torch.no_grad():
        bench.model.get_parameter("matrix")[1] = 0.0
    weights = FlatWeights(bench.model)
    plane = random_plane(weights, seed=5)
    for direction in (plane.first, plane.second):
        for name, shape, part in weights.places:
            piece, own = direction[part].view(shape), weights.center[part].view(shape)
            if name == "gain":
                assert not piece.any()
            else:
                assert torch.allclose(piece.flatten(1).norm(dim=1), own.flatten(1).norm(dim=1), rtol=1e-12)
                assert not torch.allclose(piece, own)
    assert plane.explained_variance is None
    assert torch.equal(random_plane(weights, 5).second, plane.second)
    assert not torch.equal(random_plane(weights, 6).first, plane.first)
    assert not torch.equal(plane.first, plane.second)


def numbers_of(path: WeightPath, weights: FlatWeights) -> NDArray[np.float64]:
    offsets = [path.vector(number) - weights.center for number in range(len(path))]
    return torch.stack(offsets).numpy()


def test_the_main_directions_are_those_of_a_singular_value_decomposition(bench: Bench) -> None:
    plane = path_plane(bench.weights, bench.path)
    offsets = numbers_of(bench.path, bench.weights)
    _, values, rows = np.linalg.svd(offsets, full_matrices=False)
    assert plane.explained_variance is not None
    assert np.allclose(plane.explained_variance, (values**2 / (values**2).sum())[:2])
    for direction, row in zip((plane.first, plane.second), rows, strict=False):
        assert abs(float(direction.numpy() @ row)) == pytest.approx(1.0)
    projection = project(plane, bench.path)
    assert (projection.on_plane[0] <= 0.0).all(), "the path begins where both are negative"
    # What the plane does not explain is what lies off it.
    unexplained = (projection.distance**2).sum() / (offsets**2).sum()
    assert 1.0 - plane.explained_variance.sum() == pytest.approx(unexplained)


def test_the_nearest_points_are_nearest_in_a_skewed_plane_too(bench: Bench) -> None:
    first, second = bench.plane.first, 0.8 * bench.plane.first + 0.1 * bench.plane.second
    projection = project(Plane(first, second, None), bench.path)
    basis = torch.stack([first, second]).numpy().T
    offsets = numbers_of(bench.path, bench.weights)
    expected, *_ = np.linalg.lstsq(basis, offsets.T, rcond=None)
    assert np.allclose(projection.on_plane, expected.T, rtol=1e-6)
    assert np.allclose(projection.distance, np.linalg.norm(offsets.T - basis @ expected, axis=0))


def test_a_path_that_has_no_plane_is_refused(bench: Bench, tmp_path: Path) -> None:
    one = WeightPath(bench.path.snapshots[:1], bench.weights)
    with pytest.raises(UserError, match="needs two snapshots besides the centre, and there are 1"):
        path_plane(bench.weights, one)
    line = []
    for step, factor in enumerate((0.0, 0.5)):
        moved = {name: p.detach() * factor for name, p in bench.model.named_parameters()}
        save_file(moved, tmp_path / f"line_{step}.safetensors")
        line.append(Snapshot(step, tmp_path / f"line_{step}.safetensors"))
    with pytest.raises(UserError, match="a straight line"):
        path_plane(bench.weights, WeightPath(line, bench.weights))


def test_a_snapshot_that_is_damaged_or_another_models_is_named(bench: Bench) -> None:
    bench.path.snapshots[2].file.write_bytes(b"not a snapshot")
    with pytest.raises(CheckpointError, match=r"2\.safetensors: the snapshot cannot be read"):
        path_plane(bench.weights, bench.path)
    other = {name: torch.zeros(1) for name, _ in bench.model.named_parameters()}
    save_file(other, bench.path.snapshots[1].file)
    with pytest.raises(CheckpointError, match=r"1\.safetensors: matrix should have the shape \(3, 5\)"):
        bench.path.vector(1)


def test_parameters_begin_where_kernels_like_them_to(bench: Bench) -> None:
    assert all(place.part.start % 64 == 0 for place in bench.weights.places)
    vector = bench.weights.vector(dict(bench.model.named_parameters()), "here")
    assert torch.equal(vector, bench.weights.center)


def test_a_changed_weight_changes_the_digest(bench: Bench) -> None:
    before, path_before = bench.weights.digest(), bench.path.digest()
    with torch.no_grad():
        bench.model.get_parameter("gain")[4] += 1e-15
    assert FlatWeights(bench.model).digest() != before
    data = bench.path.snapshots[3].file.read_bytes()
    bench.path.snapshots[3].file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert bench.path.digest() != path_before


def test_a_surface_that_is_gone_on_with_is_not_written_to(bench: Bench) -> None:
    partial = bench.measure(seconds=10.0)
    copy = replace(partial, losses=partial.losses.copy())
    bench.measure(partial)
    assert np.array_equal(partial.losses, copy.losses, equal_nan=True)
