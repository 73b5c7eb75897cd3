"""The comparison of all runs as a picture: list, leaderboard, curves, activity. Dark; drawn without a display."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from matplotlib import dates, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox

from tools.figures.fonts import Typeface
from tools.figures.output_file import write_atomically
from tools.figures.scales import in_decades
from tools.figures.wording import (
    columns_of,
    cut,
    figure,
    in_lines,
    in_two_lines,
    rate,
    setting_text,
    told_apart,
)
from tools.monitoring.leaderboard import Board, Entry
from tools.runs.summary import RunSummary, metric_text
from training.language.messages import Message
from training.machine.units import short_duration
from training.record.curve_figure import rise_since_lowest
from training.record.run_state import State
from training.record.trace import spans
from training.tasks.metrics import Metric

GROUND, PANEL, TEXT, FAINT = "#0a0e17", "#101624", "#d8e2f0", "#8494ad"
RUN_COLOURS = (
    "#00e5ff", "#ff4fd8", "#ffd166", "#7cff6b", "#b388ff", "#ff8a5c", "#4d9dff", "#f4f4f4", "#2dd4a7", "#e879f9",
    "#c9d64f", "#f28b82", "#8b9dff",
)  # fmt: skip
"""Colours of the runs of the list, in all panels; the others are grey."""
OTHER_COLOUR = "#5c6b85"
STATE_COLOURS = {
    State.RUNNING: "#00e5ff",
    State.STARTING: "#00e5ff",
    State.STALLED: "#ffd166",
    State.LOST: "#ff5c6c",
    State.FAILED: "#ff5c6c",
    State.STOPPED: "#d78bff",
    State.FINISHED: "#6ee7a0",
    State.UNREADABLE: "#ff5c6c",
}
MOST_ROWS = 13
"""Runs in the list and on the time axis."""
LEAST_ROWS = 3
MOST_PLACES = 8
SETTING_COLUMNS = 32
"""Columns of a line of settings in the leaderboard."""
_STYLE = {
    "axes.facecolor": PANEL, "axes.edgecolor": "#26324a", "axes.labelcolor": FAINT, "axes.titlecolor": TEXT,
    "axes.titlesize": 10.5,
    "axes.axisbelow": True, "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.unicode_minus": False,
    "figure.facecolor": GROUND, "font.size": 8.5, "grid.color": "#1e2940", "text.color": TEXT, "text.parse_math": False,
    "xtick.color": FAINT, "ytick.color": FAINT, "legend.facecolor": PANEL, "legend.edgecolor": "#26324a",
}  # fmt: skip


def draw(
    runs: Sequence[RunSummary], boards: Sequence[Board], path: Path, typeface: Typeface | None = None
) -> list[str]:
    """Write the picture as a PNG of 1280 x 720; return notes for the user (a missing font).

    Raises:
        UserError: it cannot be written.
    """
    face = typeface or Typeface()
    with rc_context(style(face)):
        canvas = comparison(runs, boards, face)
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())
    return face.advice()


def style(face: Typeface) -> Any:  # matplotlib's stubs name each key
    """Return the dark style of pictures of several runs."""
    return {**_STYLE, "font.family": face.families}


def comparison(runs: Sequence[RunSummary], boards: Sequence[Board], face: Typeface) -> Figure:
    """Return the picture of 1280 x 720 pixels, in the style that is set."""
    shown = list(runs[:MOST_ROWS])
    names = _short_names(runs, face)
    colours = {run.path: RUN_COLOURS[n] if n < len(RUN_COLOURS) else OTHER_COLOUR for n, run in enumerate(runs)}
    canvas = Figure(figsize=(12.8, 7.2), dpi=100)
    FigureCanvasAgg(canvas)
    rows = MOST_ROWS if boards else max(LEAST_ROWS, len(shown))  # the curves get what a short list leaves
    edge = 0.9 - 0.4 * (rows + 2.4) / (MOST_ROWS + 2.4)
    upper = canvas.add_gridspec(
        1, 2, width_ratios=[1.5, 1.0], left=0.015, right=0.985, top=0.9, bottom=edge, wspace=0.03
    )
    lower = canvas.add_gridspec(
        1, 2, width_ratios=[1.2, 1.0], left=0.045, right=0.985, top=edge - 0.06, bottom=0.07, wspace=0.24
    )
    title = face.label(Message("all trainings"))
    canvas.text(0.015, 0.95, title, fontsize=15, fontweight="bold", family=face.bold_families, color=RUN_COLOURS[0])
    counts = [(state, sum(run.state is state for run in runs)) for state in State]
    states = face.word(
        Message.joined(
            ", ", [Message("{count} {state}", count=n, state=Message(state.value)) for state, n in counts if n]
        )
    )
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    canvas.text(0.985, 0.95, f"{states}   {when}", fontsize=9, color=FAINT, ha="right")
    _list(canvas.add_subplot(upper[0]), shown, len(runs), rows, colours, names, face)
    _leaderboard(canvas.add_subplot(upper[1]), boards, colours, names, face)
    _curves(canvas.add_subplot(lower[0]), runs, colours, face)
    _activity(canvas.add_subplot(lower[1]), shown, colours, names, face)
    return canvas


def _short_names(runs: Sequence[RunSummary], face: Typeface) -> dict[Path, str]:
    """Return names without the directories that all have in common, as they can be drawn."""
    parents = {str(Path(run.name).parent) for run in runs}
    common = (
        Path(os.path.commonpath(parents)) if parents and len({Path(p).is_absolute() for p in parents}) == 1 else Path()
    )
    return {run.path: face.name(str(Path(run.name).relative_to(common))) for run in runs}


def _within(columns: int, names: dict[Path, str]) -> dict[Path, str]:
    """Return names that are shortened to so many columns, and still differ."""
    return dict(zip(names, told_apart(list(names.values()), columns), strict=True))


def _bare(axes: Axes) -> None:
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, 1.0)
    axes.set_xticks([])
    axes.set_yticks([])


def _list(
    axes: Axes,
    shown: Sequence[RunSummary],
    total: int,
    rows: int,
    colours: dict[Path, str],
    names: dict[Path, str],
    face: Typeface,
) -> None:
    _bare(axes)
    axes.set_title(face.label(Message("runs")), family=face.bold_families)
    metric, speed = _of_the_task(shown)
    heads = (
        (0.035, Message("run"), "left"), (0.295, Message("state"), "left"), (0.435, Message("progress"), "left"),
        (0.68, Message("loss"), "right"), (0.76, Message("best"), "right"),
        (0.835, cut(face.text(metric.label.lower()), 7) if metric else "", "right"),
        (0.905, speed, "right"), (0.988, Message("ETA"), "right"),
    )  # fmt: skip
    height = 1.0 / (rows + 2.4)
    short = _within(26, names)
    for x, name, side in heads:
        axes.text(x, 1.0 - height * 0.7, face.word(name), ha=side, va="center", color=FAINT, fontsize=8)
    for row, run in enumerate(shown):
        y = 1.0 - height * (row + 1.7)
        axes.add_patch(Rectangle((0.012, y - 0.3 * height), 0.009, 0.6 * height, color=colours[run.path], lw=0))
        state = STATE_COLOURS[run.state]
        silent = f" {short_duration(run.silent_seconds)}" if run.state is State.STALLED else ""
        axes.add_patch(Rectangle((0.435, y - 0.16 * height), 0.1, 0.32 * height, color="#26324a", lw=0))
        if run.progress is not None:
            axes.add_patch(Rectangle((0.435, y - 0.16 * height), 0.1 * run.progress, 0.32 * height, color=state, lw=0))
        cells = (
            short[run.path],
            f"{face.word(Message(run.state.value))}{silent}",
            f"{int(100 * run.progress)}%" if run.progress is not None else "",
            figure(run.loss) if run.loss is not None else "nan" if run.points else "-",
            figure(run.best_loss) if run.best_loss is not None else "-",
            _metric(metric, run),
            rate(run.speed) if run.speed is not None else "-",
            short_duration(run.eta_seconds) if run.eta_seconds is not None else "-",
        )
        for (x, name, side), cell in zip(heads, cells, strict=True):
            colour = state if name == "state" else TEXT
            axes.text(x + (0.11 if name == "progress" else 0.0), y, cell, ha=side, va="center", color=colour)
    if total > len(shown):
        axes.text(
            0.035,
            0.25 * height,
            face.word(Message("... and {count} more", count=total - len(shown))),
            va="bottom",
            color=FAINT,
        )


def _of_the_task(shown: Sequence[RunSummary]) -> tuple[Metric | None, Message]:
    """Return the metric that there is room for, the first run's last one, and the title of the speeds."""
    metric = next((run.metrics[-1] for run in shown if run.metrics), None)
    units = {run.unit for run in shown if run.unit is not None} or {"tokens"}
    short = {"tokens": Message("tok/s"), "samples": Message("smp/s")}
    return metric, short[next(iter(units))] if len(units) == 1 else Message("per s")


def _metric(metric: Metric | None, run: RunSummary) -> str:
    value = run.figures.get(metric.name) if metric is not None else None
    if metric is None or metric not in run.metrics:
        return ""
    return metric_text(metric, value) if value is not None else "-"


def _leaderboard(
    axes: Axes, boards: Sequence[Board], colours: dict[Path, str], names: dict[Path, str], face: Typeface
) -> None:
    _bare(axes)
    axes.set_title(face.label(Message("leaderboard")), family=face.bold_families)
    if not boards:
        axes.text(0.5, 0.5, face.word(Message("no two runs can be compared")), ha="center", va="center", color=FAINT)
        return
    top, num_shown = 0.94, 0
    for board in boards:
        room = int((top - 0.31) / 0.09 + 1.001)  # places that it has room for
        if room < 2:
            break
        places = board.entries[: min(room, MOST_PLACES)]
        _places(axes, board, places, top, colours, names, face)
        num_shown, top = num_shown + len(places), top - 0.23 - 0.09 * len(places)
    if rest := sum(len(board.entries) for board in boards) - num_shown:
        axes.text(
            0.02, 0.02, face.word(Message("... and {count} more", count=rest)), va="bottom", color=FAINT, fontsize=8
        )


def _places(
    axes: Axes,
    board: Board,
    places: Sequence[Entry],
    top: float,
    colours: dict[Path, str],
    names: dict[Path, str],
    face: Typeface,
) -> None:
    """Draw one board, from a height on."""
    axes.text(0.02, top, face.word(board.measure), va="center", color=TEXT)
    axes.text(0.02, top - 0.065, face.word(board.basis), va="center", color=FAINT, fontsize=8)
    if board.caveat:
        axes.text(0.02, top - 0.12, face.word(board.caveat), va="center", color="#ffd166", fontsize=8)
    worst = max(entry.loss for entry in places)
    short, settings = _within(22, names), setting_lines([entry.differs for entry in places], face)
    for n, (entry, differs) in enumerate(zip(places, settings, strict=True)):
        y = top - 0.2 - 0.09 * n
        colour = colours.get(entry.run.path, OTHER_COLOUR)
        axes.text(
            0.045, y, str(entry.place), ha="right", va="center", color=colour, fontweight="bold",
            family=face.bold_families,
        )  # fmt: skip
        axes.text(0.065, y, short[entry.run.path], va="center")
        axes.text(0.485, y, figure(entry.loss), ha="right", va="center")
        share = entry.loss / worst if worst > 0.0 else 0.0
        axes.add_patch(Rectangle((0.5, y - 0.012), 0.09 * share, 0.024, color=colour, lw=0))
        axes.text(0.605, y, differs, va="center", color=FAINT, fontsize=7.0, linespacing=1.0)


def setting_lines(differs: Sequence[Mapping[str, Any]], face: Typeface) -> list[str]:
    """Return for each place the settings in which the runs differ, in at most two lines.

    A value that is too long is shortened so that it still differs from the others'; settings that have no room are
    counted. One setting alone has both lines.
    """
    keys = list(differs[0])
    width = SETTING_COLUMNS * (2 if len(keys) == 1 else 1)
    columns = []
    for key in keys:
        name = key.rpartition(".")[2]
        room = max(8, width - columns_of(name) - 1)
        values = told_apart([face.text(setting_text(one.get(key))) for one in differs], room)
        columns.append([cut(f"{name}={value}", width) for value in values])
    if len(keys) == 1:
        return [in_two_lines(part, SETTING_COLUMNS) for part in columns[0]]
    return (
        [in_lines(parts, SETTING_COLUMNS, 2) for parts in zip(*columns, strict=True)] if keys else [""] * len(differs)
    )


def _curves(axes: Axes, runs: Sequence[RunSummary], colours: dict[Path, str], face: Typeface) -> None:
    title = face.label(Message("loss: thin training, dots validation"))
    axes.set_title(title, family=face.bold_families)
    if not any(run.points for run in runs):
        _bare(axes)
        axes.text(0.5, 0.5, face.word(Message("no update yet")), ha="center", va="center", color=FAINT)
        return
    drawn: list[float] = []
    rises: list[tuple[float, int, float, str]] = []
    for n, run in reversed(list(enumerate(runs))):  # the first of the list lies on top
        colour = colours[run.path]
        is_named = n < len(RUN_COLOURS)
        losses = [p.loss if p.loss is not None else math.nan for p in run.points]
        axes.plot(
            [p.step for p in run.points], losses, color=colour, lw=0.8, alpha=0.75 if is_named else 0.35,
            marker="." if len(losses) == 1 else "",
        )  # fmt: skip
        measured = [(e.step, e.loss) for e in run.evaluations if e.loss is not None]
        axes.plot(
            [step for step, _ in measured], [loss for _, loss in measured], "o-", color=colour, lw=1.6, ms=3.0,
            alpha=1.0 if is_named else 0.35,
        )  # fmt: skip
        if is_named and (rise := rise_since_lowest([loss for _, loss in measured])) is not None:
            rises.append((rise, *measured[-1], colour))
        drawn += [loss for loss in losses if math.isfinite(loss)] + [loss for _, loss in measured]
    if drawn and min(drawn) > 0.0:
        in_decades(axes, min(drawn) * 0.85, max(drawn) * 1.2)
    _mark_rises(axes, rises, face)
    axes.grid(True, which="major")
    axes.set_xlabel(face.label(Message("step")))


def _mark_rises(axes: Axes, rises: list[tuple[float, int, float, str]], face: Typeface) -> None:
    """Write to the last validations how many times the lowest they are, the largest first, none over another."""
    written: list[Bbox] = []
    for rise, step, loss, colour in sorted(rises, reverse=True):
        words = face.word(Message("{ratio:.3g}x its lowest", ratio=rise))
        mark = axes.annotate(
            words, (step, loss), (0.0, -10.0), textcoords="offset points", ha="right", va="top", color=colour,
            fontsize=8,
        )  # fmt: skip
        box = mark.get_window_extent()
        if any(box.overlaps(other) for other in written):
            mark.remove()
        else:
            written.append(box)


def _activity(
    axes: Axes, shown: Sequence[RunSummary], colours: dict[Path, str], names: dict[Path, str], face: Typeface
) -> None:
    axes.set_title(face.label(Message("at work")), family=face.bold_families)
    ends = {
        State.FAILED: "X",
        State.LOST: "v",
        State.STALLED: "D",
        State.FINISHED: "s",
        State.STOPPED: "P",
        State.RUNNING: ">",
    }
    found = {run.path: spans(run.path) for run in shown}
    known = [time for times in found.values() for span in times for time in span]
    least = (max(known) - min(known)) / 300.0 if known else 0.0  # a bar that can be seen
    for row, run in enumerate(shown):
        colour = colours[run.path]
        bars = [(_day(start), max(end - start, least) / 86400.0) for start, end in found[run.path]]
        axes.broken_barh(bars, (row - 0.22, 0.44), color=colour, alpha=0.8, lw=0)
        if bars:
            end = found[run.path][-1][1]
            axes.plot(
                [_day(end)], [row], ends.get(run.state, ">"), ms=6, color=STATE_COLOURS[run.state],
                markeredgecolor=GROUND,
            )  # fmt: skip
    for state in (s for s in ends if any(run.state is s for run in shown)):
        axes.plot([], [], ends[state], color=STATE_COLOURS[state], label=face.word(Message(state.value)))
    short = _within(20, names)
    axes.set_yticks(range(len(shown)), [short[run.path] for run in shown], fontsize=7.5)
    axes.set_ylim(max(len(shown), 4) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    if known:
        margin = max((max(known) - min(known)) * 0.03, 1.0)
        axes.set_xlim(_day(min(known) - margin), _day(max(known) + margin))
        locator = dates.AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        axes.figure.legend(
            *axes.get_legend_handles_labels(), loc="outside upper right", fontsize=7.5, ncols=5, frameon=False,
            bbox_to_anchor=(0.988, axes.get_position().y1 + 0.044), handletextpad=0.1, columnspacing=0.8,
        )  # fmt: skip
    axes.grid(axis="x")


def _day(time: float) -> float:
    """Return a time in matplotlib's days, in local time."""
    return float(dates.date2num(datetime.fromtimestamp(time)))  # type: ignore[no-untyped-call]
