"""The command line of a tool: its module docstring is the help, and unusable input is one line and exit code 2."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from training.errors import UserError, did_you_mean
from training.language.messages import LANGUAGES, Language, choose_language
from training.machine.command import exit_code_of
from training.machine.environment import refuse_unusable
from training.storage.user_paths import user_path


class CommandLine(argparse.ArgumentParser):
    """A parser for the flags of a tool, which raises UserError for a wrong flag, with the flag that every tool has.

    Parsing sets the language of the process, as `--lang` says.

    Args:
        text: the tool's module docstring, which `--help` shows as it is.
        prog: name of the tool in its usage; None: the file's. The parser of a tool's sub-command gets it from argparse.
        is_part: it is the parser of a sub-command: a flag that the tool has too keeps the value given before.

    Example:
        >>> parser = CommandLine("Count things.")
        >>> _ = parser.add_argument("--steps", metavar="N", default="30")
        >>> parser.parse_args(["--steps", "5"]).steps
        '5'
    """

    def __init__(self, text: str | None, prog: str | None = None, *, is_part: bool = False) -> None:
        super().__init__(
            prog=prog,
            description=(text or "").strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

        self.add_argument(
            "--lang",
            metavar="LANGUAGE",
            default=argparse.SUPPRESS if is_part else None,
            help="language of texts and pictures: en, zh or both (default: texts in en, pictures in both)",
        )

    # argparse's stubs know three forms of this one
    def parse_args(self, args: Sequence[str]) -> argparse.Namespace:  # type: ignore[override]
        """Return the flags.

        Raises:
            UserError: a flag is unknown or wrong.
        """
        self._refuse_two_dashes(args)
        found = super().parse_args(args)
        choose_language(language_named(found.lang) if found.lang is not None else None)
        return found

    def parse_known(self, args: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Return the flags, and the words that are not this tool's, for a tool that passes them on.

        Raises:
            UserError: a flag is wrong.
        """
        self._refuse_two_dashes(args)
        found, others = super().parse_known_args(args)
        choose_language(language_named(found.lang) if found.lang is not None else None)
        return found, others

    def _refuse_two_dashes(self, args: Sequence[str]) -> None:
        for word in args:
            if word.startswith("--") and word.endswith("=--"):  # argparse would make an empty list of it
                self.error(f"argument {word.removesuffix('=--')}: expected one argument, got '--'")

    def error(self, message: str) -> NoReturn:
        """Raise UserError."""
        raise UserError(f"{message} (see --help)")


def path_given(text: str) -> Path:
    """Return the path with `~` expanded, if the system can be asked about it, whether or not anything is there.

    For `add_argument(type=path_given)`.

    Raises:
        argparse.ArgumentTypeError: no file can have this path, or a directory above it may not be entered.
    """
    try:
        path = user_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}; choose another name") from error
    return path


MOST_SEED = 2**63 - 1
"""Largest seed that a generator of random numbers takes here."""
LONGEST_NUMBER = 30
"""Characters; Python itself refuses whole numbers of some thousand digits with an error for programmers."""


def whole_number(flag: str, text: str, low: int, high: int) -> int:
    """Return the whole number that a flag was given.

    Raises:
        UserError: it is not a whole number, below `low`, or above `high`.
    """
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER else None
    if number is None or not low <= number <= high:
        raise UserError(f"{flag} must be a whole number from {low} to {high}, got {text!r}")
    return number


def number_between(flag: str, text: str, low: float, high: float, unit: str = "") -> float:
    """Return the number that a flag was given.

    Args:
        flag: the flag, for the message.
        text: what the user wrote.
        low, high: limits, both allowed.
        unit: what the number counts, in the plural: `seconds`; empty: nothing.

    Raises:
        UserError: it is not a number from `low` to `high`.
    """
    number = math.nan
    if text.isascii() and "_" not in text and len(text) <= LONGEST_NUMBER:  # Python would read １２ and 1_2 too
        with contextlib.suppress(ValueError):
            number = float(text)
    if not low <= number <= high:
        counted = f" of {unit}" if unit else ""
        raise UserError(f"{flag} must be a number{counted} from {low:g} to {high:g}, got {text!r}")
    return number


def one_of(flag: str, name: str, kind: str, names: Iterable[str]) -> str:
    """Return the name, if it is one of the known ones.

    Raises:
        UserError: it is not; the message proposes the nearest one.
    """
    known = list(names)
    if name not in known:
        raise UserError(f"{flag} {name}: unknown {kind}{did_you_mean(name, known)}; choose from {', '.join(known)}")
    return name


def language_named(name: str) -> Language:
    """Return the language of that name.

    Raises:
        UserError: there is none.
    """
    one_of("--lang", name, "language", LANGUAGES)
    return next(language for language in LANGUAGES if language == name)


def check_directory(path: Path, advice: str, flag: str = "") -> None:
    """Refuse a path that is not a directory.

    Args:
        path: what the user named.
        advice: what to name instead: `give a run directory`.
        flag: the flag that named the path; empty for a positional argument.

    Raises:
        UserError: it is a file, or nothing is there.
    """
    if not path.is_dir():
        found = "this is a file" if path.exists() else "there is no such directory"
        raise UserError(f"{flag} {path}: {found}; {advice}".lstrip())


def print_any_character(as_json: bool) -> None:
    """Let stdout take characters that an old terminal's encoding lacks; JSON is UTF-8 for any reader."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)  # a stream of a test's own has none
    if reconfigure is not None:
        reconfigure(encoding="utf-8" if as_json else None, errors="replace")


def finish(name: str, run: Callable[[list[str]], int], when_stopped: str = "stopped") -> int:
    """Run a tool and return the exit code of its process.

    See `training.machine.command.exit_code_of`.

    Args:
        name: name of the tool, in front of the line.
        run: the tool, which takes the words of the command line.
        when_stopped: what Ctrl-C leaves behind, for the line.
    """

    def enter() -> int:
        refuse_unusable()
        return run(sys.argv[1:])

    return exit_code_of(enter, name, f"{name}: {when_stopped}")
