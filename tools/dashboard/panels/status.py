"""The run in figures: how far it is, how well, how fast, on what, and how it is doing."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from tools.dashboard.followed_run import RunView
from tools.dashboard.history import History
from tools.dashboard.pen import LARGE, SMALL, Pen
from tools.dashboard.scene import Scene
from tools.dashboard.theme import Theme
from tools.monitoring.run import RunSummary
from tools.monitoring.state import State
from tools.monitoring.wording import duration, figure, rate
from training.units import as_size

TITLE = ("运行", "run")
UNKNOWN = "-"
LONGEST_REASON = 44


def draw(axes: Axes, scene: Scene, pen: Pen) -> None:
    """Draw the panel."""
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, 1.0)
    axes.set_axis_off()
    summary = scene.run.summary
    state = state_told(scene.run)
    axes.text(0.0, 0.955, state, color=state_colour(scene.run, pen.theme), fontsize=LARGE, va="center", **pen.bold)
    if summary is None:
        axes.text(0.0, 0.80, pen.typeface.text(_cut(str(scene.run.directory))), color=pen.theme.faint, fontsize=SMALL)
        return
    reason = summary.reason.splitlines()[0] if summary.reason else ""
    if reason:
        axes.text(0.0, 0.845, pen.typeface.text(_cut(reason)), color=pen.theme.faint, fontsize=SMALL, va="center")
    _progress(axes, scene, summary, pen)
    for n, (name, value) in enumerate(rows(scene, summary)):
        x, y = 0.52 * (n % 2), 0.60 - 0.098 * (n // 2)
        axes.text(x, y, pen.typeface.label(*name), color=pen.theme.faint, fontsize=SMALL, va="center")
        axes.text(x + 0.48, y, pen.typeface.text(value), color=pen.theme.text, ha="right", va="center", fontsize=8.0)


def state_told(view: RunView) -> str:
    """`running`, `stalled for 3m20s`, `waiting for a run`, …"""
    if view.summary is None:
        return "deleted, waiting" if view.was_deleted else "waiting for a run"
    if view.summary.state is State.STALLED:
        return f"stalled for {duration(view.summary.silent_seconds)}"
    return str(view.summary.state)


def state_colour(view: RunView, theme: Theme) -> str:
    """Bad news in red, a standstill in the colour of marks."""
    state = view.summary.state if view.summary is not None else None
    if state in (State.FAILED, State.UNREADABLE):
        return theme.bad
    if state in (State.STALLED, State.STOPPED) or state is None:
        return theme.tertiary
    return theme.good if state is State.FINISHED else theme.primary


def _progress(axes: Axes, scene: Scene, summary: RunSummary, pen: Pen) -> None:
    total = summary.total_steps
    share = min(1.0, scene.now / total) if total else 0.0
    axes.add_patch(Rectangle((0.0, 0.70), 1.0, 0.05, color=pen.theme.grid, lw=0))
    colour = state_colour(scene.run, pen.theme)
    axes.add_patch(Rectangle((0.0, 0.70), share, 0.05, color=colour, lw=0))
    if pen.theme.glow:
        for wide, alpha in ((0.012, 0.22), (0.026, 0.10)):
            axes.add_patch(Rectangle((0.0, 0.70 - wide), share, 0.05 + 2 * wide, color=colour, lw=0, alpha=alpha))


def rows(scene: Scene, summary: RunSummary) -> list[tuple[tuple[str, str], str]]:
    """((Chinese, English), value): every figure is the record's, at the update that is shown."""
    replayed = scene.replayed_until is not None
    history = scene.history(scene.run)
    latest = history.latest
    loss = latest.loss if latest else None
    accuracy = latest.accuracy if latest else None
    left = ("剩余", "ETA") if summary.eta_seconds is not None else ("历时", "took")
    peak = history.peak_memory_bytes
    memory = {"resident": ("内存峰值", "RAM"), "cuda_tensors": ("显存峰值", "GPU mem")}
    return [
        (("轮", "epoch"), _of(latest.epoch if latest else None, history.facts["num_epochs"])),
        (("步", "step"), _of(scene.now, summary.total_steps)),
        (("损失", "loss"), figure(loss) if loss is not None else UNKNOWN),
        (("困惑度", "PPL"), figure(math.exp(loss)) if loss is not None and loss < 700.0 else UNKNOWN),
        (("准确率", "acc"), f"{accuracy:.1%}" if accuracy is not None else UNKNOWN),
        (("词元/秒", "tok/s"), _rate(history)),
        (("前/反向", "FW/BW"), _timing(history)),
        (left, UNKNOWN if replayed else _time(summary)),
        (("设备", "device"), summary.device or UNKNOWN),
        (memory.get(history.memory_kind, ("内存", "memory")), as_size(peak) if peak is not None else UNKNOWN),
        (("后端", "backend"), summary.backend or UNKNOWN),
        (("参数", "params"), _count(history.facts["num_parameters"])),
    ]  # fmt: skip


def _of(part: int | None, whole: int | None) -> str:
    if part is None:
        return UNKNOWN
    return f"{part:,}/{whole:,}" if whole is not None else f"{part:,}"


def _rate(history: History) -> str:
    speed = history.latest.tokens_per_second if history.latest else None
    return rate(speed) if speed is not None else UNKNOWN


def _timing(history: History) -> str:
    """Milliseconds of the last update's forward and backward passes."""
    latest = history.latest
    if latest is None or latest.forward_ms is None or latest.backward_ms is None:
        return UNKNOWN
    return f"{latest.forward_ms:.0f}/{latest.backward_ms:.0f} ms"


def _time(summary: RunSummary) -> str:
    if summary.eta_seconds is not None:
        return duration(summary.eta_seconds)
    if summary.started_at is not None and summary.ended_at is not None:
        return duration(summary.ended_at - summary.started_at)
    return UNKNOWN


def _count(number: int | None) -> str:
    return rate(number) if number is not None else UNKNOWN


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "~"
