"""Gradient norm as an energy field: where the updates' norms lie densely it is bright. Clipped, skipped, spiking ones
are marked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from tools.dashboard.panels.drawing_style import Pen
from tools.dashboard.panels.frame import Frame
from tools.dashboard.panels.steps import along_steps
from tools.figures.scales import in_decades
from training.language.messages import Message
from training.record.schema import number
from training.record.trace import Trace, curve_of

TITLE = Message("gradient norm")
COLUMNS, ROWS = 150, 48
"""Size of the field."""
SPREAD = 1.6
"""Columns and rows over which one update is spread: a Gaussian's standard deviation."""
MEDIAN_SHARE = 25
"""The line is the median of so many parts of the curve, at most."""


def draw(axes: Axes, frame: Frame, pen: Pen) -> None:
    """Draw the panel."""
    whole = curve_of(frame.run.history.updates, "grad_norm")[1]
    history = frame.history(frame.run)
    steps, norms = curve_of(history.updates, "grad_norm")
    positive = [norm for norm in whole if norm > 0.0]
    if not norms or not positive:
        pen.empty(axes, pen.typeface.label(Message("no gradient yet")))
        return
    settings = frame.run.summary.settings if frame.run.summary is not None else {}
    limit = number(settings.get("optimizer.max_grad_norm"))
    low, high = min(positive) / 1.6, max(positive) * 1.6
    if limit is not None and low / 10.0 < limit < high * 10.0:
        low, high = min(low, limit / 2.0), max(high, limit * 1.3)  # the marks beneath are not in its way
    end = max(1, frame.last_step) * 1.015
    field = density(steps, norms, (0.0, end), (low, high))
    axes.pcolormesh(
        np.linspace(0.0, end, COLUMNS), np.geomspace(low, high, ROWS), field, shading="gouraud",
        cmap=pen.energy, vmin=0.0, vmax=1.0, rasterized=True, zorder=1.0,
    )  # fmt: skip
    middle = running_median(steps, norms)
    pen.line(axes, *middle, color=pen.theme.primary, width=1.2, zorder=3.0, label=pen.typeface.word(Message("median")))
    if limit is not None and low < limit < high:
        axes.axhline(limit, color=pen.theme.faint, lw=0.9, ls=(0, (4, 3)), zorder=2.0)
        axes.text(
            0.008, limit, f"max_grad_norm {limit:g}", fontsize=6.5, color=pen.theme.text, ha="left", va="center",
            transform=axes.get_yaxis_transform(), zorder=4.0,
            bbox={"facecolor": pen.theme.panel, "edgecolor": "none", "alpha": 0.8, "pad": 1.0},
        )  # fmt: skip
    _marks(axes, history, pen)
    along_steps(axes, frame, pen)
    in_decades(axes, low, high)
    pen.legend_above(axes, columns=4)


def _marks(axes: Axes, history: Trace, pen: Pen) -> None:
    rug = axes.get_xaxis_transform()
    word, clipped, skipped, spikes = pen.typeface.word, history.clipped, history.skipped, history.norm_spikes
    kinds = (
        (Message("clipped {count:,}", count=len(clipped)), clipped, "|", pen.theme.tertiary, 0.035),
        (Message("skipped {count:,}", count=len(skipped)), skipped, "x", pen.theme.bad, 0.12),
    )
    for name, steps, marker, colour, height in kinds:
        axes.plot(
            steps, [height] * len(steps), marker, color=colour, ms=4.5, mew=1.0, transform=rug, zorder=5.0,
            label=word(name), alpha=0.9,
        )  # fmt: skip
    axes.plot(
        [mark.step for mark in spikes], [mark.value for mark in spikes], "*", color=pen.theme.bad, ms=6.5, mew=0.0,
        zorder=5.5, label=word(Message("spiking {count:,}", count=len(spikes))),
    )  # fmt: skip


def density(
    steps: Sequence[float], norms: Sequence[float], along: tuple[float, float], across: tuple[float, float]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the density of updates, (ROWS, COLUMNS), 0 to 1, rows in equal ratios of the norm.

    These are square roots, so that single updates can be seen next to crowds.
    """
    counts, _, _ = np.histogram2d(
        [math.log(max(norm, across[0])) for norm in norms], list(steps), bins=(ROWS, COLUMNS),
        range=((math.log(across[0]), math.log(across[1])), along),
    )  # fmt: skip
    reach = np.arange(-math.ceil(3 * SPREAD), math.ceil(3 * SPREAD) + 1)
    kernel = np.exp(-0.5 * (reach / SPREAD) ** 2)
    for axis in (0, 1):
        counts = np.apply_along_axis(lambda line: np.convolve(line, kernel, mode="same"), axis, counts)
    highest = float(counts.max())
    return np.asarray(np.sqrt(counts / highest) if highest > 0.0 else counts, dtype=np.float64)


def running_median(steps: Sequence[int], norms: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the medians of successive parts of the curve, at the parts' middles."""
    size = max(1, math.ceil(len(steps) / (4 * MEDIAN_SHARE)))
    parts = [slice(start, start + size) for start in range(0, len(steps), size)]
    return [float(np.mean(steps[part])) for part in parts], [float(np.median(norms[part])) for part in parts]
