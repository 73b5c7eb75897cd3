"""One thing that was looked at: how it stands, and the command that mends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How a thing stands. Only an error makes the command fail."""

    OK = "ok"
    WARNING = "warning"
    """Work goes on, but not as the user may think."""
    ERROR = "error"
    """Training, resuming or verifying fails, or its result would be wrong."""


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis."""

    section: str
    """What it belongs to: `environment`, `dependencies`, one data file, one run."""
    subject: str
    """What was looked at, in a word or two."""
    status: Status
    message: str
    fix: str = ""
    """The command that mends it (with `ok`: the command that adds what is optional), or the edit to make."""
    details: tuple[str, ...] = ()
    """Every single case, where there are several."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The figures behind the message, as plain data."""
