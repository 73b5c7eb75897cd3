"""Which figures of the progress record trackers are told, and what they are called there. No torch.

A name is its event's kind and the record's own key: `train/loss`, `eval/accuracy`. The slash makes each tracker group
them. A sweep that is to minimise the validation loss names `eval/loss`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from training.record.report import perplexity
from training.tracking.tracker import Point

TRAIN = (
    "loss", "accuracy", "grad_norm", "learning_rate", "tokens", "loss_tokens", "tokens_per_second", "forward_ms",
    "backward_ms", "epoch", "clipped", "skipped",
)  # fmt: skip
EVAL = ("loss", "accuracy", "epoch")


def point_of(event: Mapping[str, Any], step: int) -> Point | None:
    """The figures in an event that belongs to `step`; None: there are none for a tracker.

    A number that is not finite, which the record writes as null, is NaN here: a curve that broke must look broken.
    """
    kind = event["event"]
    if kind == "step":
        figures = _figures("train", TRAIN, event)
    elif kind == "eval":
        figures = _figures("eval", EVAL, event)
    elif kind == "best":
        figures = _figures("best", ("loss",), event)
    elif kind == "memory" and event["peak_bytes"]:
        figures = {"memory/peak_bytes": float(max(event["peak_bytes"]))}
    elif kind == "recitation":
        right, asked = (sum(module[key] for module in event["modules"].values()) for key in ("right", "asked"))
        figures = {"recitation/accuracy": right / max(1, asked)}
    else:
        return None
    return Point(step, event["time"], figures)


def _figures(group: str, keys: tuple[str, ...], event: Mapping[str, Any]) -> dict[str, float]:
    nonfinite = event.get("nonfinite", ())
    figures = {f"{group}/{key}": float(event[key]) for key in keys if event.get(key) is not None}
    figures |= {f"{group}/{key}": math.nan for key in keys if key in nonfinite}
    if (ppl := perplexity(event.get("loss"))) is not None and group != "best":
        figures[f"{group}/perplexity"] = ppl
    return figures


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"model": {"d_model": 64}}` -> `{"model.d_model": 64}`."""
    params: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            params |= flat(value, f"{prefix}{key}.")
        else:
            params[prefix + key] = value
    return params
