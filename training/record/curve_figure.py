"""The training curve of a model card. Drawn without a display; the same record gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from training.record.schema import declared_metrics

FIGURE_NAME = "training_curve.png"
SMALLEST_RISE = 1.05
"""Smallest ratio of the last validation loss to the lowest one that is said."""


def rise_since_lowest(losses: Sequence[float]) -> float | None:
    """Return how many times its lowest value the last validation loss is, if that is a rise of 5 % at least.

    On a logarithmic axis that spans decades, a loss that doubles looks flat: who draws one says the rise in words.
    """
    lowest = min(losses, default=0.0)
    return losses[-1] / lowest if lowest > 0.0 and losses[-1] >= SMALLEST_RISE * lowest else None


def curve_figure(report: dict[str, Any], step: int | None) -> bytes | None:
    """Return the losses of a run as a PNG; None where the record has no curve.

    Args:
        report: `experiment_report.json`.
        step: update whose weights are published; marked if it is not the last.
    """
    curve = report["curve"]
    points = [(s, v) for s, v in zip(curve.get("step", ()), curve.get("loss", ()), strict=False) if v is not None]
    if len(points) < 2:
        return None
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with rc_context():
        figure = Figure(figsize=(8, 4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.plot(*zip(*points, strict=True), color="#88aacc", linewidth=0.9, label="training, one update")
        epochs = [(e["step"], e["loss"]) for e in report["epochs"] if e.get("loss") is not None]
        if epochs:
            axes.plot(*zip(*epochs, strict=True), color="#225588", linewidth=1.8, label="training, mean of an epoch")
        evaluations = [(e["step"], e["loss"]) for e in report["evaluations"] if e.get("loss") is not None]
        if evaluations:
            label, rise = "validation", rise_since_lowest([loss for _, loss in evaluations])
            if rise is not None:
                label = f"validation, in the end {rise:.3g}x its lowest"
                lowest, since = min((loss, step) for step, loss in evaluations)
                axes.hlines(lowest, since, evaluations[-1][0], color="#ee6677", linestyle="dotted", linewidth=1.2)
            axes.plot(*zip(*evaluations, strict=True), color="#ee6677", linewidth=1.8, label=label)
        if step is not None and step < report["step"]:
            axes.axvline(step, color="black", linestyle="dashed", linewidth=1, label=f"this model (step {step:,})")
        if min(value for _, value in points) > 0.0:
            axes.set_yscale("log")
        axes.set_xlabel("update")
        is_language = any(metric.derived == "exp_loss" for metric in declared_metrics(report))
        axes.set_ylabel("cross-entropy per token, nats" if is_language else "loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3, which="both")
        axes.legend()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
