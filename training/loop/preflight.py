"""Checks before a run begins: services that must answer, settings that would have no effect. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from training.errors import ConfigError, DataError, kind_of
from training.language.messages import Message, say
from training.settings.tree import DEFAULT_TASK, TrainingConfig

IN_PROCESS = "playground"
"""Backend whose runs are those of a `Trainer` in this process."""
HONOURED_FOR_ANY_DATA = frozenset({"length_window"})
"""Settings of the section `data` that the trainer itself reads, whatever the data."""


def check_services(config: TrainingConfig) -> None:
    """Check that trackers and the Hub can be used with these settings, before hours are spent on the run.

    Raises:
        ConfigError: a package, a login or a right is missing; the message says what to do.
    """
    from training.publish.hub import check_before_training
    from training.tracking.choice import check as check_trackers

    check_trackers(config)
    if warning := check_before_training(config.hub):
        say(Message("warning: {message}", message=warning))


def refuse_other_types(config: object, datasets: Mapping[str, Any]) -> None:
    """Refuse what is no config, and what is no dataset.

    Args:
        config: settings of the run.
        datasets: argument's name -> dataset; None: there is none.

    Raises:
        ConfigError: the config is not a `TrainingConfig`.
        DataError: a dataset has no length or items, or no sample.
    """
    if not isinstance(config, TrainingConfig):
        found = type(config).__name__
        raise ConfigError(f"config is a {found}; make a TrainingConfig by TrainingConfig.from_dict or from_yaml")
    for name, dataset in datasets.items():
        if dataset is None and name != "train_dataset":
            continue
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise DataError(f"{name} is a {type(dataset).__name__}; a dataset has a length and items, such as a list")
        if len(dataset) == 0:
            raise DataError(f"{name} holds no samples")


def refuse_other_parts(objective: object, family: object, callbacks: object, sinks: object) -> None:
    """Refuse parts of a run that are no such parts, such as a class in the place of its instance.

    Raises:
        ConfigError: the first one, with what it should be.
    """
    methods = ("build_model", "lengths", "weights", "collate", "hashes", "loss")
    if isinstance(objective, type) or not all(callable(getattr(objective, name, None)) for name in methods):
        raise ConfigError(f"objective is {kind_of(objective)}; give an objective, such as ModuleObjective(model, loss)")
    if family is not None and (isinstance(family, type) or not hasattr(family, "parameter_groups")):
        raise ConfigError(f"family is {kind_of(family)}; give a model family, such as APTFamily(), or leave it out")
    for name, parts, method in (("callbacks", callbacks, "on_step"), ("sinks", sinks, "event")):
        if not isinstance(parts, Sequence) or isinstance(parts, str):
            raise ConfigError(f"{name} is {kind_of(parts)}; give a list")
        for number, part in enumerate(parts):
            if isinstance(part, type) or not hasattr(part, method):
                raise ConfigError(f"{name}[{number}] is {kind_of(part)}; give an object with a method {method}")


def refuse_without_effect(config: TrainingConfig, *, own_module: bool) -> None:
    """Refuse settings that a `Trainer` made in Python does not honour.

    Args:
        config: settings of the run.
        own_module: model, data and loss are the caller's own, not made from the settings.

    Raises:
        ConfigError: the first such setting that is not at its default, with what to do instead.
    """
    if config.backend != IN_PROCESS:
        raise ConfigError(
            f"backend = {config.backend!r}: a Trainer made in Python trains in this process; leave backend out, or "
            f"start the run with: python train.py --backend {config.backend}"
        )
    for name in type(config).model_fields.keys() - TrainingConfig.model_fields.keys():
        for key, value in _changed(getattr(config, name), name):
            raise ConfigError(
                f"{key} = {value!r}: an option of the command line's backend, which has no effect in Python; give the "
                "Trainer a device, a make_engine or a loop instead"
            )
    if not own_module:
        return
    if config.task != DEFAULT_TASK:
        raise ConfigError(
            f"task = {config.task!r}: data and loss are your own here, so it has no effect; use "
            "Trainer.of(task.prepare(config)), or leave task out"
        )
    for key, value in _changed(config.model, "model"):
        raise ConfigError(f"{key} = {value!r}: has no effect, because your objective builds the model; leave it out")
    for key, value in _changed(config.data, "data"):
        if key.partition(".")[2] not in HONOURED_FOR_ANY_DATA:
            raise ConfigError(f"{key} = {value!r}: has no effect, because the data is your own; leave it out")
    for key, value in _changed(config.report, "report"):
        if key == "report.answer_samples":
            raise ConfigError(f"{key} = {value!r}: has no effect, because there is no task to answer for; leave it out")


def refuse_other_world_size(config: TrainingConfig, world_size: int) -> None:
    """Refuse settings of the launch that do not describe the processes that were started.

    Raises:
        ConfigError: one is set, and this process is not one of as many.
    """
    launch = config.launch
    planned = launch.nnodes * (launch.num_processes or launch.num_gpus or 1)
    for key, value in _changed(launch, "launch"):
        if world_size == 1 or world_size != planned:
            raise ConfigError(
                f"{key} = {value!r}: a Trainer made in Python starts no processes, and this run has {world_size}; "
                "leave it out, and start your script with torchrun for several"
            )


def _changed(section: BaseModel, name: str) -> Iterator[tuple[str, object]]:
    """Yield (dotted key, value) of the settings that are not at their default."""
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if value != field.get_default(call_default_factory=True):
            yield f"{name}.{key}", value
