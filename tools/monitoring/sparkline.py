"""Curves and bars in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Glyphs:
    """Characters that a terminal can draw."""

    levels: str
    """Bars from low to high."""
    full: str
    empty: str
    hole: str
    """Mark of a part of the curve without a finite value."""
    dash: str
    """Mark of a figure that is not known."""


FINE = Glyphs("▁▂▃▄▅▆▇█", "━", "─", "×", "–")
PLAIN = Glyphs("_.-=*#", "#", ".", "x", "-")
"""Glyphs for a terminal whose encoding has no more than ASCII."""


def glyphs_for(encoding: str | None) -> Glyphs:
    """Return the finest glyphs that the encoding has."""
    try:
        "".join((FINE.levels, FINE.full, FINE.empty, FINE.hole, FINE.dash)).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return PLAIN
    return FINE


def sparkline(values: Sequence[float | None], width: int, glyphs: Glyphs = FINE) -> str:
    """Draw the whole curve in at most `width` characters, its lowest value at the bottom and its highest at the top.

    A character is the mean of its share of the values. The scale is logarithmic where all are positive, as losses are:
    the last nine tenths of a run would be a flat line otherwise.
    """
    if not values or width < 1:
        return ""
    cells = min(width, len(values))
    means = [_mean(values[len(values) * n // cells : len(values) * (n + 1) // cells]) for n in range(cells)]
    known = [mean for mean in means if mean is not None]
    if known and min(known) > 0.0:
        means = [math.log(mean) if mean is not None else None for mean in means]
        known = [math.log(mean) for mean in known]
    if not known:
        return glyphs.hole * cells
    low, span = min(known), max(known) - min(known)
    top = len(glyphs.levels) - 1
    return "".join(
        glyphs.hole if mean is None else glyphs.levels[round((mean - low) / span * top) if span else top // 2]
        for mean in means
    )


def bar(share: float, width: int, glyphs: Glyphs = FINE) -> tuple[str, str]:
    """Return the full part and the empty part of a progress bar; only a share of 1 fills it."""
    filled = width if share >= 1.0 else min(width - 1, int(max(0.0, share) * width))
    return glyphs.full * filled, glyphs.empty * (width - filled)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None  # one hole must be seen
