"""The metric that decides a sweep: its name, the direction that is better, and its value in a run's report. No torch.

Names are those of the trackers: `train/loss`, `eval/accuracy`, and so on for each metric that the task declares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from training.errors import ConfigError, did_you_mean
from training.record.schema import declared_metrics, number
from training.settings.tree import TrainingConfig
from training.tasks.metrics import LANGUAGE_METRICS, Metric
from training.tasks.registry import TASKS
from training.tracking.figures import figure_names

Goal = Literal["minimize", "maximize"]

OF_VALIDATION = ("eval/", "best/")
"""Groups of metrics that only a run with validation data reports."""
_MORE_IS_BETTER = ("accuracy", "tokens_per_second", "samples_per_second", "tokens", "samples")


def metrics_of_task(config: TrainingConfig) -> tuple[Metric, ...]:
    """Return the figures that the task of a config declares."""
    found: tuple[Metric, ...] = TASKS.load(config.task).metrics
    return found


def default_metric(config: TrainingConfig) -> str:
    """Return the loss that decides unless another metric is named."""
    return "eval/loss" if config.data.validation_split else "train/loss"


def goal_of(metric: str, metrics: Sequence[Metric] = LANGUAGE_METRICS) -> Goal:
    """Return whether more or less of a metric is better.

    Args:
        metric: its name.
        metrics: figures that the task declares, with their directions.
    """
    name = metric.partition("/")[2]
    declared = next((one.better for one in metrics if one.name == name), None)
    if declared is not None:
        return "maximize" if declared == "higher" else "minimize"
    return "maximize" if name in _MORE_IS_BETTER else "minimize"


def refuse_unmeasured(metric: str, config: TrainingConfig) -> None:
    """Refuse a metric that the runs of a sweep do not report.

    Args:
        metric: as the user named it.
        config: settings of the runs.

    Raises:
        ConfigError: there is no such metric, or these runs do not measure it.
    """
    names = figure_names(metrics_of_task(config))
    if metric not in names:
        raise ConfigError(f"sweep_metric={metric}: a run reports no such metric{_meant(metric, config, names)}")
    if metric.startswith(OF_VALIDATION) and not config.data.validation_split:
        raise ConfigError(f"sweep_metric={metric} needs validation data; give --validation-split 0.1")
    if metric.startswith("recitation/") and config.report.answer_samples == 0:
        raise ConfigError(f"sweep_metric={metric}: answer_samples=0 asks no question; give --answer-samples 1000")


def _meant(metric: str, config: TrainingConfig, names: Sequence[str]) -> str:
    """Name the metric of this run that may be meant; else all that it reports."""
    validated = bool(config.data.validation_split)
    reported = [name for name in names if validated or not name.startswith(OF_VALIDATION)]
    group = "eval" if validated else "train"
    same_end = f"{group}/{metric.rpartition('/')[2]}"
    if same_end in reported:
        return f"; did you mean {same_end!r}?"
    return did_you_mean(metric, reported) or f"; a run reports {', '.join(reported)}"


def figure(report: Mapping[str, Any], metric: str) -> float | None:
    """Return the last value of a metric in a run's report; None: there is none, or it is not finite."""
    group, _, key = metric.partition("/")
    entry: Any
    if group == "train":
        entry = report.get("latest") or {}
    elif group == "eval":
        entry = (report.get("evaluations") or [{}])[-1]
    elif group == "best":
        entry = report.get("best") or {}
    elif group == "memory":
        peaks = (report.get("memory") or {}).get("peak_bytes") or []
        return float(max(peaks)) if peaks else None
    elif group == "recitation" and report.get("recitation"):
        modules = report["recitation"].values()
        right, asked = (sum(int(each[key]) for each in modules) for key in ("right", "asked"))
        return right / max(1, asked)
    else:
        entry = {}
    value = entry.get(key)
    if value is None:
        derived = (metric for metric in declared_metrics(report) if (metric.name, metric.derived) == (key, "exp_loss"))
        value = next((metric.of_loss(number(entry.get("loss"))) for metric in derived), None)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
