"""The surface of a run: from the cache beside it, or measured, or gone on with."""

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
"""Of how a surface is measured: what was measured otherwise is not taken from the cache."""
MARGIN = 0.25
"""How far the rectangle of a PCA plane goes beyond the path, as a share of the path's own width."""


@dataclass(frozen=True)
class Settings:
    """What decides a surface, besides the run."""

    directions: Directions | None = None
    """None: pca where the run has a path, else random."""
    resolution: int = 25
    """Points of a side."""
    span: float = 1.0
    """Factor on the rectangle: of random directions it reaches from -span to span, of pca it holds the path."""
    num_samples: int = 64
    """Of the probe, at most."""
    seed: int = 0
    """Of the probe and of random directions."""
    checkpoint: Path | None = None
    """The centre; None: the newest weights."""
    datasets: Sequence[str] = ()
    """Where the run's data lies now; empty: where it was."""
    device: str = "auto"
    """cpu, cuda, mps, or the best one here."""


@dataclass(frozen=True)
class Result:
    """A surface and how it came about."""

    surface: Surface
    file: Path
    """Where it is kept."""
    forward_passes: int
    """Made now; 0: all of it was known."""
    num_samples: int
    """Of the probe."""


def study(
    run_dir: Path,
    settings: Settings,
    budget: Budget,
    on_surface: Callable[[Surface], None] = lambda surface: None,
) -> Result:
    """Measure a run's surface as far as the budget goes, and keep it beside the run.

    Args:
        run_dir: of any backend; the run may be at work.
        settings: what is measured.
        budget: reading and planning count too; the centre is measured in any case.
        on_surface: called with the surface whenever it was published.

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
    """16 hex digits of everything that a number of the surface depends on."""
    parts = (
        VERSION, weights.digest(), path.digest(), probe.digest, subject.step,
        subject.prepared.config.model.model_dump_json(),
        directions, settings.resolution, settings.span, settings.seed, weights.center.device.type,
    )  # fmt: skip
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def _read_if_there(file: Path) -> Surface | None:
    """What the cache has; a file that cannot be read is measured anew."""
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
    """Where will be measured: the grid, and the path with the centre in its place."""
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
