"""The run inside the job: the same config, read there by the inner backend from `job/config.yaml`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from training.azure.settings.options import options_of
from training.backends.prepare import config_class
from training.backends.registry import BACKENDS
from training.errors import ConfigError
from training.launch.torchrun import ranks_here
from training.settings.section import Section
from training.settings.tree import LaunchConfig, ModelOptions, TaskOptions, TrainingConfig
from training.tasks.protocol import family_of, task_of
from training.tracking.choice import wandb_mode

CHECKOUT = Path(__file__).resolve().parents[3]
"""Directory of the code: a git checkout, or what was made of one."""
CODE = ("apt_model", "configs", "training", "train.py", "constraints.txt", "pyproject.toml", "LICENSE")
"""All that a run needs of the checkout."""
JOB_DIRECTORY = "job"
"""Part of the uploaded directory that belongs to this one job. The rest is the project's code."""
CONFIG_PATH = f"{JOB_DIRECTORY}/config.yaml"
DATA_DIRECTORY = f"{JOB_DIRECTORY}/data"
FILES_DIRECTORY = f"{JOB_DIRECTORY}/files"
"""Files that the inner backend's options name, such as DeepSpeed's JSON."""
MODEL_DIRECTORY = f"{JOB_DIRECTORY}/model"
"""Files and directories that options of the task and the model name, such as the model to start from."""
START_DIRECTORY = f"{JOB_DIRECTORY}/start"
"""A run of this machine to continue from."""


def inner_config(config: TrainingConfig) -> TrainingConfig:
    """Make the config that the job's ranks read: the inner backend's, without Azure, with paths as they are in the job.

    Azure starts the ranks of all machines and numbers them, so the settings of a launcher are reset.

    Args:
        config: has the sections `azure` and that of the inner backend.

    Raises:
        DataError: there is no such data file.
    """
    here = {path: place for place, path in job_files(config)}
    section = _section(config)
    files = {name: Path(here[getattr(section, name)]) for name in _path_options(section)}
    task = task_of(config)
    data = task.with_data_files(config.data, [here[path] for path in task.data_files(config.data)])
    data = data.model_copy(update={name: here[path] for name, path in places_here(config.data).items()})
    model = config.model.model_copy(update={name: here[path] for name, path in places_here(config.model).items()})
    launch = {"nnodes": 1, "rdzv_endpoint": None, "rdzv_id": "apt"}
    return _inside(
        config,
        section.model_copy(update=files),
        data=data,
        model=model,
        launch=config.launch.model_copy(update=launch),
    )


def inner_config_here(config: TrainingConfig) -> TrainingConfig:
    """Make the same for the inner backend's checks on this machine: with its paths, and all ranks as if they were here.

    So the global batch size is checked for the ranks of all machines.
    """
    launch = config.launch
    if launch.nnodes > 1:
        ranks = ranks_here(launch) * launch.nnodes
        alone = {"nnodes": 1, "rdzv_endpoint": None, "num_processes": ranks, "num_gpus": None}
        launch = launch.model_copy(update=alone)
    return _inside(config, _section(config), data=config.data, model=config.model, launch=launch)


def _section(config: TrainingConfig) -> Section:
    """Return the inner backend's options."""
    inner = BACKENDS.load(options_of(config).inner_backend)
    given = getattr(config, inner.name, None)
    return given if isinstance(given, inner.Options) else inner.Options()


def _inside(
    config: TrainingConfig, section: Section, *, data: TaskOptions, model: ModelOptions, launch: LaunchConfig
) -> TrainingConfig:
    inner = BACKENDS.load(options_of(config).inner_backend)
    values: dict[str, Any] = {name: getattr(config, name) for name in TrainingConfig.model_fields}
    values |= {"backend": inner.name, inner.name: section, "data": data, "model": model, "launch": launch}
    values["track"] = config.track.model_copy(update=_tracking(config))
    return config_class(inner, task=config.task, model=config.model.model)(**values)


def job_files(config: TrainingConfig) -> Iterator[tuple[str, Path]]:
    """Yield (path in the uploaded directory, file or directory of this machine) of all that options name.

    A file comes once. Where names collide, the later ones lie in numbered directories.

    Raises:
        DataError: there is no such data file.
        ConfigError: the model needs a directory of this machine that no option names.
    """
    section = _section(config)
    named = [getattr(section, name) for name in _path_options(section)]
    places = [*places_here(config.model).values(), *places_here(config.data).values()]
    _refuse_hidden_bases(config, places)
    for directory, paths in (
        (DATA_DIRECTORY, task_of(config).data_files(config.data)),
        (MODEL_DIRECTORY, places),
        (FILES_DIRECTORY, named),
    ):
        taken: set[str] = set()
        for path in dict.fromkeys(paths):
            name = path.name if path.name not in ("", "..") else path.resolve().name
            number, place = 1, name
            while place.casefold() in taken:
                number += 1
                place = f"{number}/{name}"
            taken.add(place.casefold())
            yield str(PurePosixPath(directory, place)), path


def places_here(section: Section) -> dict[str, Path]:
    """Return the options of a task or a model that name a file or directory of this machine (`"goes_along"`)."""
    found: dict[str, Path] = {}
    for name, field in type(section).model_fields.items():
        extra, value = field.json_schema_extra, getattr(section, name)
        marked = isinstance(extra, dict) and extra.get("goes_along")
        if marked and isinstance(value, str) and Path(value).exists():
            found[name] = Path(value)
    return found


def _refuse_hidden_bases(config: TrainingConfig, places: Sequence[Path]) -> None:
    for path in family_of(config).local_files(config.model):
        if not any(path.resolve().is_relative_to(place.resolve()) for place in places):
            raise ConfigError(
                f"--model: it is made of {path} too, which no job finds; give a model that is whole, such as merged/ "
                "of a run with --merge, or one whose base is on the Hugging Face Hub"
            )


def _path_options(section: Section) -> list[str]:
    """List options that name a file of this machine. The bare name of a preset in configs/ is valid in the job too."""
    values = {name: getattr(section, name) for name in type(section).model_fields}
    return [name for name, value in values.items() if isinstance(value, Path) and value.is_file()]


def _tracking(config: TrainingConfig) -> dict[str, Any]:
    """Return settings of the trackers as they are in the job."""
    track = config.track
    changed: dict[str, Any] = {}
    if joins_workspace(config):
        changed["track"] = ("mlflow", *(name for name in track.track if name != "mlflow"))
    if "wandb" in track.track:  # WANDB_MODE of this machine does not reach the job
        changed["wandb_mode"] = wandb_mode(config)
    return changed


def joins_workspace(config: TrainingConfig) -> bool:
    """Return True if the run logs to the MLflow run that Azure makes for the job."""
    return options_of(config).track_in_workspace and config.track.mlflow_tracking_uri is None
