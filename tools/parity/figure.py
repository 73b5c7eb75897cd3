"""The certificate as a picture: differences step by step, on a log scale. Drawn without a display."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tools.figures.fonts import Typeface
from tools.figures.output_file import write_atomically
from tools.figures.wording import told_apart
from tools.parity.certificate import Certificate, Result
from tools.parity.difference import BY_PRECISION
from training.language.messages import Message

_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000")
_SHAPES = ("o", "s", "^", "v", "D", "P", "X")
_LINES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1)), (0, (4, 2, 1, 2)), (0, (8, 2)))
"""Eight colours, seven shapes and five lines have no common factor: the first 280 variants all look different."""
LONGEST_NAME = 60
"""Columns of a variant's name."""
_ZERO = 1e-10
"""The height at which identical bits are drawn: below every difference that fp32 can express."""


def draw(certificate: Certificate, path: Path, typeface: Typeface | None = None) -> list[str]:
    """Write the figure as a PNG and return notes for the user, such as a missing font.

    Raises:
        UserError: it cannot be written.
    """
    face = typeface or Typeface()
    with rc_context({"font.family": face.families, "axes.unicode_minus": False, "text.parse_math": False}):
        figure = picture(certificate, face)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=90)
    write_atomically(path, buffer.getvalue())
    return face.advice()


def picture(certificate: Certificate, face: Typeface) -> Figure:
    """Return the figure, in the style that is set."""
    figure = Figure(figsize=(12, 8.5), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True)
    verdict = face.label(Message("PASS")) if certificate.passed else face.label(Message("FAIL"))
    title = face.label(Message("backends against the reference"))
    device = face.text(certificate.hardware["device"])
    figure.suptitle(f"{title} · {certificate.precision} · {device} · {verdict}")
    ran = [result for result in certificate.results if result.differences]
    limits = BY_PRECISION[certificate.precision]
    label = face.label(Message("loss, relative difference"), between="\n")
    _panel(upper, ran, "loss", limits.loss, label, face)
    label = face.label(Message("gradient norm, relative difference"), between="\n")
    _panel(lower, ran, "grad_norm", limits.grad_norm, label, face)
    lower.set_xlabel(face.label(Message("step")))
    if ran:
        handles, labels = upper.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _panel(axes: Axes, ran: Sequence[Result], quantity: str, limit: float, label: str, face: Typeface) -> None:
    finite = [limit]
    names = list(map(face.name, told_apart([result.variant.name for result in ran], LONGEST_NAME)))
    for n, (result, name) in enumerate(zip(ran, names, strict=True)):
        steps = [d.step for d in result.differences]
        values = [getattr(d, quantity) for d in result.differences]
        finite += [value for value in values if math.isfinite(value)]
        if result.is_bitwise:
            name = f"{name} ({face.label(Message('bitwise'))})"
        # A difference that is not finite leaves a gap in the line.
        axes.plot(
            steps, [max(value, _ZERO) if math.isfinite(value) else math.nan for value in values], label=name,
            color=_COLOURS[n % len(_COLOURS)], marker=_SHAPES[n % len(_SHAPES)], linestyle=_LINES[n % len(_LINES)],
            # the first are larger, so that one is seen beneath another that has the same values
            markersize=4 + 4 * (len(ran) - 1 - n) / len(ran), lw=0.8, alpha=0.85,
        )  # fmt: skip
        if result.divergence is not None:
            axes.axvline(result.divergence.step, color=_COLOURS[n % len(_COLOURS)], linestyle="dotted", alpha=0.7)
    axes.axhline(limit, color="black", linestyle="dashed", linewidth=1, label=face.label(Message("tolerance")))
    axes.set_yscale("log")
    axes.set_ylim(_ZERO / 2, 10 * max(finite))
    exponents = range(math.ceil(math.log10(_ZERO)) + 1, math.floor(math.log10(10 * max(finite))) + 1)
    labels = ["0", *(f"$10^{{{e}}}$" for e in exponents)]
    axes.set_yticks([_ZERO, *(10.0**e for e in exponents)], labels, parse_math=True)
    axes.minorticks_off()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.set_ylabel(label)
