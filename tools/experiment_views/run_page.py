"""The page of `show` for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from tools.figures.wording import columns_of, printable, rate, setting_text
from tools.monitoring.table import STATE_STYLES
from training.experiments.store.rows import RunRow
from training.language.messages import Message, chosen_language, translated
from training.machine.units import short_duration
from training.record.run_state import State

Pairs = Sequence[tuple[str, str]]


def page(row: RunRow, settings: Mapping[str, Any], figures: Mapping[str, float]) -> RenderableType:
    """Return all that is known of a run.

    Args:
        row: the run.
        settings: its settings, flat.
        figures: the numbers that its record ends with.
    """
    state = translated(Message(row.state))
    lines = [Text.assemble((printable(row.name), "bold"), "   ", (row.id, "dim"))]
    lines.append(Text.assemble((state, STATE_STYLES[State(row.state)]), f"   {printable(row.reason)}"))
    for alert in row.alerts:
        text = alert["message_zh"] if chosen_language() == "zh" else alert["message"]
        lines.append(Text(printable(text), "yellow"))
    for title, pairs in (
        (None, [(translated(name), value) for name, value in _facts(row)]),
        (Message("figures"), [(name, _number(value)) for name, value in sorted(figures.items())]),
        (Message("settings"), [(key, setting_text(value)) for key, value in settings.items()]),
    ):
        if pairs:
            lines += [Text(""), *([Text(translated(title), "bold")] if title is not None else []), *_aligned(pairs)]
    return Lines(*lines)


def _facts(row: RunRow) -> Iterator[tuple[Message, str]]:
    for name, value in (
        (Message("task"), row.task),
        (Message("model"), row.model),
        (Message("backend"), row.backend),
        (Message("device"), row.device),
    ):
        if value is not None:
            yield name, value
    total = f" / {row.total_steps:,}" if row.total_steps is not None else ""
    share = f" ({row.progress:.0%})" if row.progress is not None else ""
    yield Message("step"), f"{row.step:,}{total}{share}"
    for name, time in (
        (Message("started"), row.started_at),
        (Message("last event"), row.updated_at),
        (Message("ended"), row.ended_at),
    ):
        if time is not None:
            yield name, f"{datetime.fromtimestamp(time):%Y-%m-%d %H:%M:%S}"
    yield Message("training time"), short_duration(row.training_seconds)
    if row.speed is not None:
        yield Message("speed"), f"{rate(row.speed)} {row.unit or ''}/s"
    if row.eta_seconds is not None:
        yield Message("ETA"), short_duration(row.eta_seconds)
    yield Message("checkpoints"), str(row.num_checkpoints)
    if row.tags:
        yield Message("tags"), ", ".join(row.tags)
    if row.archived:
        yield Message("archived"), translated(Message("yes"))
    if row.note:
        yield Message("note"), row.note


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "nan"
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"


def _aligned(pairs: Pairs) -> list[Text]:
    width = max(columns_of(printable(name)) for name, _ in pairs)
    found = []
    for name, value in pairs:
        name = printable(name)
        found.append(Text(f"  {name}{' ' * (width - columns_of(name))}  ").append(printable(value)))
    return found
