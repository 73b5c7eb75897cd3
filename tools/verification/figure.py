"""The report as a picture: accuracy, shortcuts, partial inputs, reliability. Drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tools.figures.fonts import Typeface
from tools.figures.output_file import write_atomically
from tools.figures.wording import shortened
from tools.verification.probes import Part
from tools.verification.questions.exam import OVERALL
from tools.verification.report import ModuleReport, Report
from tools.verification.shortcuts.statistics import Share
from tools.verification.shortcuts.trials import Verdict
from training.language.messages import Message

LONGEST_NAME = 110
"""Columns of the model's path."""
_COLOURS = {
    "train": "#4477aa",
    "validation": "#228833",
    "paraphrase": "#66ccee",
    "new_fact": "#ee6677",
    "contrast_groups": "#aa3377",
}
_VERDICT_COLOURS = {Verdict.FOUND: "#cc3311", Verdict.NOT_FOUND: "#228833", Verdict.TOO_LITTLE: "#999999"}


def draw(report: Report, path: Path, typeface: Typeface | None = None) -> list[str]:
    """Write the figure as a PNG and return notes for the user, such as a missing font.

    Raises:
        UserError: it cannot be written.
    """
    face = typeface or Typeface()
    with rc_context({"font.family": face.families, "axes.unicode_minus": False, "text.parse_math": False}):
        figure = Figure(figsize=(15, 10), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(2, 2)
        figure.suptitle(f"{face.label(Message('Verification'))}: {face.name(shortened(report.model, LONGEST_NAME))}")
        _accuracy(axes[0, 0], report, face)
        _shortcuts(axes[0, 1], report, face)
        _probes(axes[1, 0], report, face)
        _reliability(axes[1, 1], report, face)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
    write_atomically(path, buffer.getvalue())
    return face.advice()


def _points(axes: Axes, shares: Sequence[Share | None], offset: float, colour: str, label: str, shape: str) -> None:
    """Draw shares as points with their Wilson intervals."""
    known = [(x + offset, share) for x, share in enumerate(shares) if share is not None]
    if not known:
        return
    axes.errorbar(
        [x for x, _ in known],
        [s.rate for _, s in known],
        yerr=[[s.rate - s.low for _, s in known], [s.high - s.rate for _, s in known]],
        fmt=shape, color=colour, capsize=3, label=label, markersize=6,
    )  # fmt: skip


def _ticks(axes: Axes, names: Sequence[str]) -> None:
    if len(names) > 3:
        axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
    else:
        axes.set_xticks(range(len(names)), names)
    axes.set_ylim(-0.03, 1.27)  # room for the legend above the points
    axes.set_yticks([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.grid(axis="y", alpha=0.3)


def _legend(axes: Axes, columns: int) -> None:
    axes.legend(fontsize=8, loc="upper center", ncols=columns, framealpha=0.8, columnspacing=1.0, handletextpad=0.4)


def _shown(report: Report) -> list[ModuleReport]:
    """Return the modules and `overall`, with as many tags of a module as there is room for."""
    return list(report.modules)[:14]


def _accuracy(axes: Axes, report: Report, face: Typeface) -> None:
    modules = _shown(report)
    series = (
        ("train", face.label(Message("train")), "o", [m.train for m in modules]),
        ("validation", face.label(Message("validation")), "v", [m.validation for m in modules]),
        ("paraphrase", face.label(Message("paraphrase")), "s", [m.paraphrase for m in modules]),
        ("new_fact", face.label(Message("new fact")), "D", [m.new_fact for m in modules]),
        ("contrast_groups", face.label(Message("contrast group")), "^", [m.contrast_groups for m in modules]),
    )
    for n, (key, label, shape, shares) in enumerate(series):
        _points(axes, shares, (n - 2) * 0.16, _COLOURS[key], label, shape)
    for x, module in enumerate(modules):
        if module.majority is not None:
            label = face.label(Message("majority answer")) if x == 0 else ""
            axes.hlines(module.majority.rate, x - 0.4, x + 0.4, colors="black", linestyles="dotted", label=label)
    _ticks(axes, [face.name(m.label) for m in modules])
    axes.set_title(face.label(Message("accuracy (95 % Wilson interval)")))
    _legend(axes, 3)


_LEFT, _RIGHT = -0.5, 1.25
"""Limits of the effects that are shown."""


def _shortcuts(axes: Axes, report: Report, face: Typeface) -> None:
    """Draw each test's weakest effect; a shortcut is found where its whole interval lies in the shaded range."""
    labels: list[str] = []
    for row, s in enumerate(report.shortcuts):
        labels.append(f"{face.label(Message(s.name))}\n{face.label(Message(s.verdict.value))}")
        step = 0.7 / max(1, len(s.evidence))
        for n, e in enumerate(s.evidence):
            effect = e.weakest
            y = row - 0.35 + step * (n + 0.5)
            colour = _VERDICT_COLOURS[e.verdict]
            axes.fill_betweenx([y - step / 2, y + step / 2], effect.smallest, _RIGHT, color="#cc3311", alpha=0.06, lw=0)
            low, high = (min(_RIGHT, max(_LEFT, limit)) for limit in (effect.low, effect.high))
            axes.hlines(y, low, high, colors=colour, linewidth=3 if e.module == OVERALL else 1.2)
            if effect.value is not None:
                axes.plot([min(_RIGHT, max(_LEFT, effect.value))], [y], "o", color=colour, markersize=4)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(_LEFT, _RIGHT)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel(face.label(Message("effect (0: like the control, 1: always)")))
    axes.set_title(face.label(Message("shortcuts")))
    for verdict, colour in _VERDICT_COLOURS.items():
        axes.plot([], [], color=colour, label=face.label(Message(verdict.value)))
    axes.legend(fontsize=8, loc="lower left", framealpha=0.8)


def _probes(axes: Axes, report: Report, face: Typeface) -> None:
    modules = list(dict.fromkeys(p.module for p in report.probes))
    by_key = {(p.module, p.part): p for p in report.probes}
    hidden = {
        Part.OPERANDS_HIDDEN: (face.label(Message("operands hidden")), "#ee6677", "v"),
        Part.TEMPLATE_HIDDEN: (face.label(Message("template hidden")), "#ccbb44", "s"),
    }
    whole = [next((p.whole for p in report.probes if p.module == m), None) for m in modules]
    majority = [next((p.majority for p in report.probes if p.module == m), None) for m in modules]
    _points(axes, whole, -0.27, "#4477aa", face.label(Message("whole question")), "o")
    for n, (part, (label, colour, shape)) in enumerate(hidden.items()):
        shares = [by_key[m, part].right if (m, part) in by_key else None for m in modules]
        _points(axes, shares, -0.09 + 0.18 * n, colour, label, shape)
    _points(axes, majority, 0.27, "black", face.label(Message("majority answer")), "_")
    _ticks(axes, [face.name(m) for m in modules])
    axes.set_title(face.label(Message("partial inputs (training questions)")))
    if modules:
        _legend(axes, 2)


def _reliability(axes: Axes, report: Report, face: Typeface) -> None:
    axes.plot([0, 1], [0, 1], color="black", alpha=0.4, linestyle="dotted")
    names = {"train": face.label(Message("train")), "unseen": face.label(Message("unseen facts"))}
    for c in report.calibration:
        colour = _COLOURS["train" if c.name == "train" else "new_fact"]
        axes.errorbar(
            [b.confidence for b in c.bins],
            [b.right.rate for b in c.bins],
            yerr=[[b.right.rate - b.right.low for b in c.bins], [b.right.high - b.right.rate for b in c.bins]],
            fmt="o", color=colour, capsize=3, label=f"{names[c.name]} (ECE {c.expected_error:.3f}, n = {c.answers:,})",
        )  # fmt: skip
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.27)
    axes.set_yticks([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.grid(alpha=0.3)
    axes.set_xlabel(face.label(Message("confidence")))
    axes.set_ylabel(face.label(Message("accuracy")))
    axes.set_title(face.label(Message("calibration")))
    if report.calibration:
        _legend(axes, 1)
