"""A loss surface of which every value is known: of a quadratic loss, by its closed form, with a path over it."""

from __future__ import annotations

import numpy as np

from tools.landscape.grid import axis
from tools.landscape.surface import Surface


def quadratic_surface(steps: int = 100, key: str = "0123456789abcdef", resolution: int = 9) -> Surface:
    """Loss 0.5 + a² + 3 b² on a plane; the path leads from (-1.5, 0.8) to its centre and runs off the plane midway."""
    alphas, betas = axis(-2.0, 0.5, resolution), axis(-1.0, 1.0, resolution)
    when = np.linspace(0, steps, 11).astype(np.int64)
    left = 1.0 - when / steps
    plane = np.stack([-1.5 * left, 0.8 * left**2], axis=1)
    distance = 0.4 * np.sin(np.pi * left)
    on_plane = 0.5 + plane[:, 0] ** 2 + 3.0 * plane[:, 1] ** 2
    return Surface(
        alphas=alphas, betas=betas, losses=0.5 + alphas[None, :] ** 2 + 3.0 * betas[:, None] ** 2, directions="pca",
        explained_variance=np.array([0.8, 0.15]), path_steps=when, path_plane=plane, path_distance=distance,
        path_loss=on_plane + distance**2, path_plane_loss=on_plane, center_step=steps, center_loss=0.5,
        center=f"checkpoint_step_{steps}", center_norm=12.0, probe_tokens=512, seconds=2.5, key=key,
    )  # fmt: skip
