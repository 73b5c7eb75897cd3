"""A measured loss surface, and the file that keeps it in its run's directory. No torch: it is read in milliseconds.

    RUN/landscape/surface_<key>.json

The key is a hash of the weights, the probe and the settings. A growing surface is published again and again, each time
as a whole file. Numbers are exact, bit for bit; `null`: not measured yet, `"inf"`: the loss is not finite.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tools.figures.output_file import write_atomically
from tools.landscape.directory import LANDSCAPE_NAME
from tools.landscape.grid import strides
from training.errors import UserError
from training.storage.json_files import DamagedFileError, as_declared, read_json

FORMAT = "apt-landscape"
VERSION = 1
KEPT = 16
"""Surfaces that are kept for a run; older ones are deleted."""

Directions = Literal["pca", "random"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Surface:
    """The losses on a plane through a run's weights, and the run's path projected onto it.

    The point (a, b) stands for the weights `centre + a * first direction + b * second direction`.
    """

    alphas: Floats
    """(A,) along the first direction; 0 is among them."""
    betas: Floats
    """(B,) along the second."""
    losses: Floats
    """(B, A) mean loss of a probe token; nan: not measured yet, inf: not finite."""
    directions: Directions
    explained_variance: Floats | None
    """(2,) shares, 0 to 1, of the path's squared distance from the centre along each direction; None: random ones."""
    path_steps: NDArray[np.int64]
    """(P,) updates done at each point of the path, ascending; the centre is one of them."""
    path_plane: Floats
    """(P, 2) coordinates of the nearest point of the plane."""
    path_distance: Floats
    """(P,) distance to that point, as a Euclidean distance of weights."""
    path_loss: Floats
    """(P,) the true loss there, off the plane; nan: not measured yet."""
    path_plane_loss: Floats
    """(P,) the loss of the nearest point of the plane; nan: not measured yet."""
    center_step: int
    center_loss: float
    center: str
    """The file or directory whose weights these are."""
    center_norm: float
    """Euclidean length of its weights, to compare distances with."""
    probe_tokens: int
    """Tokens whose losses are averaged."""
    seconds: float
    """Seconds spent on measuring, over all commands that took part."""
    key: str

    @property
    def resolution(self) -> int:
        """Points per side, measured or not."""
        return len(self.alphas)

    @property
    def finished(self) -> bool:
        """True if every point of grid and path is measured."""
        return not any(np.isnan(a).any() for a in (self.losses, self.path_loss, self.path_plane_loss))

    def finest(self) -> Surface:
        """Return the finest grid of which every point is measured; if there is none, the coarsest with its gaps."""
        grids = [self.every(stride) for stride in strides(self.resolution)]
        whole = [grid for grid in grids if not np.isnan(grid.losses).any()]
        return whole[-1] if whole else grids[0]

    def every(self, stride: int) -> Surface:
        """Return the coarser grid of every `stride`-th point."""
        return replace(
            self,
            alphas=self.alphas[::stride],
            betas=self.betas[::stride],
            losses=self.losses[::stride, ::stride],
        )


def read_surface(run_dir: Path, since: float = 0.0) -> Surface | None:
    """Return the newest surface of a run, as far as it is measured (`Surface.finest`); None: there is none.

    A file that cannot be read is skipped: another version wrote it, it is not a surface, or the disk refuses it now.

    Args:
        run_dir: the run directory.
        since: Unix seconds; an older surface belongs to an earlier run in the same directory.
    """
    for path in _newest_first(run_dir, since):
        try:
            return read_file(path).finest()
        except UserError:
            continue
    return None


def surface_path(run_dir: Path, key: str) -> Path:
    """Return the file that keeps the surface with this key."""
    return run_dir / LANDSCAPE_NAME / f"surface_{key}.json"


def check_kept(path: Path) -> None:
    """Refuse a place that cannot keep a surface before the surface is measured, not after.

    Raises:
        UserError: it cannot be written to.
    """
    folder = path.parent
    above = folder if folder.is_dir() else folder.parent
    if not os.access(above, os.W_OK):
        raise UserError(f"{folder}: surfaces are kept there, and it cannot be written to; measure a copy of the run")


def write_surface(path: Path, surface: Surface) -> None:
    """Publish a surface: a reader sees the old file or the new one, whole.

    Raises:
        UserError: the disk is full or refuses.
    """
    try:
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, (dumps(surface) + "\n").encode())
        for old in _newest_first(path.parent.parent)[KEPT:]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: the surface could not be written ({error.strerror})") from error


Figures = Sequence[float | Literal["inf"] | None]


@dataclass(frozen=True)
class _Kept:
    """Schema of the file."""

    format: str
    version: int
    alphas: Sequence[float]
    betas: Sequence[float]
    losses: Sequence[Figures]
    directions: Directions
    explained_variance: tuple[float, float] | None
    path_steps: Sequence[int]
    path_plane: Sequence[tuple[float, float]]
    path_distance: Sequence[float]
    path_loss: Figures
    path_plane_loss: Figures
    center_step: int
    center_loss: float | Literal["inf"] | None
    center: str
    center_norm: float
    probe_tokens: int
    seconds: float
    key: str


def read_file(path: Path) -> Surface:
    """Read the whole surface in a file, gaps included.

    Raises:
        UserError: the file is missing, damaged, or not a surface of this version.
    """
    try:
        document = read_json(path)
        kept = as_declared(document, _Kept, path)
        if kept.format != FORMAT or kept.version != VERSION:
            raise ValueError("another format or version")
        return _from_document(document)
    except OSError as error:
        raise UserError(f"{path}: not a readable loss surface ({error.strerror})") from error
    except DamagedFileError as error:
        raise UserError(f"{error}; this is not a readable loss surface") from error
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}: not a readable loss surface ({error})") from error


def dumps(surface: Surface) -> str:
    """Return the surface as JSON."""
    document = {"format": FORMAT, "version": VERSION}
    for name, value in asdict(surface).items():
        document[name] = _plain(value.tolist() if isinstance(value, np.ndarray) else value)
    return json.dumps(document, ensure_ascii=False, allow_nan=False)


def _from_document(document: dict[str, Any]) -> Surface:
    values: dict[str, Any] = {}
    for field in fields(Surface):
        value = document[field.name]
        if field.name == "path_steps":
            value = np.array(value, dtype=np.int64)
        elif isinstance(value, list):
            value = np.array(_numbers(value), dtype=np.float64)
        values[field.name] = value
    values["path_plane"] = values["path_plane"].reshape(-1, 2)
    values["center_loss"] = _numbers(values["center_loss"])
    surface = Surface(**values)
    if surface.losses.shape != (len(surface.betas), len(surface.alphas)):
        raise ValueError(f"losses of shape {surface.losses.shape}")
    if 0.0 not in surface.alphas or 0.0 not in surface.betas:
        raise ValueError("the centre is not on the grid")
    steps = surface.path_steps
    paths = (surface.path_plane, surface.path_distance, surface.path_loss, surface.path_plane_loss)
    if any(len(path) != len(steps) for path in paths) or surface.center_step not in steps:
        raise ValueError("the parts of the path do not fit each other")
    return surface


def _plain(value: Any) -> Any:
    """Replace the numbers that JSON does not have by null and "inf"."""
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf"
    return value


def _numbers(value: Any) -> Any:
    """Undo `_plain`."""
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    return math.nan if value is None else float(value)


def _newest_first(run_dir: Path, since: float = 0.0) -> list[Path]:
    """Return the surfaces that can be listed: one may be deleted meanwhile, a network disk may be away for a moment."""
    found: list[tuple[int, str, Path]] = []
    with suppress(OSError):
        for path in (run_dir / LANDSCAPE_NAME).glob("surface_*.json"):
            with suppress(OSError):
                found.append((path.stat().st_mtime_ns, path.name, path))
    return [path for written, _, path in sorted(found, reverse=True) if written >= since * 1e9]
