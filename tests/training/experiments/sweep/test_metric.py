"""The metric of a sweep: the names that a task declares, the direction, and the value in a run's report."""

from __future__ import annotations

import math
from typing import Any

import pytest

from training import TrainingConfig
from training.backends.prepare import config_class
from training.errors import ConfigError
from training.experiments.sweep.metric import figure, goal_of, metrics_of_task, refuse_unmeasured
from training.tasks.metrics import ACCURACY, LANGUAGE_METRICS, PERPLEXITY, Metric
from training.tracking.figures import figure_names, point_of

DISTANCE = Metric("distance", "Dist", "lower", at="evaluation")
SHARE = Metric("share", "Share", "higher")


@pytest.mark.parametrize("metrics", [LANGUAGE_METRICS, (SHARE, DISTANCE)], ids=["a language model", "another task"])
def test_metric_names_are_exactly_those_that_trackers_are_told(metrics: tuple[Metric, ...]) -> None:
    unit = ("tokens", "loss_tokens") if PERPLEXITY in metrics else ("samples", "loss_weight")
    updates = {
        **dict.fromkeys(("loss", "grad_norm", "learning_rate", "forward_ms", "backward_ms", *unit), 1.0),
        f"{unit[0]}_per_second": 1.0, "epoch": 1, "clipped": False, "skipped": False,
    }  # fmt: skip
    measured = {metric.name: 0.5 for metric in metrics if metric.derived == "measured"}
    in_updates = {metric.name: 0.5 for metric in metrics if metric.in_updates}
    events: list[dict[str, Any]] = [
        {"event": "step", **updates, **in_updates},
        {"event": "eval", "loss": 1.0, "epoch": 1, **measured},
        {"event": "best", "loss": 1.0},
        {"event": "memory", "peak_bytes": [1]},
    ]
    if PERPLEXITY in metrics:
        events.append({"event": "recitation", "modules": {"a": {"right": 1, "asked": 2}}})
    points = [point_of({"time": 0.0, **event}, 1, metrics) for event in events]
    told = {name for point in points if point is not None for name in point.figures}
    assert told == set(figure_names(metrics))


def test_the_direction_is_the_metric_s_own() -> None:
    metrics = (SHARE, DISTANCE, *LANGUAGE_METRICS)
    directions = {
        "eval/loss": "minimize", "eval/share": "maximize", "eval/distance": "minimize", "train/perplexity": "minimize",
        "eval/accuracy": "maximize", "recitation/accuracy": "maximize", "train/tokens_per_second": "maximize",
        "memory/peak_bytes": "minimize", "best/loss": "minimize",
    }  # fmt: skip
    assert {metric: goal_of(metric, metrics) for metric in directions} == directions


def test_the_value_is_the_last_one_of_the_report() -> None:
    report = {
        "metrics": [metric.to_dict() for metric in (PERPLEXITY, ACCURACY)],
        "latest": {"loss": 2.0, "accuracy": 0.25},
        "evaluations": [{"loss": 3.0}, {"loss": 1.0, "accuracy": 0.5}],
        "best": {"loss": 0.75},
        "memory": {"peak_bytes": [5, 9]},
        "recitation": {"a": {"right": 1, "asked": 2}, "b": {"right": 2, "asked": 2}},
    }
    values = {
        "train/loss": 2.0, "train/accuracy": 0.25, "train/perplexity": math.exp(2.0), "eval/loss": 1.0,
        "eval/accuracy": 0.5, "eval/perplexity": math.e, "best/loss": 0.75, "memory/peak_bytes": 9.0,
        "recitation/accuracy": 0.75,
    }  # fmt: skip
    assert {metric: figure(report, metric) for metric in values} == pytest.approx(values)
    assert all(figure({}, metric) is None for metric in values)


@pytest.mark.parametrize(
    ("task", "metric", "told"),
    [
        ("hlbd", "eval/los", "a run reports no such metric; did you mean 'eval/loss'?"),
        ("hlbd", "f1", "a run reports no such metric; a run reports train/loss, train/perplexity, train/accuracy,"),
        ("diffusion", "eval/accuracy", "a run reports no such metric; a run reports train/loss,"),
    ],
)
def test_a_metric_that_the_task_has_not_is_refused_with_the_names(task: str, metric: str, told: str) -> None:
    from training.backends.prepare import default_model

    tree = config_class(task=task, model=default_model(task))
    config = tree.model_validate({"data": {"validation_split": 0.1}})
    with pytest.raises(ConfigError) as caught:
        refuse_unmeasured(metric, config)
    assert str(caught.value).startswith(f"sweep_metric={metric}: {told}")
    for own in metrics_of_task(config):
        refuse_unmeasured(f"eval/{own.name}", config)


def test_a_metric_of_validation_needs_validation_data() -> None:
    with pytest.raises(ConfigError, match="needs validation data; give --validation-split"):
        refuse_unmeasured("eval/loss", TrainingConfig())
