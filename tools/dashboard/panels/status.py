"""The run in figures: how far it is, how well, how fast, on what, and how it is doing."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from tools.dashboard.panels.drawing_style import LARGE, SMALL, Pen
from tools.dashboard.panels.frame import Frame, RunView
from tools.dashboard.panels.theme import Theme
from tools.figures.wording import cut, figure, in_two_lines, rate, shortened
from tools.runs.summary import RunSummary, metric_text
from training.language.messages import Message
from training.machine.units import as_size, short_duration
from training.record.run_state import State
from training.record.schema import number
from training.record.trace import Trace
from training.tasks.metrics import Metric

TITLE = Message("run")
UNKNOWN = "-"
LONGEST_LINE = 56
"""Columns of a line of small letters."""
LONGEST_NAME = 11
"""Columns of a device or a backend, next to its label."""
LONGEST_COUNT = 19
NAMES = {"perplexity": Message("PPL"), "accuracy": Message("acc")}
"""Names of metrics that have a Chinese one; others are shown by their label."""
MOST_METRICS = 6
"""Metrics of the task that there is room for, the first ones."""
UNITS = {"tokens": Message("tok/s"), "samples": Message("samples/s")}
_WIDTH, _HEIGHT = 3.05, 2.05
"""Inches of the panel among the six; alone it has larger letters."""


def draw(axes: Axes, frame: Frame, pen: Pen) -> None:
    """Draw the panel."""
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, 1.0)
    axes.set_axis_off()
    summary = frame.run.summary
    size = _size(axes)
    words: dict[str, Any] = {"color": frame_colour(frame, pen.theme), "fontsize": size * LARGE, **pen.bold}
    axes.text(0.0, 0.955, pen.typeface.word(frame_state(frame)), va="center", **words)
    small: dict[str, Any] = {"color": pen.theme.faint, "fontsize": size * SMALL, "va": "center"}
    if summary is None:
        axes.text(0.0, 0.81, shortened(pen.typeface.text(str(frame.run.directory)), LONGEST_LINE), **small)
        return
    if summary.reason and not frame.is_midway:
        reason = pen.typeface.text(summary.reason.splitlines()[0])
        axes.text(0.0, 0.836, in_two_lines(reason, LONGEST_LINE), linespacing=1.1, **small)
    _progress(axes, frame, summary, pen)
    figures = rows(frame, summary)
    gap = min(0.098, 0.5 / (math.ceil(len(figures) / 2) - 1))
    for n, (name, value) in enumerate(figures):
        x, y = 0.52 * (n % 2), 0.60 - gap * (n // 2)
        axes.text(x, y, pen.typeface.label(name), **small)
        value = pen.typeface.text(value)
        axes.text(x + 0.48, y, value, color=pen.theme.text, ha="right", va="center", fontsize=size * 8.0)


def _size(axes: Axes) -> float:
    """Return how much larger letters are than among six panels."""
    room, dpi = axes.get_window_extent(), axes.figure.dpi
    return float(min(max(1.0, min(room.width / dpi / _WIDTH, room.height / dpi / _HEIGHT)), 2.0))


def frame_state(frame: Frame) -> Message:
    """Return the run's state; in the midst of an animation, its position."""
    return Message("replay, step {step:,}", step=frame.now) if frame.is_midway else state_text(frame.run)


def frame_colour(frame: Frame, theme: Theme) -> str:
    """Return the colour of `frame_state`."""
    return theme.primary if frame.is_midway else state_colour(frame.run, theme)


def state_text(view: RunView) -> Message:
    """Say the state: `running`, `stalled for 3m20s`, `waiting for a run`, …"""
    if view.summary is None:
        return Message("deleted, waiting") if view.was_deleted else Message("waiting for a run")
    if view.summary.state is State.STALLED:
        return Message("stalled for {time}", time=short_duration(view.summary.silent_seconds))
    return Message(view.summary.state.value)


def state_colour(view: RunView, theme: Theme) -> str:
    """Return the colour of a state: bad news in red, a standstill in the colour of marks."""
    state = view.summary.state if view.summary is not None else None
    if state in (State.FAILED, State.LOST, State.UNREADABLE):
        return theme.bad
    if state in (State.STALLED, State.STOPPED) or state is None:
        return theme.tertiary
    return theme.good if state is State.FINISHED else theme.primary


def _progress(axes: Axes, frame: Frame, summary: RunSummary, pen: Pen) -> None:
    total = summary.total_steps
    share = min(1.0, frame.now / total) if total else 0.0
    axes.add_patch(Rectangle((0.0, 0.70), 1.0, 0.05, color=pen.theme.grid, lw=0))
    colour = frame_colour(frame, pen.theme)
    axes.add_patch(Rectangle((0.0, 0.70), share, 0.05, color=colour, lw=0))
    if pen.theme.glow:
        for wide, alpha in ((0.012, 0.22), (0.026, 0.10)):
            axes.add_patch(Rectangle((0.0, 0.70 - wide), share, 0.05 + 2 * wide, color=colour, lw=0, alpha=alpha))


def rows(frame: Frame, summary: RunSummary) -> list[tuple[Message, str]]:
    """Return (name, value) pairs: every figure is the record's, at the update that is shown.

    A figure that the task does not have has no row.
    """
    history = frame.history(frame.run)
    latest = history.latest
    loss = latest.loss
    is_over = summary.ended_at is not None and not frame.is_midway
    peak = history.peak_memory_bytes
    memory = {"resident": Message("RAM"), "cuda_tensors": Message("GPU mem")}
    return [
        (Message("epoch"), _of(latest.epoch, history.facts.get("num_epochs"))),
        (Message("step"), _of(frame.now, summary.total_steps)),
        (Message("loss"), figure(loss) if loss is not None else "nan" if latest and history.has_losses else UNKNOWN),
        *((_name(metric), _metric(metric, history)) for metric in _of_updates(history)),
        (UNITS[history.unit or "tokens"], _rate(history)),
        (Message("FW/BW"), _timing(history)),
        (Message("took"), _taken(summary)) if is_over else (Message("ETA"), _left(summary)),
        (Message("device"), cut(summary.device or UNKNOWN, LONGEST_NAME)),
        (memory.get(history.memory_kind, Message("memory")), as_size(peak) if peak is not None else UNKNOWN),
        (Message("backend"), cut(summary.backend or UNKNOWN, LONGEST_NAME)),
        (Message("params"), _count(history.facts.get("num_parameters"))),
    ]


def _of_updates(history: Trace) -> list[Metric]:
    """Return the metrics that updates have, as many as there is room for."""
    return [metric for metric in history.metrics if metric.at == "updates"][:MOST_METRICS]


def _name(metric: Metric) -> Message:
    return NAMES.get(metric.name) or Message(cut(metric.label, LONGEST_NAME))


def _metric(metric: Metric, history: Trace) -> str:
    value = number(history.latest.get(metric.name))
    if metric.derived == "exp_loss":
        value = metric.of_loss(history.latest.loss)
    if value is None:
        return UNKNOWN
    return metric_text(metric, value)


def _of(part: int | None, whole: int | None) -> str:
    if part is None:
        return UNKNOWN
    if whole is None:
        return f"{part:,}"
    words = f"{part:,}/{whole:,}"
    return words if len(words) <= LONGEST_COUNT else f"{part:,}/{rate(whole)}"


def _rate(history: Trace) -> str:
    return rate(history.speed) if history.speed is not None else UNKNOWN


def _timing(history: Trace) -> str:
    """Return milliseconds of the last update's forward and backward passes."""
    forward, backward = (number(history.latest.get(key)) for key in ("forward_ms", "backward_ms"))
    return f"{forward:.0f}/{backward:.0f} ms" if forward is not None and backward is not None else UNKNOWN


def _left(summary: RunSummary) -> str:
    return short_duration(summary.eta_seconds) if summary.eta_seconds is not None else UNKNOWN


def _taken(summary: RunSummary) -> str:
    if summary.started_at is None or summary.ended_at is None:
        return UNKNOWN
    return short_duration(summary.ended_at - summary.started_at)


def _count(number: int | None) -> str:
    return rate(number) if number is not None else UNKNOWN
