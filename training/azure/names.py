"""What Azure allows in names, by the patterns of its REST API, so that an illegal one is refused at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from training.errors import ConfigError


class Rule(NamedTuple):
    """How a kind of thing may be called."""

    pattern: str
    told: str


_ENDS = "the first a letter or digit, at most 255"
_WORDS = f"letters, digits, '-' and '_', {_ENDS}"
RULES: Mapping[str, Rule] = {
    "job_name": Rule(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}", _WORDS),
    "experiment_name": Rule(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}", _WORDS),
    "compute_name": Rule(
        r"[A-Za-z][A-Za-z0-9-]{0,30}[A-Za-z0-9]",
        "2 to 32 letters, digits and '-', the first a letter, the last no '-'",
    ),
    "register_model": Rule(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", f"letters, digits, '-', '_' and '.', {_ENDS}"),
    "datastore": Rule(r"[A-Za-z0-9_]{1,255}", "letters, digits and '_', at most 255"),
}
"""Option -> its rule. The names of the workspace are `address.py`'s matter."""


def check_name(option: str, value: str | None) -> None:
    """Refuse a name that Azure would refuse. None is nothing to check.

    Raises:
        ConfigError: with what such a name is made of.
    """
    rule = RULES[option]
    if value is not None and re.fullmatch(rule.pattern, value) is None:
        raise ConfigError(f"{option}={value!r}: Azure takes {rule.told}")
