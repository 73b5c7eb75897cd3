"""Runs side by side as text: settings that differ, figures with curves, and conclusions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tools.figures.wording import aligned, figure, setting_text
from tools.monitoring.sparkline import glyphs_for, sparkline
from training.experiments.comparison import conclusion
from training.experiments.side_by_side import SideBySide, text_of
from training.experiments.store.rows import RunRow
from training.language.messages import Message, translated
from training.machine.units import short_duration

CURVE_COLUMNS = 24
_HEADS: Mapping[str, Message] = {
    "step": Message("step"), "loss": Message("loss"), "val_loss": Message("validation"), "best_loss": Message("best"),
    "best_step": Message("best step"), "training_seconds": Message("training"),
}  # fmt: skip


def lines_of(compared: SideBySide, encoding: str | None) -> Iterator[str]:
    """Yield the comparison as text: settings, figures with curves, and conclusions."""
    if compared.settings:
        yield Message("settings that differ")
        names = _short(list(compared.settings))
        rows = [[run.name, *(_setting(values, run) for values in compared.settings.values())] for run in compared.runs]
        yield from aligned([[translated(Message("run")), *names], *rows])
    else:
        yield Message("the runs have the same settings")
    glyphs = glyphs_for(encoding)
    yield Message("figures")
    heads = [translated(_HEADS[name]) if name in _HEADS else name for name in compared.figures]
    rows = [
        [
            run.name,
            translated(Message(run.state)),
            *(_figure(name, values[run.id], run, glyphs.dash) for name, values in compared.figures.items()),
            sparkline(compared.curves[run.id].loss, CURVE_COLUMNS, glyphs) or glyphs.dash,
        ]
        for run in compared.runs
    ]
    head = [translated(Message("run")), translated(Message("state")), *heads, translated(Message("curve of the loss"))]
    yield from aligned([head, *rows])
    for paired in compared.statistics:
        yield conclusion(paired.difference, text_of(paired.reference), len(paired.seeds))
    if compared.no_statistics:
        yield Message("no statistics: {reason}", reason=compared.no_statistics)


def _short(names: list[str]) -> list[str]:
    last = [name.rpartition(".")[2] for name in names]
    return [short if last.count(short) == 1 else name for name, short in zip(names, last, strict=True)]


def _setting(values: Mapping[str, object], run: RunRow) -> str:
    return setting_text(values[run.id]) if run.id in values else "-"


def _figure(name: str, value: float | None, run: RunRow, dash: str) -> str:
    if value is None:
        return dash
    if name in ("step", "best_step"):
        return f"{value:,.0f}"
    if name == "training_seconds":
        return short_duration(value)
    return f"{value:.1%}" if run.metric_forms.get(name) == "percent" else figure(value)
