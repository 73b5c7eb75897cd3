"""The form for a new run: every setting that a client may set, made from the settings' one declaration.

The Chinese help is that of docs/zh-CN/CONFIGURATION.md, which a test keeps complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from tools.server.gate.state import ServerState
from tools.server.settings.policy import (
    DECISIONS,
    NamedDataSet,
    NamedRun,
    OneOf,
    Refused,
    check,
    decision_of,
    declarations_of,
    flat,
)
from training.backends.registry import BACKENDS
from training.errors import UserError
from training.models.registry import MODELS
from training.settings.declarations import short_name
from training.settings.registry import Registry
from training.settings.yaml_files import CONFIGS, read_settings
from training.tasks.registry import TASKS

CHINESE_PAGE = Path(__file__).resolve().parents[3] / "docs" / "zh-CN" / "CONFIGURATION.md"
_ROW = re.compile(r"\| `(\w+)` \|.*\| (.*) \|$")
_HEADING = re.compile(r"## (\w+)(?: \((\w+)\))?$")
_BOUNDS = {"ge": ("minimum", False), "gt": ("minimum", True), "le": ("maximum", False), "lt": ("maximum", True)}


def make_form(
    state: ServerState, *, backend: str | None = None, task: str | None = None, model: str | None = None
) -> dict[str, Any]:
    """Return the form for a backend, a task and a model, with the defaults that these bring.

    Args:
        state: has the data directories and the root.
        backend, task, model: as `check` takes them.

    Raises:
        SettingsProblem: one of them is not allowed.
    """
    prepared = check(state, {}, backend=backend, task=task, model=model)
    resolved = prepared.document()
    tree = type(prepared.config)
    sections: dict[str, list[dict[str, Any]]] = {}
    for key, field in declarations_of(tree).items():
        section = key.partition(".")[0] if "." in key else "run"
        if key in resolved and key not in ("backend", "task", "model.model"):
            value = resolved[key]["value"]
            sections.setdefault(section, []).append(_described(key, field, value, prepared.task, prepared.model))
    return {
        "backend": prepared.backend,
        "task": prepared.task,
        "model": prepared.model,
        "backends": _parts("backend", BACKENDS),
        "tasks": _parts("task", TASKS),
        "models": _parts("model.model", MODELS),
        "presets": [*_presets(prepared.backend, tree)],
        "sections": [{"name": name, "settings": settings} for name, settings in sections.items()],
    }


def _described(key: str, field: FieldInfo, default: Any, task: str, model: str) -> dict[str, Any]:
    decision = decision_of(key, field)
    kind, choices = _kind(field.annotation)
    if isinstance(decision, OneOf):
        kind, choices = ("list" if kind == "list" else "choice"), list(decision.names)
    elif isinstance(decision, NamedDataSet):
        kind = "dataset"
    elif isinstance(decision, NamedRun):
        kind = "model"
    found: dict[str, Any] = {
        "key": key,
        "name": short_name(key),
        "type": kind,
        "default": default,
        "minimum": None,
        "maximum": None,
        "exclusive_minimum": False,
        "exclusive_maximum": False,
        "optional": NoneType in get_args(field.annotation),
        "choices": choices,
        "help": field.description or "",
        "help_zh": _chinese(key, task, model),
        "allowed": not isinstance(decision, Refused),
        "reason": decision.reason if isinstance(decision, Refused) else None,
    }
    for one in field.metadata:
        for name, (bound, is_exclusive) in _BOUNDS.items():
            if (limit := getattr(one, name, None)) is not None:
                found[bound] = limit
                found[f"exclusive_{bound}"] = is_exclusive
    return found


def _kind(annotation: Any) -> tuple[str, list[str]]:
    """Return the type of a setting as a form knows it, and its choices."""
    if get_origin(annotation) is Literal:
        return "choice", [str(one) for one in get_args(annotation)]
    if get_origin(annotation) is tuple:
        return "list", _kind(get_args(annotation)[0])[1]
    inner = [one for one in get_args(annotation) if one is not NoneType]
    if inner:
        return _kind(inner[0])
    return {int: "integer", float: "number", bool: "boolean"}.get(annotation, "text"), []


def _parts(key: str, registry: Registry[Any]) -> list[dict[str, Any]]:
    decision = DECISIONS[key]
    assert isinstance(decision, OneOf)
    return [{"name": name, "summary": registry.entry(name).summary} for name in decision.names]


def _presets(backend: str, tree: Any) -> Iterator[dict[str, Any]]:
    """Yield the presets in configs/ that fit, each with those of its settings that a client may set."""
    for path in sorted(CONFIGS.glob("*.yaml")):
        if path.stem in BACKENDS.built_in:  # it lies under the settings anyway
            continue
        try:
            settings = read_settings(path, tree)
        except UserError:
            continue  # settings of another task or family
        if settings.get("backend", backend) != backend:
            continue
        declared = declarations_of(tree)
        values = dict(flat(tree.from_dict(settings, path.name).to_dict()))  # 2e-3 is a text in YAML
        allowed = {
            key: values[key] for key in settings
            if key != "backend" and not isinstance(decision_of(key, declared[key]), Refused)
        }  # fmt: skip
        yield {"name": path.stem, "summary": _first_comment(path), "settings": allowed}


def _first_comment(path: Path) -> str:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def _chinese(key: str, task: str, model: str) -> str | None:
    """Return the Chinese help of a setting; None: the page has none."""
    section, _, name = key.rpartition(".")
    part = {"data": task, "model": model}.get(section, "")
    found = chinese_helps()
    return found.get((section or "launch", part, name)) or found.get((section or "launch", "", name))


@cache
def chinese_helps() -> Mapping[tuple[str, str, str], str]:
    """Return (section, task or family, name) -> help, from the Chinese page of the settings."""
    found: dict[tuple[str, str, str], str] = {}
    section = ("", "")
    try:
        lines = CHINESE_PAGE.read_text(encoding="utf-8").splitlines()
    except OSError:  # an installed package without the pages
        return {}
    for line in lines:
        if heading := _HEADING.match(line):
            section = (heading[1], heading[2] or "")
        elif row := _ROW.match(line):
            found[(*section, row[1])] = row[2]
    return found
