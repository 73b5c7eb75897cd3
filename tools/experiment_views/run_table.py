"""The table of `list` for a terminal."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tools.figures.wording import cut, figure, rate, setting_text, told_apart
from tools.figures.wording import printable as shown_text
from tools.monitoring.sparkline import Glyphs, sparkline
from tools.monitoring.table import NAME_WIDTH, STATE_STYLES
from training.experiments.store.index import Group
from training.experiments.store.rows import RunRow
from training.language.messages import Message, translated
from training.machine.units import short_duration
from training.record.run_state import State

CURVE_WIDTH = 10
TAGS_WIDTH = 18
VALUE_WIDTH = 14
"""Columns of a value that was asked for by name, at most."""
_ALWAYS = 0
"""Rank of a column that never goes."""


class Column(NamedTuple):
    """One column of the table."""

    title: str
    width: int
    cell: Callable[[RunRow], Text]
    rank: int
    """The columns with the highest ranks go first where the terminal is narrow."""
    is_number: bool = True

    @property
    def room(self) -> int:
        """Columns that it takes: for its cells, and for its title in the chosen language."""
        return max(self.width, Text(translated(self.title)).cell_len)


def picture(
    rows: Sequence[RunRow],
    total: int,
    values: Mapping[str, Mapping[str, Any]],
    group_by: str | None,
    groups: Sequence[Group] | None,
    width: int,
    glyphs: Glyphs,
) -> RenderableType:
    """Return the heading and the table, or a table for each group.

    Args:
        rows: the runs.
        total: number of runs that fulfil the conditions.
        values: columns that were asked for, by name and by run.
        group_by: name of what they are grouped by.
        groups: the same runs in groups; None: they are not grouped.
        width: columns of the terminal.
        glyphs: characters that it can draw.
    """
    columns = _columns_within(width, rows, values, glyphs)
    title = heading(rows, total)
    if groups is None:
        return Lines(title, *([_table(rows, columns, width)] if rows else []))
    parts: list[RenderableType] = [title]
    for group in groups:
        parts += [Text(""), _group_line(str(group_by), group), _table(group.runs, columns, width)]
    return Lines(*parts)


def heading(rows: Sequence[RunRow], total: int) -> Text:
    """Return `12 runs: 3 running, 9 finished`, or `12 of 200 runs` where not all are shown."""
    if len(rows) < total:
        counted = Message("{count} of {total} runs", count=len(rows), total=total)
    else:
        counted = Message("{count} run", count=1) if total == 1 else Message("{count} runs", count=total)
    text = Text.assemble((translated(counted), "bold"))
    states = [state for state in State if any(row.state == state for row in rows)]
    for n, state in enumerate(states):
        number = sum(row.state == state for row in rows)
        words = Message("{count} {state}", count=number, state=Message(state.value))
        text.append(": " if n == 0 else ", ").append(translated(words), STATE_STYLES[state])
    return text


def _group_line(name: str, group: Group) -> Text:
    """Return `learning_rate = 0.0003   4 runs   best loss 1.21 ± 0.03`."""
    value = translated(Message("not known")) if group.value is None else shown_text(setting_text(group.value))
    many = len(group.runs)
    counted = Message("{count} run", count=1) if many == 1 else Message("{count} runs", count=many)
    line = Text.assemble((f"{shown_text(name)} = {value}", "bold cyan"), f"   {translated(counted)}")
    losses = [row.best_loss for row in group.runs if row.best_loss is not None and math.isfinite(row.best_loss)]
    if len(losses) > 1:
        mean, spread = figure(statistics.fmean(losses)), figure(statistics.stdev(losses))
        words = Message("best loss {mean} ± {spread} (mean and standard deviation)", mean=mean, spread=spread)
        line.append(f"   {translated(words)}", "dim")
    return line


def _columns(rows: Sequence[RunRow], values: Mapping[str, Mapping[str, Any]], glyphs: Glyphs) -> Iterator[Column]:
    now = time.time()

    def known(value: float | None, form: Callable[[float], str]) -> Text:
        if value is None:
            return Text(glyphs.dash, "dim")
        return Text(form(value)) if math.isfinite(value) else Text("nan", "bold red")

    def state(row: RunRow) -> Text:
        return Text(translated(Message(row.state)), _style(row))

    def progress(row: RunRow) -> Text:
        return known(row.progress, lambda share: f"{math.floor(100 * share)}%")

    def curve(row: RunRow) -> Text:
        return Text(sparkline(row.sparkline, CURVE_WIDTH, glyphs), _style(row))

    def tags(row: RunRow) -> Text:
        return Text(cut(shown_text(", ".join(row.tags)), TAGS_WIDTH), "dim")

    yield Column("id", 12, lambda row: Text(row.id, "dim"), 8, is_number=False)
    longest = max(Text(translated(Message(one.value))).cell_len for one in State)
    yield Column(Message("state"), longest, state, _ALWAYS, is_number=False)
    yield Column(Message("done"), 4, progress, 2)
    yield Column(Message("step"), max((len(f"{row.step:,}") for row in rows), default=4), _step, 4)
    yield Column(Message("curve"), CURVE_WIDTH, curve, 7, is_number=False)
    yield Column(Message("loss"), 7, lambda row: known(row.loss, figure), 1)
    yield Column(Message("val loss"), 8, lambda row: known(row.val_loss, figure), 1)
    yield Column(Message("best"), 7, lambda row: known(row.best_loss, figure), 3)
    for name in dict.fromkeys(name for row in rows for name in row.metrics):
        yield Column(shown_text(name)[:VALUE_WIDTH], 7, _metric(name, known), 5)
    if any(row.speed is not None for row in rows):
        yield Column(Message("per s"), 6, lambda row: known(row.speed, rate), 9)
    yield Column(
        Message("age"),
        7,
        lambda row: known(max(0.0, now - row.started_at) if row.started_at is not None else None, short_duration),
        6,
    )
    for name, of_runs in values.items():
        yield _value_column(name, of_runs, known)
    if any(row.tags for row in rows):
        width = max(Text(tags(row).plain).cell_len for row in rows)
        yield Column(Message("tags"), width, tags, 5, is_number=False)


def _style(row: RunRow) -> str:
    return STATE_STYLES[State(row.state)]


def _step(row: RunRow) -> Text:
    return Text(f"{row.step:,}")


def _metric(name: str, known: Callable[[float | None, Callable[[float], str]], Text]) -> Callable[[RunRow], Text]:
    def cell(row: RunRow) -> Text:
        is_percent = row.metric_forms.get(name) == "percent"
        return known(row.metrics.get(name), (lambda value: f"{value:.1%}") if is_percent else figure)

    return cell


def _value_column(
    name: str, of_runs: Mapping[str, Any], known: Callable[[float | None, Callable[[float], str]], Text]
) -> Column:
    def cell(row: RunRow) -> Text:
        value = of_runs.get(row.id)
        if isinstance(value, float):
            return known(value, setting_text)
        return Text(cut(shown_text(setting_text(value)), VALUE_WIDTH)) if value is not None else known(None, figure)

    title = shown_text(name.rpartition(".")[2])
    width = min(VALUE_WIDTH, max((Text(setting_text(value)).cell_len for value in of_runs.values()), default=1))
    return Column(title, width, cell, _ALWAYS, all(isinstance(v, int | float) for v in of_runs.values()))


def _columns_within(
    width: int, rows: Sequence[RunRow], values: Mapping[str, Mapping[str, Any]], glyphs: Glyphs
) -> list[Column]:
    """Return the columns that fit next to the shortest name; those of the highest ranks are left out first."""
    columns = list(_columns(rows, values, glyphs))
    while sum(column.room + 2 for column in columns) + NAME_WIDTH[0] > width and any(c.rank for c in columns):
        columns.remove(max(columns, key=lambda column: column.rank))
    return columns


def _table(rows: Sequence[RunRow], columns: Sequence[Column], width: int) -> Table:
    room = width - sum(column.room + 2 for column in columns)
    names = [shown_text(row.name) for row in rows]
    longest = max(Text(name).cell_len for name in names)
    name_width = max(4, min(longest, max(NAME_WIDTH[0], min(NAME_WIDTH[1], room))))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column(translated(Message("run")), width=name_width, no_wrap=True)
    for column in columns:
        side = "right" if column.is_number else "left"
        table.add_column(translated(column.title), width=column.room, no_wrap=True, justify=side)  # type: ignore[arg-type]
    for row, name in zip(rows, told_apart(names, name_width), strict=True):
        style = "dim" if row.archived else ""
        table.add_row(Text(name, style), *(column.cell(row) for column in columns))
    return table
