"""How a config becomes a run, in one place. Nothing here prints or writes."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

from pydantic import Field, create_model

from training.backends.protocol import Backend
from training.errors import ConfigError
from training.models.registry import MODELS
from training.settings.section import Section
from training.settings.tree import DEFAULT_MODEL, DEFAULT_TASK, ModelOptions, TaskOptions, TrainingConfig
from training.tasks.registry import TASKS

_Options = TypeVar("_Options", bound=Section)


def config_class(
    *backends: type[Backend], task: str = DEFAULT_TASK, model: str = DEFAULT_MODEL
) -> type[TrainingConfig]:
    """Return `TrainingConfig` with the settings of a task, a model family and backends.

    Args:
        backends: each adds its options as the section that bears its name.
        task: gives the section `data`, as `--task` names it.
        model: gives the section `model`, as `--model` names it.

    Raises:
        ConfigError: there is no such task or family, or its options cannot be used.
    """
    task_options = _options_of(TASKS.load(task), TaskOptions, f"--task {task}")
    model_options = _options_of(MODELS.load(model), ModelOptions, f"--model {model}")
    return _make_config_class(backends, task, task_options, model, model_options)


def _options_of(part: Any, base: type[_Options], flag: str) -> type[_Options]:
    options = part.Options
    if not (isinstance(options, type) and issubclass(options, base)):
        raise ConfigError(f"{flag}: its Options are not a subclass of {base.__module__}.{base.__name__}")
    return options


@cache  # a sweep makes thousands of configs of one class
def _make_config_class(
    backends: tuple[type[Backend], ...],
    task: str,
    task_options: type[TaskOptions],
    model: str,
    model_options: type[ModelOptions],
) -> type[TrainingConfig]:
    if model != model_options.model_fields["model"].default:
        family = Field(model, description=ModelOptions.model_fields["model"].description)
        own: Any = {"__doc__": model_options.__doc__, "model": (str, family)}
        model_options = create_model(model_options.__name__, __base__=model_options, **own)
    fields: dict[str, Any] = {
        "task": (str, Field(task, description=TrainingConfig.model_fields["task"].description)),
        "model": (model_options, Field(default_factory=model_options)),
        "data": (task_options, Field(default_factory=task_options)),
    }
    for backend in backends:
        described = Field(default_factory=backend.Options, description=f"Options of --backend {backend.name}.")
        fields[backend.name] = (backend.Options, described)
    made: type[TrainingConfig] = create_model("TrainingConfig", __base__=TrainingConfig, **fields)
    return made
