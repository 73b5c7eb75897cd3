"""Loss curves: each update thin, the epochs' means, validation; and the same of the runs to compare with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tools.dashboard.panels.drawing_style import Pen
from tools.dashboard.panels.frame import Frame, RunView
from tools.dashboard.panels.steps import along_steps
from tools.figures.scales import in_decades
from tools.figures.wording import shortened
from tools.runs.trace import Trace, curve_of
from training.language.messages import Message

TITLE = Message("loss curves")
LONGEST_NAME = 28
"""Columns of a run's name."""
MOST_ROWS = 6
"""Rows of the legend of the runs; more make a second column."""
Line = tuple[str, str]
"""Colour, and style of the means."""


def draw(axes: Axes, frame: Frame, pen: Pen) -> None:
    """Draw the panel."""
    views = (frame.run, *frame.others)
    histories = [(view, frame.history(view), pen.typeface.text(name_of(view, views))) for view in views]
    if not any(history.updates for _, history, _ in histories):
        pen.empty(axes, pen.typeface.label(Message("no update yet")))
        return
    (own, own_history, own_name), *others = histories
    _own(axes, own, own_history, pen)
    lines = cycle((colour, style) for style in ("-", "-.", ":") for colour in pen.theme.others)
    for (view, history, name), line in zip(others, lines, strict=False):
        _other(axes, view, history, line, name)
    along_steps(axes, frame, pen)
    whole = [point for view in views for point in _points(view)]  # so all frames of an animation have the same axis
    low, high = (of((loss for _, loss in whole), default=0.0) for of in (min, max))
    if low > 0.0:
        in_decades(axes, low * 0.85, high * 1.2)
    if others:
        handles: list[Artist] = [Line2D([], [], color=pen.theme.secondary, lw=1.5)]
        handles += axes.get_legend_handles_labels()[0][-len(others) :]
        names = [own_name, *(name for _, _, name in others)]
        if any(validations(view, history.step) for view, history, _ in others):
            handles.append(Line2D([], [], color=pen.theme.faint, lw=0.9, ls="--", marker="s", ms=2.2))
            names.append(pen.typeface.word(Message("their validation")))
        columns = 1 + len(others) // MOST_ROWS
        corner = emptiest_corner(axes, whole, columns, math.ceil(len(names) / columns))
        axes.add_artist(pen.legend(axes, handles, names, loc=corner, columns=columns))
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
            axes, *zip(*measured, strict=True), color=theme.tertiary, width=1.5, label=word(Message("validation")),
            zorder=4.5, marker="s", ms=2.6,
        )  # fmt: skip
    if history.loss_spikes:
        axes.plot(
            [mark.step for mark in history.loss_spikes], [mark.value for mark in history.loss_spikes], "*",
            color=theme.bad, ms=6.0, mew=0.0, zorder=5.0, label=word(Message("spike")),
        )  # fmt: skip


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


def name_of(view: RunView, among: Sequence[RunView]) -> str:
    """Return what the legend calls a run: its directory, and its attention where the runs differ in it."""
    kinds = [one.summary.settings.get("model.attention") if one.summary is not None else None for one in among]
    kind = kinds[list(among).index(view)]
    name = shortened(view.name, LONGEST_NAME)
    return name + (f" ({kind})" if kind is not None and len(set(kinds)) > 1 else "")
