"""The variables by which a launcher tells a process that it started which rank it is. No torch.

torchrun, deepspeed and clusters set all of `VARIABLES`. A shell that was once inside such a process may still hold some
of them: a part of them, or numbers that no launcher gives, is refused and never guessed from.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

from training.errors import ConfigError

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
NUMBERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
"""Those that make a process one of several. The place to meet alone makes none."""


class RankIdentity(NamedTuple):
    """A process among those that a launcher started."""

    rank: int
    local_rank: int
    world_size: int
    local_world_size: int
    """How many of them are on this machine, as far as the launcher says."""
    endpoint: str
    """HOST:PORT where the ranks meet."""

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Self | None:
        """Read the variables; None: no launcher started this process.

        Raises:
            ConfigError: only some of the variables are set, or a value is none that a launcher gives.
        """
        if not any(name in environment for name in NUMBERS):
            return None
        missing = [name for name in VARIABLES if name not in environment]
        if missing:
            found = ", ".join(as_set(name, environment) for name in VARIABLES if name in environment)
            lacking = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not"
            raise ConfigError(f"{found}: set in the environment, and {lacking}; a launcher sets all. {remedy()}")
        world_size = _number("WORLD_SIZE", environment, 1, None)
        rank = _number("RANK", environment, 0, world_size)
        local_rank = _number("LOCAL_RANK", environment, 0, world_size)
        port = _number("MASTER_PORT", environment, 1, 65536)
        address = environment["MASTER_ADDR"]
        if not address.strip():
            raise ConfigError(
                f"{as_set('MASTER_ADDR', environment)} in the environment: should be a host's name. {remedy()}"
            )
        local = next((name for name in ("LOCAL_WORLD_SIZE", "LOCAL_SIZE") if environment.get(name)), None)
        local_world_size = 1 if local is None else _number(local, environment, 1, world_size + 1)
        return cls(rank, local_rank, world_size, local_world_size, f"{address}:{port}")


def is_worker() -> bool:
    """Return whether a launcher started this process."""
    return all(name in os.environ for name in VARIABLES)


def as_set(name: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return `NAME=value` for a message: on one line, and short."""
    value = environment[name]
    shown = value if value.isprintable() and value and len(value) <= 60 else repr(value[:60])
    return f"{name}={shown}{'…' if len(value) > 60 else ''}"


def remedy(names: Iterable[str] = VARIABLES) -> str:
    """Return the command that runs this program without those of the variables that are set."""
    unset = " ".join(f"-u {name}" for name in names if name in os.environ)
    return f"If that is left over from another launcher's shell: env {unset} {shlex.join(sys.orig_argv[:2])} …"


def _number(name: str, environment: Mapping[str, str], low: int, end: int | None) -> int:
    text = environment[name]
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    if number is None or number < low or (end is not None and number >= end):
        wanted = f"of at least {low}" if end is None else f"from {low} to {end - 1}"
        raise ConfigError(
            f"{as_set(name, environment)} in the environment: should be a whole number {wanted}. {remedy()}"
        )
    return number
