"""The monitor's picture for a terminal: the runs, what is wrong with them, and which is best."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tools.figures.wording import figure, printable, rate, setting_text, told_apart
from tools.monitoring.leaderboard import Board
from tools.monitoring.sparkline import Glyphs, bar, sparkline
from tools.runs.summary import RunSummary, metric_text
from training.language.messages import Message, translated
from training.machine.units import short_duration
from training.record.alerts import Alert, Kind
from training.record.run_state import State
from training.tasks.metrics import Metric

STATE_STYLES = {
    State.RUNNING: "bold cyan",
    State.STARTING: "cyan",
    State.STALLED: "bold yellow",
    State.LOST: "bold red",
    State.FAILED: "bold red",
    State.STOPPED: "magenta",
    State.FINISHED: "green",
    State.UNREADABLE: "bold red",
}
ALERT_STYLES = {
    Kind.FAILED: "red",
    Kind.NOT_FINITE: "red",
    Kind.UNREADABLE: "red",
    Kind.STALLED: "yellow",
    Kind.LOST: "red",
    Kind.SPIKING: "yellow",
    Kind.OVERFITTING: "magenta",
}
SPEEDS = {"tokens": Message("tok/s"), "samples": Message("samples/s")}
"""Unit that a run counts, and the title of the column of its speed."""
NAME_WIDTH = (18, 36)
MOST_ALERTS, MOST_PLACES = 6, 5
"""Lines that a large screen gives to them; a small one gives each an eighth of its height. Lines to spare go to the
alerts."""
LEAST_RUNS = 3


class Column(NamedTuple):
    """One column of the table."""

    title: Message
    width: int
    cell: Callable[[RunSummary, Glyphs], Text]
    rank: int
    """The columns with the highest ranks go first where the terminal is narrow."""
    is_number: bool = True

    @property
    def room(self) -> int:
        """Columns that it takes: for its cells, and for its title in the chosen language."""
        return max(self.width, Text(translated(self.title)).cell_len)


class Layout(NamedTuple):
    """Room that a terminal has."""

    width: int
    height: int | None
    """None: everything is shown."""
    glyphs: Glyphs


def picture(
    runs: Sequence[RunSummary],
    alerts: Sequence[tuple[RunSummary, Alert]],
    boards: Sequence[Board],
    layout: Layout,
) -> RenderableType:
    """Return the whole picture. On a screen of fixed height the last runs give way and are counted."""
    if layout.height is None:
        below = [
            *_alert_lines(alerts, len(alerts)),
            *(line for b in boards for line in _board_lines(b, len(b.entries))),
        ]
        return Group(heading(runs), _table(runs, layout), *below)
    most_alerts, most_places = (max(1, min(most, layout.height // 8)) for most in (MOST_ALERTS, MOST_PLACES))
    places = [line for board in boards[:1] for line in _board_lines(board, most_places)]
    below = [*_alert_lines(alerts, most_alerts), *places]
    if (spare := layout.height - len(below) - len(runs) - 3) > 0:
        below = [*_alert_lines(alerts, most_alerts + spare), *places]
    room = max(LEAST_RUNS, layout.height - len(below) - 3)  # next to the heading, the table's head and its line
    shown = list(runs) if len(runs) <= room else list(runs[: room - 1])
    if left := len(runs) - len(shown):
        below.insert(0, _words(Message("... and {count} more runs (--once shows all)", count=left), "dim"))
    for line in (title := heading(runs), *below):
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(title, _table(shown, layout), *below)


def heading(runs: Sequence[RunSummary]) -> Text:
    """Return `12 runs: 3 running, 1 stalled, 8 finished`, and the time."""
    counted = Message("{count} run", count=1) if len(runs) == 1 else Message("{count} runs", count=len(runs))
    text = Text.assemble((translated(counted), "bold"))
    for n, state in enumerate(s for s in State if any(run.state is s for run in runs)):
        text.append(": " if n == 0 else ", ")
        number = sum(run.state is state for run in runs)
        words = Message("{count} {state}", count=number, state=Message(state.value))
        text.append(translated(words), STATE_STYLES[state])
    return text.append(f"   {time.strftime('%H:%M:%S')}", "dim")


def _words(message: str, style: str = "", indent: str = "") -> Text:
    """Return a message in the chosen language."""
    return Text(indent + translated(message), style)


def _known(value: float | None, form: Callable[[float], str], glyphs: Glyphs) -> Text:
    return Text(form(value)) if value is not None else Text(glyphs.dash, "dim")


def _state(run: RunSummary, glyphs: Glyphs) -> Text:
    silent = f" {short_duration(run.silent_seconds)}" if run.state is State.STALLED else ""
    return Text(f"{translated(Message(run.state.value))}{silent}", STATE_STYLES[run.state])


def _progress(run: RunSummary, glyphs: Glyphs) -> Text:
    if run.progress is None:
        return Text(glyphs.dash, "dim")
    full, empty = bar(run.progress, 10, glyphs)
    percent = "100" if run.progress >= 1.0 else f"{min(99, int(100 * run.progress)):3d}"
    return Text.assemble((full, STATE_STYLES[run.state]), (empty, "dim"), f" {percent}%")


def _steps(run: RunSummary, glyphs: Glyphs) -> Text:
    return Text(f"{run.step:,}" + (f"/{run.total_steps:,}" if run.total_steps is not None else ""))


def _loss(run: RunSummary, glyphs: Glyphs) -> Text:
    if run.step and run.loss is None and run.points:
        return Text("nan", "bold red")
    return _known(run.loss, figure, glyphs)


def _curve(run: RunSummary, glyphs: Glyphs) -> Text:
    return Text(sparkline([point.loss for point in run.points], 12, glyphs), STATE_STYLES[run.state])


def _backend(run: RunSummary, glyphs: Glyphs) -> Text:
    return Text(printable(run.backend)) if run.backend else Text(glyphs.dash, "dim")


def _metric_column(metric: Metric) -> Column:
    def cell(run: RunSummary, glyphs: Glyphs) -> Text:
        return _known(run.figures.get(metric.name), lambda value: metric_text(metric, value), glyphs)

    title = Message(printable(metric.label.lower()))
    return Column(title, 6 if metric.form == "percent" else 7, cell, 5)


def _speed_column(unit: str) -> Column:
    def cell(run: RunSummary, glyphs: Glyphs) -> Text:
        return _known(run.speed if run.unit in (unit, None) else None, rate, glyphs)

    return Column(SPEEDS[unit], 6, cell, 6)


def columns_of(runs: Sequence[RunSummary]) -> list[Column]:
    """Return the columns of a table of these runs: each metric that one of their tasks has, and no other's."""
    metrics = dict.fromkeys(metric for run in runs for metric in run.metrics)
    units = dict.fromkeys(run.unit for run in runs if run.unit is not None) or {"tokens": None}
    longest = max(Text(translated(Message(state.value))).cell_len for state in State)
    return [
        Column(Message("state"), longest + 7, _state, 0, is_number=False),
        *_FIRST,
        *map(_metric_column, metrics),
        *(_speed_column(unit) for unit in SPEEDS if unit in units),
        *_LAST,
    ]


_FIRST = (
    Column(Message("backend"), 11, _backend, 4, is_number=False),
    Column(Message("progress"), 15, _progress, 1, is_number=False),
    Column(Message("step"), 15, _steps, 8),
    Column(Message("loss"), 7, _loss, 0),
    Column(Message("curve"), 12, _curve, 3, is_number=False),
    Column(Message("best"), 7, lambda run, glyphs: _known(run.best_loss, figure, glyphs), 2),
)
_LAST = (
    Column(Message("ETA"), 6, lambda run, glyphs: _known(run.eta_seconds, short_duration, glyphs), 1),
    Column(Message("age"), 6, lambda run, glyphs: _known(run.age_seconds, short_duration, glyphs), 7),
)


def columns_within(width: int, runs: Sequence[RunSummary]) -> list[Column]:
    """Return the columns that fit next to the shortest name; those of the highest ranks are left out first."""
    columns = columns_of(runs)
    while sum(column.room + 2 for column in columns) + NAME_WIDTH[0] > width and any(c.rank for c in columns):
        columns.remove(max(columns, key=lambda column: column.rank))
    return columns


def _table(runs: Sequence[RunSummary], layout: Layout) -> Table:
    columns = columns_within(layout.width, runs)
    room = layout.width - sum(column.room + 2 for column in columns)
    longest = max((Text(printable(run.name)).cell_len for run in runs), default=0)
    name_width = max(4, min(longest, max(NAME_WIDTH[0], min(NAME_WIDTH[1], room))))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column(translated(Message("run")), width=name_width, no_wrap=True)
    for column in columns:
        side = "right" if column.is_number else "left"
        title = translated(column.title)
        table.add_column(title, width=column.room, no_wrap=True, justify=side)  # type: ignore[arg-type]
    names = told_apart([printable(run.name) for run in runs], name_width)
    for run, name in zip(runs, names, strict=True):
        table.add_row(Text(name), *(column.cell(run, layout.glyphs) for column in columns))
    return table


def _alert_lines(alerts: Sequence[tuple[RunSummary, Alert]], most: int) -> list[Text]:
    if not alerts:
        return []
    lines = [Text(""), _words(Message("alerts"), "bold")]
    for run, alert in alerts[:most]:
        line = Text("  ").append(printable(run.name)).append(": ", "dim")
        lines.append(line.append(printable(translated(alert.message)), ALERT_STYLES[alert.kind]))
    if len(alerts) > most:
        lines.append(_words(Message("... and {count} more", count=len(alerts) - most), "dim", indent="  "))
    return lines


def _board_lines(board: Board, most: int) -> list[Text]:
    head = translated(Message("leaderboard: {measure}", measure=board.measure))
    title = Text.assemble((head, "bold"), (f"   {translated(board.basis)}", "dim"))
    lines = [Text(""), title.append(f"; {translated(board.caveat)}" if board.caveat else "", "yellow")]
    width = max(Text(printable(entry.run.name)).cell_len for entry in board.entries[:most])
    for entry in board.entries[:most]:
        name = Text(printable(entry.run.name))
        name.pad_right(max(0, min(width, NAME_WIDTH[1]) - name.cell_len))
        differs = "  ".join(f"{key.rpartition('.')[2]}={setting_text(value)}" for key, value in entry.differs.items())
        line = Text(f"{entry.place:3d}  ", "bold" if entry.place == 1 else "").append_text(name)
        lines.append(line.append(f"  {figure(entry.loss):>7}  ").append(printable(differs), "dim"))
    if len(board.entries) > most:
        lines.append(_words(Message("... and {count} more", count=len(board.entries) - most), "dim", indent="     "))
    return lines
