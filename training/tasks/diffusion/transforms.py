"""Crop, size, channels, flip and value range of images, as pure functions of the image and of a sample's own draws.

Pixels are arrays (height, width, channels) with 1 or 3 channels: uint8 as files have them, or float32 in [-1, 1]. What
the network gets is float32 (channels, height, width) in [-1, 1]. No torch; Pillow is imported when an image is resized.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
"""An image, (H, W, C): uint8, or float32 in [-1, 1]."""

_LEVELS = (np.arange(256, dtype=np.float64) / 127.5 - 1.0).astype(np.float32)
"""Value of each level of a uint8: 0 is -1 and 255 is 1."""
_LUMA = (19595, 38470, 7471)
"""Weights of red, green and blue in gray, in units of 1/65536: those of ITU-R BT.601, rounded as Pillow rounds them."""


@dataclass(frozen=True)
class Framing:
    """The size of the images, and the random draws that make one image several.

    A sample's draws are taken in a fixed order: first the place of the crop, then the flip, one number each, whatever
    the image's shape. So what is drawn after them, such as noise, depends on the settings and on no image.
    """

    size: int | None = None
    """Height and width of the result in pixels; None: the image's own."""
    crop: Literal["center", "random"] = "center"
    """Place of the square that is resized to `size`."""
    flip: bool = False
    """Half of the draws mirror the image left to right."""

    def centered(self, pixels: Pixels) -> Pixels:
        """Return the largest square in the center at the size; without a size the image itself."""
        return pixels if self.size is None else resized(square(pixels, None), self.size)

    def drawn(self, pixels: Pixels, draws: np.random.Generator) -> Pixels:
        """Return a square whose place is drawn, at the size; without a size, or with a crop in the center, `centered`.

        Args:
            pixels: the whole image.
            draws: the sample's generator; one number is taken if the crop is random.
        """
        if self.crop == "center" or self.size is None:
            return self.centered(pixels)
        return resized(square(pixels, draws.random()), self.size)

    def flipped(self, pixels: Pixels, draws: np.random.Generator | None) -> Pixels:
        """Return the image, or its mirror image for half of the draws if flips are on.

        Args:
            pixels: the image.
            draws: the sample's generator; one number is taken if flips are on. None: no flip.
        """
        return pixels[:, ::-1] if self.flip and draws is not None and draws.random() < 0.5 else pixels


def square(pixels: Pixels, place: float | None) -> Pixels:
    """Return the largest square of an image.

    Args:
        pixels: the image.
        place: position along the longer side, 0 (left or top) to below 1 (right or bottom), each pixel's as likely as
            any other if it is uniform; None: the center.
    """
    height, width = pixels.shape[:2]
    side = min(height, width)
    excess = max(height, width) - side
    start = excess // 2 if place is None else min(int(place * (excess + 1)), excess)
    return pixels[start : start + side] if height > width else pixels[:, start : start + side]


def resized(pixels: Pixels, size: int) -> Pixels:
    """Return an image of another size, by Pillow's bicubic filter, which averages over all pixels where it shrinks.

    Shrinking without such a filter leaves aliases that a network learns (arXiv 2104.11222). Float values stay in
    [-1, 1], which the filter itself would leave at edges.

    Args:
        pixels: the image.
        size: height and width of the result.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    from PIL import Image

    if pixels.dtype == np.uint8:
        image = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))
        result: Pixels = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
        return np.reshape(result, (size, size, pixels.shape[2]))
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((size, size), Image.Resampling.BICUBIC))
        for plane in np.moveaxis(pixels, 2, 0)
    ]
    floats: Pixels = np.clip(np.stack(planes, axis=2), np.float32(-1), np.float32(1))
    return floats


def with_channels(pixels: Pixels, channels: int) -> Pixels:
    """Return an image with 1 or 3 channels: gray becomes three equal channels, and colors the luma of ITU-R BT.601."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    red, green, blue = np.moveaxis(pixels, 2, 0).astype(np.int64 if pixels.dtype == np.uint8 else np.float64)
    gray: NDArray[Any] = red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]
    if pixels.dtype == np.uint8:
        return ((gray + 0x8000) >> 16).astype(np.uint8)[:, :, None]
    return (gray / 65536.0).astype(np.float32)[:, :, None]


def to_values(pixels: Pixels) -> NDArray[np.float32]:
    """Return what the network gets: float32 (C, H, W) in [-1, 1]; of uint8 levels v / 127.5 - 1."""
    values = _LEVELS[pixels] if pixels.dtype == np.uint8 else pixels
    return np.ascontiguousarray(np.moveaxis(values, 2, 0), dtype=np.float32)
