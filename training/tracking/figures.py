"""Figures of the progress record that trackers are given, and their names there. No torch.

A name is its event's kind and the record's own key: `train/loss`, `eval/accuracy`. The slash makes each tracker group
them. A sweep that is to minimize the validation loss names `eval/loss`. A run's own metrics stand next to its loss,
each under its name; a figure that the task does not have is no figure of a tracker.

A kill loses what waited to be sent, and a tracker may be switched on late: `missed_points` reads what a tracker lacks
of a resumed run from the run's own record, which has every point.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.record.log import LOG_NAME, CountedEvents, DamagedLines
from training.record.schema import declared_metrics, number
from training.storage.json_files import open_regular
from training.tasks.metrics import LANGUAGE_METRICS, PERPLEXITY, Metric
from training.tracking.tracker import Held, Point, RunStart

_UPDATE = (
    "grad_norm", "learning_rate", "tokens", "samples", "loss_tokens", "loss_weight", "tokens_per_second",
    "samples_per_second", "forward_ms", "backward_ms", "epoch", "clipped", "skipped",
)  # fmt: skip
_OF_TOKENS, _OF_SAMPLES = ("tokens", "loss_tokens"), ("samples", "loss_weight")


def figure_names(metrics: Sequence[Metric] = LANGUAGE_METRICS) -> tuple[str, ...]:
    """Return the name of every figure of a run that trackers are given, but those of a task's own conclusion.

    Args:
        metrics: figures that the task declares; with perplexity among them it is one of language, which counts tokens
            and whose model is asked its training questions.
    """
    is_language = PERPLEXITY in metrics
    other = _OF_SAMPLES if is_language else _OF_TOKENS
    update = [metric.name for metric in metrics if metric.at == "updates"]
    update += [key for key in _UPDATE if not key.startswith(other)]
    return (
        *(f"train/{name}" for name in ("loss", *update)),
        *(f"eval/{name}" for name in ("loss", *(metric.name for metric in metrics), "epoch")),
        "best/loss",
        *(["recitation/accuracy"] if is_language else []),
        "memory/peak_bytes",
    )


def point_of(event: Mapping[str, Any], step: int, metrics: Sequence[Metric] = LANGUAGE_METRICS) -> Point | None:
    """Return the figures in an event that belongs to `step`; None: it has none for a tracker.

    A number that is not finite, which the record writes as null, is NaN here: a curve that broke must look broken.

    Args:
        event: of the record.
        step: update that the figures belong to.
        metrics: figures that the run declares (`training.record.schema.declared_metrics`).
    """
    kind = event["event"]
    if kind == "step":
        figures = _figures("train", _UPDATE, event, metrics)
    elif kind == "eval":
        figures = _figures("eval", ("epoch",), event, metrics)
    elif kind == "best":
        figures = _figures("best", (), event, ())
    elif kind == "memory" and event["peak_bytes"]:
        figures = {"memory/peak_bytes": float(max(event["peak_bytes"]))}
    elif kind == "conclusion":
        figures = dict(_concluded(event["figures"]))
    elif kind == "recitation":
        figures = dict(_concluded({"recitation": event["modules"]}))
    else:
        return None
    return Point(step, event["time"], figures) if figures else None


def _figures(
    group: str, others: Sequence[str], event: Mapping[str, Any], metrics: Sequence[Metric]
) -> dict[str, float]:
    nonfinite = event.get("nonfinite", ())
    keys = ("loss", *(metric.name for metric in metrics if metric.derived == "measured"), *others)
    figures = {f"{group}/{key}": float(event[key]) for key in keys if _is_figure(event.get(key))}
    figures |= {f"{group}/{key}": math.nan for key in keys if key in nonfinite}
    for metric in metrics:
        if metric.derived == "exp_loss" and (value := metric.of_loss(number(event.get("loss")))) is not None:
            figures[f"{group}/{metric.name}"] = value
    return figures


def _is_figure(value: object) -> bool:
    return isinstance(value, bool) or number(value) is not None


def _concluded(groups: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the figures of a conclusion: numbers as they are, questions by the share that is right."""
    for group, content in groups.items():
        if (value := number(content)) is not None:
            yield f"conclusion/{group}", value
        if not isinstance(content, Mapping) or not content:
            continue
        counts = [(number(_of(part, "right")), number(_of(part, "asked"))) for part in content.values()]
        known = [(right, asked) for right, asked in counts if right is not None and asked is not None]
        if len(known) == len(counts):
            yield f"{group}/accuracy", sum(right for right, _ in known) / max(1.0, sum(asked for _, asked in known))
            continue
        for name, part in content.items():
            if (value := number(part)) is not None:
                yield f"{group}/{name}", value


def _of(part: object, key: str) -> object:
    return part.get(key) if isinstance(part, Mapping) else None


def missed_points(run_dir: Path, run: RunStart, held: Held, damaged: DamagedLines | None = None) -> Iterator[Point]:
    """Yield the points up to `run.step` that a tracker does not hold yet, oldest first.

    The log is never held in memory, and what was done again counts once. The events of the present part reach the
    tracker as they come.
    """
    log = run_dir / LOG_NAME
    if held.step >= run.step or not log.exists():
        return
    step = 0
    metrics: tuple[Metric, ...] = LANGUAGE_METRICS
    with open_regular(log) as file:
        for event in CountedEvents(file, damaged):
            if event["event"] in ("run_started", "run_resumed"):
                if event["event"] == "run_resumed" and (number(event.get("time")) or 0.0) >= run.time:
                    return
                metrics = declared_metrics(event)
                continue
            if number(event.get("time")) is None:
                continue
            step = event.get("step") or step
            if step <= run.step and (point := point_of(event, step, metrics)) and (missed := not_held(point, held)):
                yield missed


def not_held(point: Point, held: Held) -> Point | None:
    """Return the point's figures that the tracker does not hold yet; None: it holds them all."""
    figures = {name: value for name, value in point.figures.items() if not held.holds(name, point.step)}
    return Point(point.step, point.time, figures) if figures else None


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings: `{"model": {"d_model": 64}}` becomes `{"model.d_model": 64}`."""
    params: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            params |= flat(value, f"{prefix}{key}.")
        else:
            params[prefix + key] = value
    return params
