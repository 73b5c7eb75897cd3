"""Declarations in a tree of settings: keys, short names, other spellings, types, and the nearest name. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from training.errors import ConfigError, did_you_mean
from training.settings.other_names import answer


def leaves(tree: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield (dotted key, declaration) of every setting, in the order of declaration."""
    for name, field in tree.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def short_name(key: str) -> str:
    """Return a setting's name without its section: `model.d_model -> d_model`."""
    return key.rpartition(".")[2]


def leaf_names(tree: type[BaseModel]) -> dict[str, str]:
    """Return short name -> dotted key: `d_model -> model.d_model`. Names are unique in a tree."""
    return {short_name(key): key for key, _ in leaves(tree)}


def aliases(field: FieldInfo) -> tuple[str, ...]:
    """Return the other spellings of a setting's flag, as users' documents show them."""
    extra = field.json_schema_extra
    found = extra.get("aliases", ()) if isinstance(extra, dict) else ()
    return tuple(str(a) for a in found) if isinstance(found, list | tuple) else ()


def all_names(tree: type[BaseModel]) -> list[str]:
    """Return the short name and the aliases of every setting."""
    return [name for key, field in leaves(tree) for name in (short_name(key), *aliases(field))]


def find_key(word: str, tree: type[BaseModel]) -> str:
    """Return the dotted key meant by `word`: short, dotted, an alias, or with dashes.

    Raises:
        ConfigError: no such setting; names the nearest one.
    """
    names = leaf_names(tree)
    names |= {alias: key for key, field in leaves(tree) for alias in aliases(field)}
    plain = word.lstrip("-").replace("-", "_")
    if plain in names:
        return names[plain]
    if plain in names.values():
        return plain
    raise ConfigError(f"--explain {word}: no such setting{suggestion(plain, tree)}")


def suggestion(word: str, tree: type[BaseModel]) -> str:
    """Return `; did you mean 'num_heads'?`; empty where nothing is like it.

    First by aliases, then by the names of other training programs, then by likeness.
    """
    last, names = short_name(word), leaf_names(tree)
    for key, field in leaves(tree):
        if last in aliases(field):
            return f"; did you mean {short_name(key)!r}?"
    return answer(last, names) or did_you_mean(last, names)


def type_name(field: FieldInfo) -> str:
    """Return a setting's type as users know it: `int`, `float or none`, `adamw | muon`, `list of text`."""
    return _type_name(field.annotation)


def _type_name(kind: Any) -> str:
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return " | ".join(map(str, inner))
    if get_origin(kind) is tuple:
        return f"list of {_type_name(inner[0])}"
    if inner:  # a union
        shown = " | ".join(_type_name(one) for one in inner if one is not NoneType)
        return f"{shown} or none" if NoneType in inner else shown
    return {str: "text", Path: "path"}.get(kind, str(kind.__name__))
