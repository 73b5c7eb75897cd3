"""Layers of settings: defaults <- the backend's preset <- the resumed run <- YAML <- flags. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from training.settings.declarations import aliases, find_key, leaves, short_name, type_name
from training.settings.error_messages import SettingsError
from training.settings.tree import RunConfig, TrainingConfig
from training.settings.yaml_files import nest

FLAGS = "flags"
"""Name of the layer of command-line flags; where one of its settings is explained, its own flag is shown instead."""


@dataclass(frozen=True)
class Layer:
    """Settings from one source."""

    name: str
    """Source, as it is shown to the user."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Dotted key -> value."""
    gives_way: bool = False
    """True: nobody gave these values for this run, as in a preset; where they contradict given ones, they give way."""

    def origin(self, key: str) -> str:
        """Return who set a setting of this layer, as it is shown to the user."""
        return f"--{short_name(key).replace('_', '-')}" if self.name == FLAGS else self.name


@dataclass(frozen=True)
class Resolved:
    """A checked config and where each of its values came from."""

    config: TrainingConfig
    origins: Mapping[str, str]
    """Dotted key -> source that set it; a key that is missing here has its default."""
    explicit: frozenset[str] = frozenset()
    """Dotted keys of the settings that the user gave for this run, and that never give way."""

    def with_run(self, run: RunConfig, origin: str) -> Resolved:
        """Return the same with other settings of the section `run`, and `origin` as the source of those that differ."""
        names = [name for name in type(run).model_fields if getattr(run, name) != getattr(self.config.run, name)]
        if not names:
            return self
        origins = {**self.origins, **{f"run.{name}": origin for name in names}}
        return replace(self, config=self.config.model_copy(update={"run": run}), origins=origins)

    def explain(self, word: str) -> str:
        """Return what a setting means, its value, and which layer set it.

        Raises:
            ConfigError: there is no such setting.
        """
        tree = type(self.config)
        key = find_key(word, tree)
        declared = dict(leaves(tree))[key]
        value: Any = self.config
        for part in key.split("."):
            value = getattr(value, part)
        flags = " ".join(f"--{name.replace('_', '-')}" for name in (short_name(key), *aliases(declared)))
        default = declared.get_default(call_default_factory=True)
        return "\n".join([
            f"{key} = {value}",
            f"  {declared.description}",
            f"  set by   {self.origins.get(key, 'the default')}",
            f"  default  {default}",
            f"  type     {type_name(declared)}",
            f"  flag     {flags}",
        ])  # fmt: skip


def resolve(tree: type[TrainingConfig], layers: Sequence[Layer]) -> Resolved:
    """Lay the layers over each other and check the result.

    Args:
        tree: the settings that there are, with the options of task, model family and backend.
        layers: the lowest first.

    Raises:
        ConfigError: the first wrong value, with the layer that set it.
    """
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    explicit: set[str] = set()
    for layer in layers:
        merged.update(layer.settings)
        origins |= {key: layer.origin(key) for key in layer.settings}
        explicit = explicit - set(layer.settings) if layer.gives_way else explicit | set(layer.settings)
    try:
        config = tree.model_validate(nest(merged))
    except ValidationError as error:
        raise SettingsError(error, tree, origins) from None
    config.validate()
    config.refuse_patience(has_validation=config.data.validation_split > 0.0)
    return Resolved(config, origins, frozenset(explicit))
