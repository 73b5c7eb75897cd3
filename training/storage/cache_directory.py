"""The directory of what can be made again: it may be deleted at any time, and is never part of a result. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from training.errors import ConfigError
from training.storage.user_paths import path_of

VARIABLE = "APT_TRAINER_CACHE"
"""The variable in which a user names another directory."""
REMEDY = f"set {VARIABLE} to a directory on a disk with room that you can write to"


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the cache directory, which need not exist: `$APT_TRAINER_CACHE`, else `~/.cache/apt-trainer`.

    `$XDG_CACHE_HOME`, if it is set, takes the place of `~/.cache`.

    Raises:
        ConfigError: no file can have this path, or there is no home.
    """
    if given := environment.get(VARIABLE):
        return path_of(f"{VARIABLE} in the environment:", given).absolute()
    shared = Path(environment.get("XDG_CACHE_HOME", ""))
    if not shared.is_absolute():  # to be ignored then, says the XDG specification
        try:
            shared = Path.home() / ".cache"
        except RuntimeError as error:
            raise ConfigError(f"no directory for the cache: this user has no home; {REMEDY}") from error
    return shared / "apt-trainer"
