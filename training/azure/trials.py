"""The trials of a sweep, each looked at before any is paid for: is it a run, and does the sweep add up?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from training.azure.demand import max_trials
from training.azure.inner_run import inner_config_here, joins_workspace
from training.azure.options import AzureOptions, options_of
from training.azure.search_space import SearchSpace
from training.backends.prepare import refuse_unsupported
from training.backends.registry import BACKENDS
from training.errors import ConfigError, UserError, did_you_mean
from training.settings.tree import TrainingConfig
from training.settings.yaml_files import nest
from training.tracking.figures import EVAL, TRAIN

MOST_COMBINATIONS = 2000
"""More are not all tried; then each value is, and every two settings together."""
Goal = Literal["minimize", "maximize"]
_OF_VALIDATION = ("eval/", "best/")
"""Groups of metrics that only a run with validation data reports."""


def metric_names() -> tuple[str, ...]:
    """Every metric that a run reports to MLflow, by its exact name."""
    train = [f"train/{name}" for name in TRAIN]
    evaluated = [f"eval/{name}" for name in EVAL]
    others = ("train/perplexity", "eval/perplexity", "best/loss", "recitation/accuracy", "memory/peak_bytes")
    return (*train, *evaluated, *others)


def sweep_objective(config: TrainingConfig) -> tuple[str, Goal]:
    """(metric that decides, whether less of it is better)."""
    options = options_of(config)
    metric = options.sweep_metric or ("eval/loss" if config.data.validation_split else "train/loss")
    more_is_better = metric.endswith(("/accuracy", "/tokens_per_second", "/tokens"))
    return metric, options.sweep_goal or ("maximize" if more_is_better else "minimize")


def trial_config(config: TrainingConfig, settings: Mapping[str, Any]) -> TrainingConfig:
    """The config of a trial.

    Args:
        config: of the sweep.
        settings: dotted key -> the trial's value.

    Raises:
        ConfigError: the settings do not go together.
    """
    values: dict[str, Any] = {name: getattr(config, name) for name in type(config).model_fields}
    for section, changed in nest(settings).items():
        values[section] = values[section].model_dump() | changed
    trial = type(config).from_dict(values, "this trial")
    trial.validate()
    return trial


def check_sweep(config: TrainingConfig) -> None:
    """Refuse a sweep that cannot be, or one of whose trials would refuse to start.

    Raises:
        ConfigError: the first fault.
    """
    options = options_of(config)
    space = SearchSpace.of(config)
    _check_metric(config)
    _check_sampling(options, space)
    _check_limits(config)
    if not joins_workspace(config):
        what = "--mlflow-tracking-uri" if config.track.mlflow_tracking_uri else "--no-track-in-workspace"
        raise ConfigError(f"a sweep reads its metric from the workspace; leave {what} out")
    for settings in _combinations(space):
        if (fault := _fault(config, settings)) is not None:
            blamed = _to_blame(config, space, settings)
            told = ", ".join(f"{_short(key)}={_told(value)}" for key, value in blamed.items())
            way = "give --search values that fit" if options.search else "give --search with what is to be varied"
            raise ConfigError(f"a trial of this sweep may have {told}, and would be refused: {fault}; {way}")
    if space.combinations is not None and max_trials(config) > space.combinations:
        raise ConfigError(
            f"max_trials={options.max_trials}, but the values can be combined in {space.combinations} ways only; "
            f"give --max-trials {space.combinations}"
        )


def _fault(config: TrainingConfig, settings: Mapping[str, Any]) -> str | None:
    """Why a trial would refuse to start; None: it would train."""
    try:
        trial = trial_config(config, settings)
        inner = BACKENDS.load(options_of(config).inner_backend)()
        inside = inner_config_here(trial)
        refuse_unsupported(inner, inside, resume=False)
        inner.validate(inside)
    except UserError as error:
        return str(error).removeprefix("this trial: ")
    return None


def _to_blame(config: TrainingConfig, space: SearchSpace, settings: dict[str, Any]) -> dict[str, Any]:
    """Those settings of a trial at fault that, were they others or as in the run, would make it start."""
    found = {}
    for key, value in settings.items():
        section, _, name = key.partition(".")
        others = [*_spread(space.distributions[key].values(), 9), getattr(getattr(config, section), name)]
        if any(_fault(config, settings | {key: other}) is None for other in others if other != value):
            found[key] = value
    return found or settings


def _short(key: str) -> str:
    return key.rpartition(".")[2]


def _told(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _combinations(space: SearchSpace) -> Iterable[dict[str, Any]]:
    """Settings of trials to look at: all combinations. Where there are too many, each value alone, and pairs."""
    values = {key: found.values() for key, found in space.distributions.items()}
    if math.prod(map(len, values.values())) <= MOST_COMBINATIONS:
        yield from (dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values()))
        return
    first = {key: choices[0] for key, choices in values.items()}
    yield from (first | {key: value} for key, choices in values.items() for value in choices)
    pairs = list(itertools.combinations(values, 2))
    some = max(2, math.isqrt(MOST_COMBINATIONS // max(1, len(pairs))))
    for one, other in pairs:
        for chosen in itertools.product(_spread(values[one], some), _spread(values[other], some)):
            yield first | dict(zip((one, other), chosen, strict=True))


def _spread(values: list[Any], count: int) -> list[Any]:
    """So many of a row of values, its ends among them."""
    last = len(values) - 1
    return [values[place] for place in sorted({round(last * n / (count - 1)) for n in range(count)})]


def _check_metric(config: TrainingConfig) -> None:
    options = options_of(config)
    metric, _ = sweep_objective(config)
    if metric not in metric_names():
        raise ConfigError(f"sweep_metric={metric}: a run reports no such metric{_meant_metric(metric, config)}")
    if metric.startswith(_OF_VALIDATION) and not config.data.validation_split:
        raise ConfigError(f"sweep_metric={metric} needs validation data; give --validation-split 0.1")
    if metric.startswith("recitation/") and not config.report.answer_samples:
        raise ConfigError(f"sweep_metric={metric}: answer_samples=0 asks no question; give --answer-samples 1000")
    if metric.startswith("recitation/") and options.early_termination != "none":
        raise ConfigError(
            f"sweep_metric={metric} is only measured at the end, so early_termination={options.early_termination} has "
            "nothing to look at; use --sweep-metric eval/accuracy, or leave --early-termination out"
        )


def _meant_metric(metric: str, config: TrainingConfig) -> str:
    """The metric of this run that may be meant; else all that it reports."""
    validated = bool(config.data.validation_split)
    reported = [name for name in metric_names() if validated or not name.startswith(_OF_VALIDATION)]
    group = "eval" if validated else "train"
    same_end = f"{group}/{metric.rpartition('/')[2]}"
    if same_end in reported:
        return f"; did you mean {same_end!r}?"
    return did_you_mean(metric, reported) or f"; a run reports {', '.join(reported)}"


def _check_sampling(options: AzureOptions, space: SearchSpace) -> None:
    allowed = {"grid": ("choice",), "bayesian": ("choice", "uniform", "quniform")}.get(options.sampling)
    for key, found in space.distributions.items():
        if allowed is not None and found.kind not in allowed:
            name = _short(key)
            raise ConfigError(
                f"sampling={options.sampling} takes {' and '.join(allowed)} only, and {name} is {found.kind} "
                f"({found.told()}); use --sampling random, or change --search"
            )
    if options.sampling == "bayesian" and options.early_termination != "none":
        raise ConfigError(
            f"sampling=bayesian and early_termination={options.early_termination} do not go together: it learns from "
            "whole trials; leave --early-termination out, or use --sampling random"
        )


def _check_limits(config: TrainingConfig) -> None:
    options = options_of(config)
    trials, at_once = options.max_trials, options.max_concurrent_trials
    if at_once > trials and "max_concurrent_trials" in options.model_fields_set:
        raise ConfigError(
            f"max_concurrent_trials={at_once} is more than max_trials={trials}; give --max-concurrent-trials {trials}"
        )
    if options.trial_timeout_hours is not None and options.trial_timeout_hours > options.timeout_hours:
        raise ConfigError(
            f"trial_timeout_hours={options.trial_timeout_hours:g} is longer than the whole sweep's "
            f"timeout_hours={options.timeout_hours:g}; raise --timeout-hours"
        )
