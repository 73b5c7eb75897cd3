"""A sweep on the command line: where `--sweep` and the options that go with it become layers of settings. No torch.

On this machine the options are a section of their own next to the run's settings. A backend that trains elsewhere may
have the same options in its own section: then `--sweep` sets them there, and the backend does the rest.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, create_model

from training.backends.prepare import Choice
from training.backends.protocol import is_remote
from training.errors import ConfigError
from training.experiments.search_space import short_name
from training.experiments.sweep.document import SweepDocument, read_document
from training.experiments.sweep.options import SECTION, LocalSweepOptions
from training.settings.declarations import all_names, leaf_names
from training.settings.error_messages import SettingsError
from training.settings.layers import Layer
from training.settings.tree import TrainingConfig
from training.settings.yaml_files import read_settings
from training.storage.user_paths import path_of

_OF_CHOICE = ("backend", "task", "model.model")
"""Settings that decide which settings there are."""


# -- a sweep that goes on ------------------------------------------------------------------------------------------


def with_begun_sweep(given: argparse.Namespace) -> argparse.Namespace:
    """Return the launcher's flags, completed by the sweep that `--resume DIRECTORY` goes on with.

    Args:
        given: as `training.settings.flags.launcher_parser` reads them.

    Returns:
        The same with `begun_sweep`: the sweep's document; None: it is not a sweep that goes on.

    Raises:
        UserError: the sweep's file is damaged, or a config file is given next to it.
    """
    values = dict(vars(given), begun_sweep=None)
    if not isinstance(given.resume, str) or not given.resume.strip():
        return argparse.Namespace(**values)
    directory = path_of("--resume", given.resume)
    document = read_document(directory)
    if document is None:
        return argparse.Namespace(**values)
    if given.config is not None:
        raise ConfigError(f"--resume {directory}: the sweep in it has its settings; leave --config out")
    for name in ("backend", "task", "model"):
        if values[name] is None:
            values[name] = getattr(document, name)
    sweep = True if given.sweep is None else given.sweep
    return argparse.Namespace(
        **values | {"resume": True, "run_dir": str(directory), "sweep": sweep, "begun_sweep": document}
    )


def begun_layers(given: argparse.Namespace) -> tuple[list[Layer], list[Layer]]:
    """Return (settings, settings that give way) of the sweep that goes on; empty where none does."""
    document: SweepDocument | None = given.begun_sweep
    if document is None:
        return [], []
    return document.layers(Path(given.run_dir)), [Layer("--early-stopping", document.defaults, gives_way=True)]


# -- settings ------------------------------------------------------------------------------------------------------


def tree_of(choice: Choice, is_asked: bool) -> type[TrainingConfig]:
    """Return the settings that there are: the run's, and the options of a sweep in one of the sections.

    Args:
        choice: of backend, task and model family.
        is_asked: a sweep on this machine is asked for.

    Raises:
        ConfigError: it is asked for, and a task, family or backend of a third party has a setting of the same name.
    """
    tree = choice.config_class
    if is_remote(choice.backend):
        return tree
    taken = {*all_names(LocalSweepOptions), SECTION}
    same = next((name for name in [*all_names(tree), *tree.model_fields] if name in taken), None)
    if same is None:
        return with_sweep_options(tree)
    if is_asked:
        raise ConfigError(f"--sweep: a setting of this task, model family or backend has its option's name, {same!r}")
    return tree


@cache
def with_sweep_options(tree: type[TrainingConfig]) -> type[TrainingConfig]:
    """Return a tree of settings with the options of a sweep on this machine as the section `sweep`."""
    own: Any = {SECTION: (LocalSweepOptions, Field(default_factory=LocalSweepOptions, description="See --sweep."))}
    made: type[TrainingConfig] = create_model("TrainingConfig", __base__=tree, **own)
    return made


def sweep_file(given: str | bool | None) -> Path | None:
    """Return the YAML file that `--sweep` names; None: it names none.

    Raises:
        ConfigError: there is no such file.
    """
    if not isinstance(given, str) or ("=" in given and not given.endswith((".yaml", ".yml"))):
        return None
    path = path_of("--sweep", given)
    if not path.is_file():
        raise ConfigError(
            f"--sweep {given}: no such file; give a YAML file, or settings with their values, as "
            '"learning_rate=1e-4..1e-2 log, d_model=128|256"'
        )
    return path


def sweep_layers(given: argparse.Namespace, tree: type[TrainingConfig]) -> list[Layer]:
    """Return the settings that `--sweep` brings.

    Args:
        given: the launcher's flags.
        tree: see `tree_of`.

    Raises:
        ConfigError: its file has an unknown key, or the backend trains elsewhere and has no sweeps.
    """
    if given.sweep is None:
        return []
    names = leaf_names(tree)
    if "search" not in names:
        raise ConfigError("--sweep: this backend trains elsewhere, and has no sweeps")
    asked: dict[str, Any] = {names["sweep"]: True} if "sweep" in names else {}
    file = sweep_file(given.sweep)
    if file is None:
        return [Layer("--sweep", asked | ({names["search"]: (given.sweep,)} if given.sweep is not True else {}))]
    settings = read_settings(file, tree)
    if given.config is not None and (found := [key for key in _OF_CHOICE if key in settings]):
        raise ConfigError(f"--sweep {file}: next to --config, it cannot have {short_name(found[0])}; leave one out")
    return [Layer("--sweep", asked), Layer(str(file), settings)]


def split_layers(layers: Sequence[Layer], is_asked: bool) -> tuple[list[Layer], list[Layer]]:
    """Return (layers of the runs' settings, layers of the sweep's options).

    Args:
        layers: of both, the lowest first.
        is_asked: a sweep on this machine is asked for.

    Raises:
        ConfigError: there is an option of a sweep, and no sweep is asked for.
    """
    runs: list[Layer] = []
    options: list[Layer] = []
    for layer in layers:
        own = {key: value for key, value in layer.settings.items() if key.startswith(f"{SECTION}.")}
        if own and not is_asked:
            key, value = next(iter(own.items()))
            raise ConfigError(f"{layer.origin(key)} {_text(value)} is for a sweep; give --sweep with it")
        runs.append(replace(layer, settings={key: v for key, v in layer.settings.items() if key not in own}))
        options.append(replace(layer, settings=own))
    return runs, options


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def resolve_options(layers: Sequence[Layer]) -> LocalSweepOptions:
    """Return the options of a sweep on this machine.

    Args:
        layers: of these options alone, the lowest first.

    Raises:
        ConfigError: the first wrong value, with the layer that set it.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for key, value in layer.settings.items():
            values[short_name(key)], origins[short_name(key)] = value, layer.origin(key)
    try:
        return LocalSweepOptions.model_validate(values)
    except ValidationError as error:
        raise SettingsError(error, LocalSweepOptions, origins) from None
