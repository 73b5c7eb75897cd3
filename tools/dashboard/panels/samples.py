"""Samples that the run has drawn: the newest picture large, and a row of earlier ones, which grows sharp."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from tools.dashboard.panels.drawing_style import SMALL, Pen
from tools.dashboard.panels.frame import Frame
from training.language.messages import Message
from training.record.sample_pictures import MOST_BYTES, SamplePicture, pictures_in, spread

TITLE = Message("samples")
EARLIER = 6
"""Earlier pictures in the row, at most."""
SIDE = 900
"""Pixels of a picture's longer side, at most: a panel has no more."""
ROW = 0.2
"""Share of the panel's height that the row of earlier pictures takes."""
GAP = 0.02
"""Distance between two pictures of the row, in parts of the panel's width."""
NAME = 0.075
"""Share of the height for the update's number below a picture."""

Image = NDArray[np.uint8]
"""Pixels, (H, W, 4)."""


def draw(axes: Axes, frame: Frame, pen: Pen) -> None:
    """Draw the panel."""
    pictures = one_per_update(pictures_in(frame.history(frame.run).sample_files))
    images = [(picture, image_of(picture.path(frame.run.directory))) for picture in spread(pictures, EARLIER + 1)]
    found = [(picture, image) for picture, image in images if image is not None]
    if not found:
        pen.empty(axes, pen.typeface.label(Message("no sample yet")))
        return
    axes.set_axis_off()
    *earlier, (newest, image) = found
    floor = ROW + NAME if earlier else 0.0
    _put(axes, image, (0.0, floor + NAME, 1.0, 1.0 - floor - NAME), newest.step, pen, is_newest=True)
    width = (1.0 - GAP * (EARLIER - 1)) / EARLIER
    for n, (picture, small) in enumerate(earlier):
        left = n * (width + GAP) + (1.0 - len(earlier) * (width + GAP) + GAP) / 2.0
        _put(axes, small, (left, NAME, width, ROW), picture.step, pen, is_newest=False)


def _put(
    axes: Axes, image: Image, place: tuple[float, float, float, float], step: int, pen: Pen, *, is_newest: bool
) -> None:
    """Draw a picture into a place of the panel (left, bottom, width, height in parts of it), and its update below."""
    inner: Any = axes.inset_axes(place)
    inner.imshow(image, interpolation="nearest" if max(image.shape[:2]) < 256 else "antialiased")
    inner.set_xticks([])
    inner.set_yticks([])
    for spine in inner.spines.values():
        spine.set_edgecolor(pen.theme.primary if is_newest else pen.theme.edge)
        spine.set_linewidth(1.2 if is_newest else 0.8)
    name = pen.typeface.word(Message("step {step:,}", step=step)) if is_newest else f"{step:,}"
    inner.annotate(
        name, (0.5, 0.0), (0.0, -3.0), xycoords="axes fraction", textcoords="offset points", ha="center", va="top",
        fontsize=SMALL if is_newest else SMALL - 1.0, color=pen.theme.text if is_newest else pen.theme.faint,
    )  # fmt: skip


def one_per_update(pictures: Sequence[SamplePicture]) -> list[SamplePicture]:
    """Return the first picture of each update: what can be compared along the run."""
    first: dict[int, SamplePicture] = {}
    for picture in pictures:
        first.setdefault(picture.step, picture)
    return list(first.values())


def image_of(path: Path) -> Image | None:
    """Read a picture, made smaller where it is larger than a panel; None: it is missing, damaged or too large."""
    from PIL import Image as PillowImage

    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_BYTES:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("error", PillowImage.DecompressionBombWarning)
            with PillowImage.open(path, formats=["PNG"]) as picture:
                picture.thumbnail((SIDE, SIDE))
                return np.asarray(picture.convert("RGBA"), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning):
        return None
