"""Faults of a setting's value, in one line for the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from training.errors import ConfigError
from training.settings.declarations import suggestion


class SettingsError(ConfigError):
    """Values that are none of their settings; its line is the first fault.

    Args:
        error: what pydantic found.
        tree, origins: see `describe_fault`.
    """

    def __init__(self, error: ValidationError, tree: type[BaseModel], origins: Mapping[str, str] | None = None) -> None:
        super().__init__(describe_fault(error, tree, origins))
        self.faults = [(_key(fault), _line(fault, tree, origins)) for fault in error.errors(include_url=False)]
        """(dotted key of the setting or of its section, line) of each fault."""


def shown(value: object) -> str:
    """Return a value as it is quoted in a message."""
    try:
        return repr(value)
    except ValueError:  # Python prints no whole number of more than some thousand digits
        return "a number of several thousand digits"


def describe_fault(error: ValidationError, tree: type[BaseModel], origins: Mapping[str, str] | None = None) -> str:
    """Return the first fault of a pydantic error in one line: `num_heads = 'abc' (from --num-heads): …`.

    Args:
        error: what pydantic found.
        tree: has the settings whose names are suggested for an unknown one.
        origins: dotted key -> who set it.
    """
    faults = error.errors(include_url=False)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{_line(faults[0], tree, origins)}{more}"


def _key(fault: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in fault["loc"] if not isinstance(part, int))


def _line(first: Any, tree: type[BaseModel], origins: Mapping[str, str] | None) -> str:
    key = _key(first)
    names = key.split(".")
    kind, context = first["type"], first.get("ctx", {})
    if kind == "value_error":
        fault = str(context.get("error", first["msg"]))
    elif kind in ("int_parsing", "int_from_float", "int_type"):
        fault = "should be a whole number"
    elif kind in ("float_parsing", "float_type"):
        fault = "should be a number"
    elif kind.startswith("bool_"):
        fault = "should be true or false"
    elif kind == "literal_error":
        fault = f"should be one of {context['expected']}"
    elif kind == "finite_number":
        fault = "should be a finite number"
    elif kind in ("tuple_type", "list_type"):
        fault = "should be a list"
    elif kind == "too_short":
        fault = f"should have at least {context['min_length']}"
    elif kind == "extra_forbidden":
        fault = f"no such setting{suggestion(names[-1], tree)}"
    else:
        fault = first["msg"][0].lower() + first["msg"][1:]
    source = (origins or {}).get(key)
    # What goes wrong between the settings of a section has the whole section for its input.
    is_of_section = isinstance(first["input"], BaseModel) or (
        isinstance(first["input"], dict) and kind == "value_error"
    )
    value = "" if is_of_section else f" = {shown(first['input'])}"
    subject = f"{names[-1]}{value}{f' (from {source})' if source else ''}: " if value else ""
    return f"{subject}{fault}"
