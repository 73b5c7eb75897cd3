"""Settings in YAML files: strict reading, keys nested or flat. No torch.

Settings are passed on as a flat mapping `model.d_model -> value`, whatever form the file has.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from training.errors import ConfigError, ForeignSettingError, did_you_mean
from training.settings.declarations import leaf_names, suggestion
from training.settings.plain_yaml import MOST_BYTES as MOST_BYTES
from training.settings.plain_yaml import read_document
from training.settings.plain_yaml import read_yaml as read_yaml
from training.settings.section import Section
from training.storage.user_paths import path_of

Settings = dict[str, Any]
"""Dotted key -> value."""
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def find_config(name: str | Path) -> Path:
    """Return the YAML file meant by `--config`: a path, or the bare name of a preset in configs/.

    Raises:
        ConfigError: there is no such file.
    """
    path = path_of("--config", name)
    if path.is_file():
        return path
    if path.exists():
        raise ConfigError(f"--config {name}: not a regular file; give a YAML file, or a preset's name")
    preset = CONFIGS / (path.name if path.suffix else f"{path.name}.yaml")
    if len(path.parts) == 1 and preset.is_file():
        return preset
    presets = sorted(p.stem for p in CONFIGS.glob("*.yaml"))
    raise ConfigError(f"--config {name}: no such file; presets are {', '.join(presets)}")


class _Dumper(yaml.SafeDumper):
    """A dumper that escapes Unicode's line breaks: PyYAML writes them as they are and reads them back as spaces."""


def _represent(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = '"' if any(c in text for c in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent)


def yaml_text(document: Mapping[str, Any]) -> str:
    """Return a mapping of plain data as YAML, in its own order."""
    text: str = yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def read_settings(path: Path, tree: type[Section]) -> Settings:
    """Return the settings in a YAML file, nested or flat.

    A section named after another backend is left alone: a file may carry the options of several. So is a mapping of any
    other name that stands elsewhere in the file too (`<<: *base`).

    Raises:
        ConfigError: an unknown key (with a suggestion), or the same setting given nested and flat.
    """
    document, templates = read_document(path)
    known = {*tree.model_fields, *leaf_names(tree)}
    settings = {name: value for name, value in document.items() if name in known or name not in templates}
    return flatten(settings, tree, str(path))


def flatten(document: Mapping[str, Any], tree: type[Section], where: str) -> Settings:
    """Return the flat form of a nested or flat mapping.

    Args:
        document: as it stands in a file.
        tree: the settings that there are.
        where: begins the error lines.

    Raises:
        ConfigError: an unknown key (with a suggestion), or the same setting given nested and flat.
    """
    names = leaf_names(tree)
    keys = set(names.values())
    sections = {key.partition(".")[0] for key in keys if "." in key}
    found: Settings = {}

    def put(key: str, value: Any) -> None:
        if key in found:
            raise ConfigError(f"{where}: {key!r} is given twice, nested and flat")
        found[key] = value

    for name, value in document.items():
        # `schedule: cosine` is the setting schedule.schedule, `schedule: {…}` the section.
        if name in sections and (isinstance(value, dict) or name not in names):
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: section {name!r} must map settings to values, not {value!r}")
            for inner, inner_value in value.items():
                key = f"{name}.{inner}"
                if key not in keys:
                    hint = f"; it belongs to section {names[inner].partition('.')[0]!r}" if inner in names else ""
                    raise ConfigError(f"{where}: unknown key {key!r}{hint or _hint(str(inner), tree)}")
                put(key, inner_value)
        elif isinstance(value, dict) and name in tree.elsewhere.sections:
            continue  # another backend's; `deepspeed` is also a setting of huggingface
        elif name in names:
            put(names[name], value)
        elif name in keys:
            put(name, value)
        elif name not in tree.elsewhere.sections:
            if owner := tree.elsewhere.owner(str(name)):
                raise ForeignSettingError(f"{where}: unknown key {name!r}; it belongs to {owner}")
            hint = did_you_mean(str(name), sections) if isinstance(value, dict) else ""
            raise ConfigError(f"{where}: unknown key {name!r}{hint or suggestion(str(name), tree)}")
    return found


def _hint(name: str, tree: type[Section]) -> str:
    owner = tree.elsewhere.owner(name)
    return f"; it belongs to {owner}" if owner else suggestion(name, tree)


def nest(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested form: `{"model.d_model": 64}` -> `{"model": {"d_model": 64}}`."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[name] = value
    return tree
