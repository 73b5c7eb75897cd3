"""Pictures of samples without a model: a cross that comes out of noise."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def sharper(share: float, side: int = 64, tiles: int = 4) -> bytes:
    """Return a PNG of a grid of crosses, of which so large a share is drawn and the rest is noise."""
    cross = np.eye(side) + np.eye(side)[::-1]
    wide = np.sum([np.roll(cross, n, axis=1) for n in range(-4, 5)], axis=0).clip(0.0, 1.0)
    noise = np.random.default_rng(0).random((tiles, tiles, side, side))
    tile = share * wide + (1.0 - share) * noise
    grid = tile.transpose(0, 2, 1, 3).reshape(tiles * side, tiles * side)
    buffer = io.BytesIO()
    Image.fromarray((255.0 * grid).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()
