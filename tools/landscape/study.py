"""The surface of a run: read from the cache in its directory, or measured, or continued."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tools.landscape.directions import Plane, path_plane, project, random_plane
from tools.landscape.flat_weights import FlatWeights
from tools.landscape.grid import axis
from tools.landscape.measurement import Budget, Measurement
from tools.landscape.path import WeightPath
from tools.landscape.probe import Probe
from tools.landscape.subject import Subject, find_subject
from tools.landscape.surface import Directions, Floats, Surface, check_kept, read_file, surface_path, write_surface
from training.errors import UserError
from training.machine.device import pick_device

VERSION = 1
"""Version of the measuring method: a surface of another version is not taken from the cache."""
MARGIN = 0.25
"""Margin of the rectangle of a PCA plane around the path, as a share of the path's own width."""


@dataclass(frozen=True)
class Settings:
    """The settings that decide a surface, in addition to the run."""

    directions: Directions | None = None
    """None: pca where the run has a path, else random."""
    resolution: int = 25
    """Points per side of the finest grid."""
    span: float = 1.0
    """Factor on the size of the rectangle: from -1 to 1 for random directions, around the path for pca."""
    num_samples: int = 64
    """Samples of the probe at most."""
    seed: int = 0
    """Seed of the probe and of random directions."""
    checkpoint: Path | None = None
    """Weights at the centre; None: the newest."""
    datasets: Sequence[str] = ()
    """Present paths of the run's data files; empty: they have not moved."""
    device: str = "auto"
    """cpu, cuda, mps, or the best one here."""


@dataclass(frozen=True)
class Result:
    """A surface, and how it was obtained."""

    surface: Surface
    file: Path
    """The file that keeps it."""
    forward_passes: int
    """Forward passes of this call; 0: everything was known already."""
    num_samples: int
    """Samples of the probe."""


def study(
    run_dir: Path,
    settings: Settings,
    budget: Budget,
    on_surface: Callable[[Surface], None] = lambda surface: None,
) -> Result:
    """Measure a run's surface as far as the budget goes, and keep it in the run's directory.

    Args:
        run_dir: run directory of any backend; the run may still be training.
        settings: the settings of the surface.
        budget: the time to spend, reading and planning included; the centre is measured in any case.
        on_surface: called with the surface each time it was published.

    Raises:
        UserError: there is nothing to measure yet, or it cannot be read, or the result cannot be written.
    """
    subject = find_subject(run_dir, settings.checkpoint, settings.datasets)
    device = pick_device(settings.device)
    model = subject.model.to(device)
    prepared = subject.prepared
    probe = Probe(prepared.objective, prepared.train, settings.num_samples, settings.seed, device)
    weights, directions = FlatWeights(model), settings.directions
    path = WeightPath(subject.snapshots, weights)
    if directions is None:
        directions = "pca" if len(path) >= 2 else "random"
    file = surface_path(run_dir, _key(settings, directions, subject, weights, path, probe))
    known = _read_if_there(file)
    if known is not None:
        known = replace(known, center=subject.origin.name)  # the same weights may lie in another file now
        if known.finished:
            return Result(known, file, 0, probe.num_samples)
    check_kept(file)
    plane = path_plane(weights, path) if directions == "pca" else random_plane(weights, settings.seed)
    if known is None:
        known = _unmeasured(settings, directions, subject, weights, plane, path, probe, file.stem.partition("_")[2])

    def publish(surface: Surface) -> None:
        write_surface(file, surface)
        on_surface(surface)

    measurement = Measurement(weights, lambda: probe.loss(model), plane, path, known, publish)
    return Result(measurement.run(budget), file, measurement.forward_passes, probe.num_samples)


def _key(
    settings: Settings, directions: Directions, subject: Subject, weights: FlatWeights, path: WeightPath, probe: Probe
) -> str:
    """Return 16 hex digits, a hash of everything that a number of the surface depends on."""
    parts = (
        VERSION, weights.digest(), path.digest(), probe.digest, subject.step,
        subject.prepared.config.model.model_dump_json(),
        directions, settings.resolution, settings.span, settings.seed, weights.center.device.type,
    )  # fmt: skip
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def _read_if_there(file: Path) -> Surface | None:
    """Return the surface in the cache; None where it cannot be read, so that it is measured again."""
    try:
        return read_file(file)
    except UserError:
        return None


def _unmeasured(
    settings: Settings,
    directions: Directions,
    subject: Subject,
    weights: FlatWeights,
    plane: Plane,
    path: WeightPath,
    probe: Probe,
    key: str,
) -> Surface:
    """Return the points to be measured: the grid, and the path with the centre in its place."""
    projection = project(plane, path)
    steps = np.array([snapshot.step for snapshot in path.snapshots], dtype=np.int64)
    place = int(np.searchsorted(steps, subject.step))
    on_plane = np.insert(projection.on_plane, place, 0.0, axis=0)
    alphas, betas = (
        _axis_of(on_plane[:, side] if directions == "pca" else np.array([-1.0, 1.0]), directions, settings)
        for side in (0, 1)
    )
    return Surface(
        alphas=alphas,
        betas=betas,
        losses=np.full((len(betas), len(alphas)), math.nan),
        directions=directions,
        explained_variance=plane.explained_variance,
        path_steps=np.insert(steps, place, subject.step),
        path_plane=on_plane,
        path_distance=np.insert(projection.distance, place, 0.0),
        path_loss=np.full(len(steps) + 1, math.nan),
        path_plane_loss=np.full(len(steps) + 1, math.nan),
        center_step=subject.step,
        center_loss=math.nan,
        center=subject.origin.name,
        center_norm=float(weights.center.cpu().double().norm()),
        probe_tokens=probe.num_tokens,
        seconds=0.0,
        key=key,
    )


def _axis_of(points: Floats, directions: Directions, settings: Settings) -> Floats:
    low, high = min(0.0, float(points.min())), max(0.0, float(points.max()))
    margin = MARGIN * (high - low) if directions == "pca" else 0.0
    return axis((low - margin) * settings.span, (high + margin) * settings.span, settings.resolution)
