"""Metrics of a task, as data that every reader of a record understands. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Metric:
    """Figure of an update or an evaluation in addition to the loss.

    The events `run_started` and `run_resumed` contain a run's metrics (`to_dict`), so a reader can show them without
    the task. Events `step` and `eval` hold each measured metric under its name, unless it is measured in evaluations
    alone; a derived one follows from the loss.
    """

    name: str
    """Key in events, reports and trackers: "accuracy"."""
    label: str
    """Short form for the progress bar and narrow columns: "Acc"."""
    better: Literal["higher", "lower"]
    """Direction of improvement."""
    form: Literal["number", "percent"] = "number"
    """Form of the value; percent: a share between 0 and 1, shown as `31.7%`."""
    derived: Literal["measured", "exp_loss"] = "measured"
    """Origin of the value; exp_loss: e to the power of the mean loss (perplexity), computed by each reader."""
    at: Literal["updates", "evaluation"] = "updates"
    """Events that hold it: updates and evaluations, or evaluations alone."""

    @property
    def in_updates(self) -> bool:
        """True if updates hold it under its name."""
        return self.derived == "measured" and self.at == "updates"

    def of_loss(self, loss: float | None) -> float | None:
        """Compute a derived metric from the mean loss; None if the loss is missing or the result would overflow."""
        return math.exp(loss) if loss is not None and loss < 700.0 else None

    def text(self, value: float | None) -> str:
        """Format a value: `83.1%`, `1.67`; `-` if there is none."""
        if value is None:
            return "-"
        return f"{value:.1%}" if self.form == "percent" else f"{value:.4g}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for an event."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Metric:
        """Read what `to_dict` wrote; keys that a newer version added are ignored.

        Raises:
            KeyError, TypeError: it is not a metric.
        """
        known = ("name", "label", "better", "form", "derived", "at")
        return cls(**{key: data[key] for key in known if key in data})


ACCURACY = Metric("accuracy", "Acc", "higher", form="percent")
PERPLEXITY = Metric("perplexity", "PPL", "lower", derived="exp_loss")
LANGUAGE_METRICS = (PERPLEXITY, ACCURACY)
"""Metrics of a language model: perplexity, and the share of tokens whose most probable prediction is right."""


def metrics_of(facts: Mapping[str, Any]) -> tuple[Metric, ...]:
    """Return the metrics of a run from its `run_started` event or its report.

    Records from before metrics were declared are all of language models.
    """
    declared: Sequence[Mapping[str, Any]] | None = facts.get("metrics")
    if declared is None:
        return LANGUAGE_METRICS
    return tuple(Metric.from_dict(metric) for metric in declared)
