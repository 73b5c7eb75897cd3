"""Errors that a user can mend: one clear line, exit code 2, no traceback.

Everything that goes wrong because of what the user gave (a flag, a key, a file) is raised as a `UserError`.
Any other exception is a fault of the program and keeps its traceback.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from pathlib import Path

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 128 + 2
"""As shells count it: ended by signal 2, SIGINT."""
EXIT_BROKEN_PIPE = 128 + 13
"""Ended by signal 13, SIGPIPE: whoever read the output has left."""


LONGEST_WORD = 400
"""Characters without a space that are shown whole: no path that anybody works with is longer."""
LONGEST_LINE = 4000
_JOINERS = "\u200d\u200c"
"""Signs between the parts of an emoji or of letters: no control codes, though Unicode files them there."""


def printable(text: object) -> str:
    r"""Return a text of unknown origin as one line that a terminal shows and does not obey.

    Line ends, escape sequences, marks that turn the direction of writing and the halves of surrogate pairs are
    escaped; of a very long word and of a very long line the middle is left out.

    Example:
        >>> printable("two\nlines, \x1b[31mred")
        'two\\nlines, \\x1b[31mred'
    """
    shown = str(text)
    if not shown.isprintable():
        shown = "".join(map(_escaped, shown))
    if len(shown) > LONGEST_WORD:
        shown = " ".join(without_middle(word, LONGEST_WORD) for word in shown.split(" "))
    return without_middle(shown, LONGEST_LINE)


def printable_text(text: str) -> str:
    r"""Return a text of several lines, or a piece of one, that a terminal shows and does not obey: nothing is cut.

    Line feeds and tabs stay.

    Example:
        >>> printable_text("two\nlines, \x1b[31mred")
        'two\nlines, \\x1b[31mred'
    """
    return text if text.isprintable() else "".join(c if c in "\n\t" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")


def without_middle(text: str, longest: int) -> str:
    """Return a text, or the beginning and the end of a longer one: the end tells a path from its neighbours."""
    return text if len(text) <= longest else f"{text[: longest // 2]}…{text[-(longest // 3) :]}"


class UserError(Exception):
    """What was wrong, the value received, where, and what to do about it, in one line.

    Whatever of it came from outside is escaped and shortened (`printable`).
    """

    def __init__(self, message: str) -> None:
        shown = printable(message)
        super().__init__(message if shown == message else shown)  # a message that can be translated stays one


class ConfigError(UserError):
    """A setting is unknown, is not a value of its type, or does not go with another setting."""


class ForeignSettingError(ConfigError):
    """A setting belongs to a backend, task or model family that was not chosen."""


class DataError(UserError):
    """A data file is missing, unreadable, or holds something that is not HLBD."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, not ours, or belongs to another model or run."""


class UnreadableError(CheckpointError):
    """The system does not let this user read a file: that says nothing about its content."""


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """Return the error about a file that the system refused to read: an `UnreadableError` where it is not allowed."""
    line = f"{path}: it cannot be read ({error.strerror})"
    if isinstance(error, PermissionError):
        return UnreadableError(f"{line}; its owner can give you the right (chmod -R a+rX)")
    return CheckpointError(line)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """`"; did you mean 'num_heads'?"` for a near miss, else an empty string."""
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def kind_of(value: object) -> str:
    """Name what a value is, for an error line: `a list`, `the class Linear`."""
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
