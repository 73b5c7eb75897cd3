"""The plane of a surface: random directions after Li et al., or the main directions of the run's path.

**Random** (Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets", arXiv 1712.09913). Each number is drawn
from a normal distribution, then each *filter* of the direction is scaled to the Euclidean norm of the same filter of
the weights, so that one unit means the same in each of them, at any scale. For a convolution a filter is the part
behind one output channel; for a matrix of a transformer it is the row behind one output feature (of an embedding:
the row of one token). Tensors of one axis (the gains of the norms) are not moved, as Li et al. leave out norms and
biases; nor is a row of zeros.

**PCA** of the path. The offsets of the snapshots from the *centre* (not from their mean) are decomposed, so that the
plane goes through the centre and no other plane through it lies nearer to the path, in squared distances. Directions
have length 1, over all tensors: here a unit is a Euclidean distance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tools.landscape.flat_weights import FlatWeights
from tools.landscape.path import WeightPath
from training.errors import UserError
from training.tasks.batch_plan import mix
from training.tasks.fingerprints import hash_of_row

_FLAT = 1e-12
"""Share of the first direction's variance below which a second one is rounding."""


class Plane(NamedTuple):
    """Two directions from the centre."""

    first: Tensor
    second: Tensor
    explained_variance: NDArray[np.float64] | None
    """(2,) shares of the path's squared distance from the centre, 0 to 1."""


def random_plane(weights: FlatWeights, seed: int) -> Plane:
    """Return two filter-normalised directions, the same for a seed on any device.

    Raises:
        UserError: the model has no tensor of two axes.
    """
    if all(len(place.shape) < 2 for place in weights.places):
        raise UserError("random directions move matrices only, and this model has none; use --directions pca")
    return Plane(_random_direction(weights, seed, 0), _random_direction(weights, seed, 1), None)


def _random_direction(weights: FlatWeights, seed: int, number: int) -> Tensor:
    direction = weights.zeros()
    for name, shape, part in weights.places:
        if len(shape) < 2:
            continue
        generator = torch.Generator().manual_seed(mix(seed, number, hash_of_row(name.encode())) >> 1)
        drawn = torch.randn(shape, generator=generator, dtype=direction.dtype).flatten(1)
        own = weights.center[part].cpu().view(shape).flatten(1)
        drawn *= own.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)
        direction[part] = drawn.reshape(-1).to(direction.device)
    return direction


def path_plane(weights: FlatWeights, path: WeightPath) -> Plane:
    """Return the first two principal directions of the path around the centre; the path begins where both are negative.

    They are computed from the Gram matrix of the offsets (P, P) in fp64, with one piece of the path in memory at a
    time.

    Raises:
        UserError: too few snapshots, or all on one line: there is no plane.
    """
    if len(path) < 2:
        raise UserError(
            f"the plane of a path needs two snapshots besides the centre, and there are {len(path)}; wait for more, or "
            "use --directions random"
        )
    gram = np.zeros((len(path), len(path)))
    for _, offsets in path.offsets():
        gram += (offsets @ offsets.T).numpy()
    if not np.isfinite(gram).all():
        raise UserError("a snapshot of the path holds weights that are not finite; use --directions random")
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[:-3:-1], vectors[:, :-3:-1]
    if not values[1] > _FLAT * values[0]:
        raise UserError("the path is a straight line, so it has no plane; wait for more, or use --directions random")
    vectors = vectors * np.where(vectors[0] > 0.0, -1.0, 1.0)
    mixing = torch.from_numpy((vectors / np.sqrt(values)).T)
    plane = (weights.zeros(), weights.zeros())
    for part, offsets in path.offsets():
        for direction, piece in zip(plane, mixing @ offsets, strict=True):
            direction[part] = piece.to(direction)
    return Plane(*plane, values / np.trace(gram))


class Projection(NamedTuple):
    """The position of the path relative to a plane. The centre is not among its points."""

    on_plane: NDArray[np.float64]
    """(P, 2) coordinates of the nearest points of the plane."""
    distance: NDArray[np.float64]
    """(P,) their distances."""


def project(plane: Plane, path: WeightPath) -> Projection:
    """Return the nearest point of the plane for each snapshot, by least squares: directions need not be orthogonal."""
    if not len(path):
        return Projection(np.zeros((0, 2)), np.zeros(0))
    directions = torch.stack([plane.first, plane.second]).cpu()
    products = np.zeros((2, len(path)))
    squares = np.zeros(len(path))
    for part, offsets in path.offsets():
        products += (directions[:, part].double() @ offsets.T).numpy()
        squares += offsets.square().sum(dim=1).numpy()
    gram = (directions.double() @ directions.double().T).numpy()
    on_plane = np.linalg.solve(gram, products).T
    off_plane = squares - np.einsum("pk,kp->p", on_plane, products)
    return Projection(on_plane, np.sqrt(np.maximum(off_plane, 0.0)))
