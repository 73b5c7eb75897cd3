"""Loss curves: each update thin, the epochs' means, validation; and the same of the runs to compare with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tools.dashboard.panels.drawing_style import SMALL, Pen
from tools.dashboard.panels.frame import Frame, RunView
from tools.dashboard.panels.steps import along_steps
from tools.figures.scales import in_decades
from tools.figures.wording import told_apart
from training.language.messages import Message
from training.record.curve_figure import rise_since_lowest
from training.record.trace import Trace, curve_of

TITLE = Message("loss curves")
NAME_WIDTH = (10, 28)
"""Columns of a run's name in the legend, at least and at most."""
MOST_ROWS = 6
"""Rows of the legend of the runs; more make a second column, and then it gets room of its own beneath the curves."""
STYLES = ("-", "-.", ":", (0, (6, 1)), (0, (3, 1, 1, 1)))
Line = tuple[str, Any]
"""Colour, and style of the means."""


def draw(axes: Axes, frame: Frame, pen: Pen) -> None:
    """Draw the panel."""
    views = (frame.run, *frame.others)
    columns = 1 + len(frame.others) // MOST_ROWS
    names = map(pen.typeface.text, names_of(views, _name_width(axes, columns)))
    histories = [(view, frame.history(view), name) for view, name in zip(views, names, strict=True)]
    if not any(history.updates for _, history, _ in histories):
        pen.empty(axes, pen.typeface.label(Message("no update yet")))
        return
    (own, own_history, own_name), *others = histories
    _own(axes, own, own_history, pen)
    lines = cycle((colour, style) for style in STYLES for colour in pen.theme.others)
    for (view, history, name), line in zip(others, lines, strict=False):
        _other(axes, view, history, line, name)
    along_steps(axes, frame, pen)
    whole = [point for view in views for point in _points(view)]  # so all frames of an animation have the same axis
    low, high = (of((loss for _, loss in whole), default=0.0) for of in (min, max))
    rows = math.ceil((len(frame.others) + 2) / columns) if columns > 1 else 0
    if low > 0.0:
        in_decades(axes, low * 0.85 / _room_beneath(axes, rows, high * 1.2 / (low * 0.85)), high * 1.2)
    if others:
        handles: list[Artist] = [Line2D([], [], color=pen.theme.secondary, lw=1.5)]
        handles += axes.get_legend_handles_labels()[0][-len(others) :]
        named = [own_name, *(name for _, _, name in others)]
        if any(validations(view, history.step) for view, history, _ in others):
            handles.append(Line2D([], [], color=pen.theme.faint, lw=0.9, ls="--", marker="s", ms=2.2))
            named.append(pen.typeface.word(Message("their validation")))
        corner = (
            "lower center"
            if rows and low > 0.0
            else emptiest_corner(axes, whole, columns, math.ceil(len(named) / columns))
        )
        axes.add_artist(pen.legend(axes, handles, named, loc=corner, columns=columns))
    pen.legend_above(axes, columns=4)


def _own(axes: Axes, view: RunView, history: Trace, pen: Pen) -> None:
    theme, word = pen.theme, pen.typeface.word
    steps, losses = curve_of(history.updates, "loss")
    marker = "." if len(steps) == 1 else ""
    batch = word(Message("batch"))
    axes.plot(steps, losses, color=theme.primary, lw=0.7, alpha=0.6, zorder=2.5, label=batch, marker=marker)
    if means := _means(history):
        style = {"marker": "o", "ms": 2.4} if len(means) < 60 else {}
        pen.line(
            axes, *zip(*means, strict=True), color=theme.secondary, width=1.5, label=word(Message("epoch mean")),
            zorder=4.0, **style,
        )  # fmt: skip
    if measured := validations(view, history.step):
        pen.line(
            axes, *zip(*measured, strict=True), color=theme.tertiary, width=1.5, label=word(_rise(axes, measured, pen)),
            zorder=4.5, marker="s", ms=2.6,
        )  # fmt: skip
    if history.loss_spikes:
        axes.plot(
            [mark.step for mark in history.loss_spikes], [mark.value for mark in history.loss_spikes], "*",
            color=theme.bad, ms=6.0, mew=0.0, zorder=5.0, label=word(Message("spike")),
        )  # fmt: skip


def _rise(axes: Axes, measured: Sequence[tuple[int, float]], pen: Pen) -> Message:
    """Return the name of the validation's curve; mark and name how far its end lies above its lowest point."""
    ratio = rise_since_lowest([loss for _, loss in measured])
    if ratio is None:
        return Message("validation")
    lowest, since = min((loss, step) for step, loss in measured)
    after = [(step, loss) for step, loss in measured if step >= since]
    steps, losses = zip(*after, strict=True)
    axes.fill_between(steps, lowest, losses, color=pen.theme.bad, alpha=0.25, lw=0.0, zorder=2.2)
    axes.hlines(lowest, since, steps[-1], color=pen.theme.bad, lw=0.9, ls=(0, (4, 3)), zorder=2.3)
    return Message("validation, now {ratio:.3g}x its lowest", ratio=ratio)


def _other(axes: Axes, view: RunView, history: Trace, line: Line, name: str) -> None:
    colour, style = line
    steps, losses = curve_of(history.updates, "loss")
    marker = "." if len(steps) == 1 else ""
    axes.plot(steps, losses, color=colour, lw=0.5, alpha=0.3, zorder=2.0, marker=marker)
    means = _means(history)
    marker = "." if len(means) == 1 else ""
    axes.plot(
        *(zip(*means, strict=True) if means else ([], [])), color=colour, lw=1.2, ls=style, zorder=3.0, label=name,
        marker=marker,
    )  # fmt: skip
    if measured := validations(view, history.step):
        axes.plot(*zip(*measured, strict=True), "s--", color=colour, lw=0.9, ms=2.2, zorder=3.1)


def _means(history: Trace) -> list[tuple[int, float]]:
    """Return the means of the epochs that are over, or of the first: a mean of few updates would look like a jump."""
    known = [(epoch.step, epoch.loss, epoch.is_open) for epoch in history.epochs if epoch.loss is not None]
    over = [(step, loss) for step, loss, is_open in known if not is_open]
    return over or [(step, loss) for step, loss, _ in known]


def _points(view: RunView) -> list[tuple[int, float]]:
    """Return (update, loss) of all that is drawn of a run in the end."""
    history = view.history
    updates = zip(*curve_of(history.updates, "loss"), strict=True)
    return [*updates, *_means(history), *validations(view, history.step)]


def emptiest_corner(axes: Axes, points: Sequence[tuple[int, float]], columns: int, rows: int) -> str:
    """Return the corner in which a legend of so many columns and rows covers the fewest points."""
    width, height = 0.34 * columns, 0.05 + 0.085 * rows
    x, y = (axes.transScale + axes.transLimits).transform(points or [(0.0, 0.0)]).T
    sides = {"right": x > 1.0 - width, "left": x < width}
    above = {"upper": y > 1.0 - height, "lower": y < height}
    covered = {f"{row} {side}": int((above[row] & sides[side]).sum()) for side in sides for row in above}
    return min(covered, key=covered.__getitem__)


def validations(view: RunView, until: int) -> list[tuple[int, float]]:
    """Return (update, loss) of the measurements on the validation data so far."""
    found = view.summary.evaluations if view.summary is not None else ()
    return [(e.step, e.loss) for e in found if e.loss is not None and e.step <= until]


def names_of(views: Sequence[RunView], columns: int) -> list[str]:
    """Return what the legend calls the runs: their directories, and their attention where they differ in it."""
    kinds = [one.summary.settings.get("model.attention") if one.summary is not None else None for one in views]
    marks = [f" ({kind})" if kind is not None and len(set(kinds)) > 1 else "" for kind in kinds]
    return [name + mark for name, mark in zip(told_apart([v.name for v in views], columns), marks, strict=True)]


def _name_width(axes: Axes, columns: int) -> int:
    """Return the columns that a name has room for in a legend of so many columns."""
    points = axes.get_window_extent().width / axes.figure.dpi * 72.0
    return min(max(int((points / columns - 3.2 * SMALL) / (0.62 * SMALL)), NAME_WIDTH[0]), NAME_WIDTH[1])


def _room_beneath(axes: Axes, rows: int, ratio: float) -> float:
    """Return by how much the lower end of a logarithmic axis is divided, so that a legend lies beneath the curves."""
    if not rows:
        return 1.0
    points = axes.get_window_extent().height / axes.figure.dpi * 72.0
    share = min((1.35 * SMALL * rows + 14.0) / points, 0.6)
    return float(ratio ** (share / (1.0 - share)))
