"""Settings that a run was trained with, as its config.yaml has them. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.checkpoints.manifest import checkpoint_directories, existing_form, is_checkpoint
from training.checkpoints.run_directory import CONFIG_NAME, run_directory_of
from training.errors import CheckpointError, ConfigError
from training.settings.tree import DEFAULT_MODEL, DEFAULT_TASK, TrainingConfig
from training.settings.yaml_files import Settings, flatten, read_yaml

_LISTED = 8
"""Checkpoints that an error line lists."""


def with_names(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's saved settings, nested, with the names of its task and model family.

    Runs from before there were several did not write the names down.
    """
    return {"task": DEFAULT_TASK, **saved, "model": {"model": DEFAULT_MODEL, **(saved.get("model") or {})}}


def saved_config(path: Path) -> Path | None:
    """Return the config.yaml of the run that a checkpoint or run directory belongs to; None: there is none."""
    path = existing_form(path)
    directory = run_directory_of(path) if is_checkpoint(path) or not path.is_dir() else path
    saved = directory / CONFIG_NAME
    if not saved.is_file() or (len(path.parts) == 1 and not path.exists()):
        return None
    return saved


def path_to_go_on_from(asked: Path, run_dir: Path) -> Path:
    """Return the checkpoint or run directory that `--resume` names: as a path, or as the bare name of one in `run_dir`.

    Raises:
        CheckpointError: there is none; names those that exist where it was looked for.
    """
    path = existing_form(asked)
    if path.exists():
        return path
    is_bare = len(asked.parts) == 1
    if is_bare and existing_form(run_dir / asked).exists():
        return existing_form(run_dir / asked)
    where = run_dir if is_bare else asked.parent
    names = checkpoint_directories(where)
    there = f"{where} has {', '.join(path.name for path in names[:_LISTED])}" if names else f"there is none in {where}"
    raise CheckpointError(
        f"--resume {asked}: no such checkpoint or run; {there}{', …' if len(names) > _LISTED else ''}"
    )


def settings_of_run(path: Path, tree: type[TrainingConfig]) -> Settings:
    """Return the settings of the run that a checkpoint belongs to, so that `--resume PATH` alone is enough.

    Args:
        path: a checkpoint or a run directory.
        tree: the settings that there are.

    Raises:
        ConfigError: the run has another task or model family than `tree`, or its config.yaml cannot be read.
    """
    saved = saved_config(path)
    if saved is None:
        return {}
    return {**carried_over(read_yaml(saved), tree, str(saved)), "run.run_dir": saved.parent}


def carried_over(saved: Mapping[str, Any], tree: type[TrainingConfig], where: str) -> Settings:
    """Return those of a run's saved settings that hold for the run that resumes it.

    The backend may be another one.

    Args:
        saved: the content of its config.yaml.
        tree: the settings that there are.
        where: begins the error lines.

    Raises:
        ConfigError: the run has another task or model family than `tree`, or a setting is unknown.
    """
    if not saved:
        return {}
    options: Any = tree.model_fields["model"].annotation  # a subclass of ModelOptions
    section = saved.get("model", DEFAULT_MODEL)
    family = section.get("model", DEFAULT_MODEL) if isinstance(section, dict) else section
    for word, was, now in (
        ("task", saved.get("task", DEFAULT_TASK), tree.model_fields["task"].default),
        ("model", family, options.model_fields["model"].default),
    ):
        if was != now:
            raise ConfigError(f"{where}: the run was trained with --{word} {was}, not {now}; leave --{word} out")
    return {key: value for key, value in flatten(saved, tree, where).items() if key != "backend"}
