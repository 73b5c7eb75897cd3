"""Loss curves: each update thin, the epochs' means, validation; and the same of the runs to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tools.dashboard.followed_run import RunView
from tools.dashboard.history import History, values
from tools.dashboard.panels.steps import along_steps, in_decades
from tools.dashboard.pen import Pen
from tools.dashboard.scene import Scene

TITLE = ("损失曲线", "loss curves")
LONGEST_NAME = 24


def draw(axes: Axes, scene: Scene, pen: Pen) -> None:
    """Draw the panel."""
    views = (scene.run, *scene.others)
    histories = [(view, scene.history(view), pen.typeface.text(name_of(view, views))) for view in views]
    if not any(history.updates for _, history, _ in histories):
        pen.empty(axes, pen.typeface.label("还没有更新", "no update yet"))
        return
    (own, own_history, own_name), *others = histories
    drawn = _own(axes, own, own_history, pen)
    for (view, history, name), colour in zip(others, cycle(pen.theme.others), strict=False):
        drawn += _other(axes, view, history, pen, colour, name)
    along_steps(axes, scene, pen)
    if drawn and min(drawn) > 0.0:
        in_decades(axes, min(drawn) * 0.85, max(drawn) * 1.2)
    if others:
        handles, names = (found[-len(others) :] for found in axes.get_legend_handles_labels())
        mean = Line2D([], [], color=pen.theme.secondary, lw=1.5)
        axes.add_artist(pen.legend(axes, [mean, *handles], [own_name, *names], loc="lower left"))
    pen.legend_above(axes, columns=4)


def _own(axes: Axes, view: RunView, history: History, pen: Pen) -> list[float]:
    theme = pen.theme
    steps, losses = values(history.updates, lambda update: update.loss)
    axes.plot(steps, losses, color=theme.primary, lw=0.7, alpha=0.6, zorder=2.5, label="batch")
    means = [(e.step, e.loss) for e in history.epochs if e.loss is not None]
    found = list(losses)
    if means:
        style = {"marker": "o", "ms": 2.4} if len(means) < 60 else {}
        pen.line(
            axes, *zip(*means, strict=True), color=theme.secondary, width=1.5, label="epoch mean", zorder=4.0, **style
        )
        found += [loss for _, loss in means]
    measured = validations(view, history.step)
    if measured:
        pen.line(
            axes, *zip(*measured, strict=True), color=theme.tertiary, width=1.5, label="validation", zorder=4.5,
            marker="s", ms=2.6,
        )  # fmt: skip
        found += [loss for _, loss in measured]
    if history.loss_spikes:
        axes.plot(
            [mark.step for mark in history.loss_spikes], [mark.value for mark in history.loss_spikes], "*",
            color=theme.bad, ms=6.0, mew=0.0, zorder=5.0, label="spike",
        )  # fmt: skip
    return found


def _other(axes: Axes, view: RunView, history: History, pen: Pen, colour: str, name: str) -> list[float]:
    steps, losses = values(history.updates, lambda update: update.loss)
    axes.plot(steps, losses, color=colour, lw=0.5, alpha=0.3, zorder=2.0)
    means = [(e.step, e.loss) for e in history.epochs if e.loss is not None]
    measured = validations(view, history.step)
    axes.plot(*(zip(*means, strict=True) if means else ([], [])), color=colour, lw=1.2, zorder=3.0, label=name)
    if measured:
        axes.plot(*zip(*measured, strict=True), "s--", color=colour, lw=0.9, ms=2.2, zorder=3.1)
    return [*losses, *(loss for _, loss in means), *(loss for _, loss in measured)]


def validations(view: RunView, until: int) -> list[tuple[int, float]]:
    """(update, loss) of the measurements on the validation data so far."""
    found = view.summary.evaluations if view.summary is not None else ()
    return [(e.step, e.loss) for e in found if e.loss is not None and e.step <= until]


def name_of(view: RunView, among: Sequence[RunView]) -> str:
    """What the legend calls a run: its directory, and its attention where the runs differ in it."""
    kinds = [one.summary.settings.get("model.attention") if one.summary is not None else None for one in among]
    kind = kinds[list(among).index(view)]
    return shortened(view.name) + (f" ({kind})" if kind is not None and len(set(kinds)) > 1 else "")


def shortened(name: str) -> str:
    """A name that a legend has room for; its end tells it from its neighbours."""
    return name if len(name) <= LONGEST_NAME else "~" + name[1 - LONGEST_NAME :]
