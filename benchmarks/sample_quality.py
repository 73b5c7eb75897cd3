"""Distances between two sets of points, a real one and a generated one: what the diffusion benchmarks print.

Every function takes arrays of one row a point, computes in float64 and draws no random number. Shapes: N, M points of
D values.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating]
Labels = NDArray[np.integer]

KNN = 5
"""Number of the neighbour whose distance estimates a density, as in the published figures of the 2-D sets."""
NEAR = 0.01
"""Share of real held-out points that count as memorised, which defines the distance below which a sample does."""


def frechet_of_gaussians(mean_D: Points, covariance_DD: Points, mean_2D: Points, covariance_2DD: Points) -> float:
    """Return the squared Wasserstein-2 distance of two Gaussians, |m - m2|² + tr(C + C2 - 2 (C C2)^½).

    This is the Fréchet distance of arXiv 1706.08500, eq. 6. The trace of the root is the sum of the singular values of
    C^½ C2^½, which exists for singular covariances too (a pixel that is always black).

    Args:
        mean_D, covariance_DD: first Gaussian.
        mean_2D, covariance_2DD: second one.

    Returns:
        Distance in the square of the points' unit.
    """
    shift = np.asarray(mean_D, np.float64) - np.asarray(mean_2D, np.float64)
    product = root_of(covariance_DD) @ root_of(covariance_2DD)
    traces = float(np.trace(covariance_DD) + np.trace(covariance_2DD))
    return float(shift @ shift) + traces - 2 * float(np.linalg.svd(product, compute_uv=False).sum())


def root_of(covariance_DD: Points) -> NDArray[np.float64]:
    """Return the symmetric square root of a positive semidefinite matrix; rounding below zero counts as zero."""
    values, vectors = np.linalg.eigh(np.asarray(covariance_DD, np.float64))
    root: NDArray[np.float64] = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root


def frechet_distance(points_ND: Points, others_MD: Points) -> float:
    """Return the Fréchet distance of the Gaussians with the means and covariances of two sets.

    It grows with fewer points, so compare only figures of sets of equal sizes.
    """
    (mean, covariance), (mean_2, covariance_2) = (
        (points.mean(axis=0), np.cov(points, rowvar=False))
        for points in (np.asarray(points_ND, np.float64), np.asarray(others_MD, np.float64))
    )
    return frechet_of_gaussians(mean, np.atleast_2d(covariance), mean_2, np.atleast_2d(covariance_2))


def knn_divergence(points_ND: Points, others_MD: Points, neighbours: int = KNN) -> float:
    """Estimate the Kullback-Leibler divergence KL(P || Q) in bits from points of P and points of Q.

    Each point of P is compared by the distance to its k-th nearest neighbour in P without itself (rho) and in Q (nu),
    in the maximum norm: D/N Σ log2(nu/rho) + log2(M/(N - 1)). This is the estimator of Wang, Kulkarni and Verdú
    (IEEE Transactions on Information Theory 55, 2009) and Pérez-Cruz (ISIT 2008). The published figures have k = 5.

    Raises:
        ValueError: fewer points than neighbours, or points that are repeated more than k times, whose distance is 0.
    """
    from scipy.spatial import cKDTree

    points, others = np.asarray(points_ND, np.float64), np.asarray(others_MD, np.float64)
    (count, size), other_count = points.shape, len(others)
    if min(count - 1, other_count) < neighbours:
        raise ValueError(f"{count} and {other_count} points have no {neighbours} neighbours")
    own_N = cKDTree(points).query(points, k=[neighbours + 1], p=math.inf)[0][:, 0]  # the nearest is the point itself
    other_N = cKDTree(others).query(points, k=[neighbours], p=math.inf)[0][:, 0]
    if not (own_N.all() and other_N.all()):
        raise ValueError(f"a point is there more than {neighbours} times: its density is not finite")
    bits = size * float(np.log2(other_N / own_N).mean()) + math.log2(other_count / (count - 1))
    return float(bits)


def distances(points_ND: Points, others_MD: Points) -> NDArray[np.float64]:
    """Return the Euclidean distances (N, M) of two sets."""
    from scipy.spatial.distance import cdist

    found: NDArray[np.float64] = cdist(np.asarray(points_ND, np.float64), np.asarray(others_MD, np.float64))
    return found


def two_sample_accuracy(points_ND: Points, others_MD: Points) -> float:
    """Return how often a point's nearest neighbour in both sets together, without itself, is of its own set.

    A half means that nobody can tell the sets apart; 1, that anybody can; less than a half, that one copies the other
    (the nearest-neighbour two-sample test of arXiv 1610.06545, leave-one-out). Both sets must be of equal size.

    Raises:
        ValueError: they are not.
    """
    if len(points_ND) != len(others_MD):
        raise ValueError(f"{len(points_ND)} and {len(others_MD)} points: a half means chance only for equal numbers")
    both = np.concatenate([points_ND, others_MD])
    apart = distances(both, both)
    np.fill_diagonal(apart, math.inf)
    is_first = np.arange(len(both)) < len(points_ND)
    return float((is_first[apart.argmin(axis=1)] == is_first).mean())


class Memorised(NamedTuple):
    """Comparison of samples with the points that were trained on."""

    share: float
    """Share of samples that are nearer to a training point than all but `NEAR` of the real held-out points are: `NEAR`
    is what a model that has copied nothing would have."""
    nearer: float
    """Share of samples whose nearest real point is a training point; a half where as many are held out."""


def memorised(samples_ND: Points, train_MD: Points, held_out_KD: Points) -> Memorised:
    """Compare the distance of each sample to the nearest training point with the real held-out points' distance.

    Args:
        samples_ND: generated points.
        train_MD: points that the model was trained on.
        held_out_KD: real points that it never saw.
    """
    to_train_N = distances(samples_ND, train_MD).min(axis=1)
    to_held_out_N = distances(samples_ND, held_out_KD).min(axis=1)
    real_K = distances(held_out_KD, train_MD).min(axis=1)
    near = float(np.quantile(real_K, NEAR))
    return Memorised(float((to_train_N < near).mean()), float((to_train_N < to_held_out_N).mean()))


def taught_accuracy(
    points_ND: Points, labels_N: Labels, tested_MD: Points, expected_M: Labels, gamma: float = 0.001
) -> float:
    """Return the share of points that a classifier, taught on other points, names right.

    It is scikit-learn's SVC with the gamma of its own example for the digits, whose values are 0 to 16.
    """
    from sklearn.svm import SVC

    classifier = SVC(gamma=gamma).fit(np.asarray(points_ND, np.float64), labels_N)
    return float((classifier.predict(np.asarray(tested_MD, np.float64)) == expected_M).mean())
