"""Layers of settings: defaults <- the backend's preset <- the resumed run <- YAML <- flags. No torch.

A layer is a flat mapping `model.d_model -> value`, so that one dictionary update lays it over the next and it is
always known which layer a value came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from training.backends.registry import BACKENDS
from training.checkpoints.manifest import existing_form, is_checkpoint
from training.errors import ConfigError, did_you_mean
from training.settings.error_messages import describe_fault
from training.settings.tree import TrainingConfig

Layer = dict[str, Any]
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def leaves(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """(dotted key, declaration) of every setting, in the order of declaration."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def leaf_names(section: type[BaseModel]) -> dict[str, str]:
    """Short name -> dotted key: `d_model -> model.d_model`. Names are unique; a test keeps it so."""
    return {key.rpartition(".")[2]: key for key, _ in leaves(section)}


def aliases(field: FieldInfo) -> tuple[str, ...]:
    """Other spellings of a setting's flag, as users' documents show them."""
    extra = field.json_schema_extra
    found = extra.get("aliases", ()) if isinstance(extra, dict) else ()
    return tuple(str(a) for a in found) if isinstance(found, list | tuple) else ()


def find_key(word: str, config_class: type[BaseModel]) -> str:
    """The dotted key meant by `word`: short, dotted or with dashes.

    Raises:
        ConfigError: no such setting; names the nearest one.
    """
    names = leaf_names(config_class)
    names |= {alias: key for key, field in leaves(config_class) for alias in aliases(field)}
    plain = word.lstrip("-").replace("-", "_")
    if plain in names:
        return names[plain]
    if plain in names.values():
        return plain
    raise ConfigError(f"--explain {word}: no such setting{suggestion(plain, config_class)}")


def suggestion(word: str, config_class: type[BaseModel]) -> str:
    """`; did you mean 'num_heads'?` by aliases first, then by likeness."""
    last = word.rpartition(".")[2]
    for key, field in leaves(config_class):
        if last in aliases(field):
            return f"; did you mean {key.rpartition('.')[2]!r}?"
    return did_you_mean(last, leaf_names(config_class))


def find_config(name: str | Path) -> Path:
    """The YAML file meant by `--config`: a path, or the bare name of a preset in configs/."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    preset = CONFIGS / (path.name if path.suffix else f"{path.name}.yaml")
    if len(path.parts) == 1 and preset.is_file():
        return preset
    presets = sorted(p.stem for p in CONFIGS.glob("*.yaml"))
    raise ConfigError(f"--config {name}: no such file; presets are {', '.join(presets)}")


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key given twice is a fault: PyYAML would quietly keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        ConfigError: missing, not UTF-8, not YAML, or not a mapping.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_StrictLoader)  # a SafeLoader
    except OSError as error:
        raise ConfigError(f"{path}: the config file cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); save the file as UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{path}: not valid YAML{at}: {problem}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: a config file maps settings to values, this one is a {type(document).__name__}")
    return document


def read_yaml_layer(path: Path, config_class: type[TrainingConfig]) -> Layer:
    """The settings in a YAML file, nested or flat.

    A section named after another backend is left alone: a file may carry the options of several.

    Raises:
        ConfigError: an unknown key (with a suggestion), or the same setting given nested and flat.
    """
    return flatten(read_yaml(path), config_class, str(path))


def flatten(document: Mapping[str, Any], config_class: type[TrainingConfig], where: str) -> Layer:
    """A layer from a nested or flat mapping; `where` begins the error lines."""
    names = leaf_names(config_class)
    keys = set(names.values())
    sections = {key.partition(".")[0] for key in keys if "." in key}
    layer: Layer = {}

    def put(key: str, value: Any) -> None:
        if key in layer:
            raise ConfigError(f"{where}: {key!r} is given twice, nested and flat")
        layer[key] = value

    for name, value in document.items():
        # `schedule: cosine` is the setting schedule.schedule, `schedule: {…}` the section.
        if name in sections and (isinstance(value, dict) or name not in names):
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: section {name!r} must map settings to values, not {value!r}")
            for inner, inner_value in value.items():
                key = f"{name}.{inner}"
                if key not in keys:
                    hint = f"; it belongs to section {names[inner].partition('.')[0]!r}" if inner in names else ""
                    raise ConfigError(f"{where}: unknown key {key!r}{hint or suggestion(str(inner), config_class)}")
                put(key, inner_value)
        elif isinstance(value, dict) and name in BACKENDS.names():
            continue  # another backend's; `deepspeed` is also a setting of huggingface
        elif name in names:
            put(names[name], value)
        elif name in keys:
            put(name, value)
        elif name not in BACKENDS.names():
            hint = did_you_mean(str(name), sections) if isinstance(value, dict) else ""
            raise ConfigError(f"{where}: unknown key {name!r}{hint or suggestion(str(name), config_class)}")
    return layer


def backend_in(config_file: Path | None) -> str | None:
    """The backend that a config file names, before its settings can be read: they depend on it."""
    if config_file is None:
        return None
    name = read_yaml(config_file).get("backend")
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"{config_file}: backend = {name!r} should be a backend's name")
    return name


def settings_of_run(path: Path, config_class: type[TrainingConfig]) -> Layer:
    """Settings of the run that a checkpoint belongs to, so that `--resume PATH` alone is enough."""
    path = existing_form(path)
    directory = path.parent if is_checkpoint(path) or not path.is_dir() else path
    saved = directory / "config.yaml"
    if not saved.is_file() or (len(path.parts) == 1 and not path.exists()):
        return {}
    layer = read_yaml_layer(saved, config_class)
    return {key: value for key, value in layer.items() if key not in ("backend", "model.vocab_size")} | {
        "run.run_dir": directory
    }


def nest(layer: Mapping[str, Any]) -> dict[str, Any]:
    """`{"model.d_model": 64}` -> `{"model": {"d_model": 64}}`."""
    tree: dict[str, Any] = {}
    for key, value in layer.items():
        section, _, name = key.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[name] = value
    return tree


@dataclass(frozen=True)
class Resolved:
    """A checked config and where each of its values came from."""

    config: TrainingConfig
    origins: Mapping[str, str]
    """Dotted key -> layer that set it; a key that is missing here has its default."""

    def explain(self, word: str) -> str:
        """What a setting means, its value, and which layer set it."""
        config_class = type(self.config)
        key = find_key(word, config_class)
        field = dict(leaves(config_class))[key]
        value: Any = self.config
        for part in key.split("."):
            value = getattr(value, part)
        flags = " ".join(f"--{name.replace('_', '-')}" for name in (key.rpartition(".")[2], *aliases(field)))
        default = field.get_default(call_default_factory=True)
        return "\n".join([
            f"{key} = {value}",
            f"  {field.description}",
            f"  set by   {self.origins.get(key, 'the default')}",
            f"  default  {default}",
            f"  type     {type_name(field)}",
            f"  flag     {flags}",
        ])  # fmt: skip


def type_name(field: FieldInfo) -> str:
    """A setting's type as users know it: `int`, `float or none`, `adamw | muon`, `list of text`."""
    return _type_name(field.annotation)


def _type_name(kind: Any) -> str:
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return " | ".join(map(str, inner))
    if get_origin(kind) is tuple:
        return f"list of {_type_name(inner[0])}"
    if inner:  # a union
        told = " | ".join(_type_name(one) for one in inner if one is not NoneType)
        return f"{told} or none" if NoneType in inner else told
    return {str: "text", Path: "path"}.get(kind, str(kind.__name__))


def resolve(config_class: type[TrainingConfig], layers: Mapping[str, Layer]) -> Resolved:
    """Lay the layers over each other, lowest first, and check the result.

    Args:
        config_class: the tree, with the chosen backend's options in it.
        layers: name of the layer, as it is shown to the user -> its settings.

    Raises:
        ConfigError: the first wrong value, with the layer that set it.
    """
    merged: Layer = {}
    origins: dict[str, str] = {}
    for name, layer in layers.items():
        merged.update(layer)
        for key in layer:
            origins[key] = f"--{key.rpartition('.')[2].replace('_', '-')}" if name == "flags" else name
    try:
        config = config_class.model_validate(nest(merged))
    except ValidationError as error:
        raise ConfigError(describe_fault(error, origins)) from None
    config.validate()
    return Resolved(config, origins)
