"""The training curve of a model card. Drawn without a display; the same record gives the same bytes."""

from __future__ import annotations

import io
from typing import Any

from training.record.schema import declared_metrics

FIGURE_NAME = "training_curve.png"


def curve_figure(report: dict[str, Any], step: int | None) -> bytes | None:
    """Return the losses of a run as a PNG; None where the record has no curve.

    Args:
        report: `experiment_report.json`.
        step: update whose weights are published; marked if it is not the last.
    """
    points = [(s, v) for s, v in zip(report["curve"]["step"], report["curve"]["loss"], strict=True) if v is not None]
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
        epochs = [(e["step"], e["loss"]) for e in report["epochs"] if e["loss"] is not None]
        if epochs:
            axes.plot(*zip(*epochs, strict=True), color="#225588", linewidth=1.8, label="training, mean of an epoch")
        evaluations = [(e["step"], e["loss"]) for e in report["evaluations"] if e["loss"] is not None]
        if evaluations:
            axes.plot(*zip(*evaluations, strict=True), color="#ee6677", linewidth=1.8, label="validation")
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
