"""Errors that a user can mend: one clear line, exit code 2, no traceback.

Everything that goes wrong because of what the user gave (a flag, a key, a file) is raised as a `UserError`.
Any other exception is a fault of the program and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 128 + 2
"""As shells count it: ended by signal 2, SIGINT."""
EXIT_BROKEN_PIPE = 128 + 13
"""Ended by signal 13, SIGPIPE: whoever read the output has left."""


class UserError(Exception):
    """What was wrong, the value received, where, and what to do about it, in one line."""


class ConfigError(UserError):
    """A setting is unknown, is not a value of its type, or does not go with another setting."""


class DataError(UserError):
    """A data file is missing, unreadable, or holds something that is not HLBD."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, not ours, or belongs to another model or run."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """`"; did you mean 'num_heads'?"` for a near miss, else an empty string."""
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
