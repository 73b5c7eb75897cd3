"""The curves of some runs in one picture, with the settings in which they differ. Dark; drawn without a display."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tools.figures.fonts import Typeface
from tools.figures.output_file import write_atomically
from tools.figures.scales import in_decades
from tools.figures.wording import cut, figure, in_lines, setting_text, told_apart
from tools.monitoring.figure import FAINT, OTHER_COLOUR, RUN_COLOURS, style
from training.experiments.side_by_side import SideBySide
from training.language.messages import Message

_NAME_COLUMNS, _SETTING_COLUMNS = 30, 54


def draw(compared: SideBySide, path: Path, typeface: Typeface | None = None) -> list[str]:
    """Write the picture as a PNG of 1280 x 720; return notes for the user (a missing font).

    Raises:
        UserError: it cannot be written.
    """
    face = typeface or Typeface()
    with rc_context(style(face)):
        canvas = Figure(figsize=(12.8, 7.2), dpi=100)
        FigureCanvasAgg(canvas)
        grid = canvas.add_gridspec(
            1, 2, width_ratios=[1.55, 1.0], left=0.05, right=0.985, top=0.93, bottom=0.08, wspace=0.05
        )
        _curves(canvas.add_subplot(grid[0]), compared, face)
        _list(canvas.add_subplot(grid[1]), compared, face)
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
    return face.advice()


def _colour(number: int) -> str:
    return RUN_COLOURS[number] if number < len(RUN_COLOURS) else OTHER_COLOUR


def _curves(axes: Axes, compared: SideBySide, face: Typeface) -> None:
    axes.set_title(face.label(Message("loss: thin training, dots validation")), family=face.bold_families)
    drawn: list[float] = []
    for number, run in reversed(list(enumerate(compared.runs))):  # the reference lies on top
        curve, colour = compared.curves[run.id], _colour(number)
        mark = "." if len(curve.loss) == 1 else ""
        axes.plot(curve.step, curve.loss, color=colour, lw=0.9, alpha=0.75, marker=mark)
        axes.plot(curve.validation_step, curve.validation_loss, "o-", color=colour, lw=1.6, ms=3.0)
        drawn += [*curve.loss, *curve.validation_loss]
    if not drawn:
        axes.text(0.5, 0.5, face.word(Message("no update yet")), ha="center", va="center", color=FAINT)
    elif min(drawn) > 0.0:
        in_decades(axes, min(drawn) * 0.85, max(drawn) * 1.2)
    axes.grid(True, which="major")
    axes.set_xlabel(face.label(Message("step")))


def _list(axes: Axes, compared: SideBySide, face: Typeface) -> None:
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, 1.0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(face.label(Message("settings that differ")), family=face.bold_families)
    names = told_apart([face.name(run.name) for run in compared.runs], _NAME_COLUMNS)
    height = 1.0 / max(8, len(compared.runs))
    for number, (run, name) in enumerate(zip(compared.runs, names, strict=True)):
        top = 1.0 - height * (number + 0.3)
        loss = run.val_loss if run.val_loss is not None else run.loss
        axes.text(0.02, top, name, color=_colour(number), va="center", fontweight="bold", family=face.bold_families)
        axes.text(0.98, top, figure(loss) if loss is not None else "-", va="center", ha="right")
        settings = [
            face.text(cut(f"{key.rpartition('.')[2]}={setting_text(values.get(run.id))}", _SETTING_COLUMNS))
            for key, values in compared.settings.items()
        ]
        lines = in_lines(settings, _SETTING_COLUMNS, 2 if len(compared.runs) <= 12 else 1) if settings else ""
        axes.text(0.02, top - 0.3 * height, lines, color=FAINT, va="top", fontsize=7.5, linespacing=1.1)
