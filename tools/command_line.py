"""The command line of a tool: its own text is the help, and what cannot be used is one line and exit code 2."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from training.errors import EXIT_BAD_INPUT, EXIT_BROKEN_PIPE, EXIT_INTERRUPTED, UserError, did_you_mean


class CommandLine(argparse.ArgumentParser):
    """Reads the flags of a tool. A wrong one raises UserError, as everything does that cannot be used.

    Args:
        text: the tool's module docstring, which `--help` shows as it stands.
    """

    def __init__(self, text: str | None) -> None:
        super().__init__(
            description=(text or "").strip(), formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f"{message} (see --help)")


def path_given(text: str) -> Path:
    """For `add_argument(type=path_given)`: a path that the system can be asked about, whatever is there.

    Raises:
        argparse.ArgumentTypeError: its name is too long, or a directory above it may not be entered.
    """
    path = Path(text)
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}; choose another name") from error
    return path


def whole_number(flag: str, text: str, low: int, high: int | None = None) -> int:
    """The whole number that a flag was given.

    Raises:
        UserError: it is none, below `low`, or above `high`.
    """
    number = int(text) if text.isascii() and text.isdigit() else None
    if number is None or number < low or (high is not None and number > high):
        wanted = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise UserError(f"{flag} must be a whole number {wanted}, got {text!r}")
    return number


def number_between(flag: str, text: str, low: float, high: float, unit: str) -> float:
    """The number of `unit` that a flag was given.

    Raises:
        UserError: it is none, or not from `low` to `high`.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise UserError(f"{flag} must be a number of {unit} from {low:g} to {high:g}, got {text!r}")
    return number


def one_of(flag: str, name: str, kind: str, names: Iterable[str]) -> str:
    """The name, if it is one of those that there are.

    Raises:
        UserError: it is none; the nearest one is proposed.
    """
    known = list(names)
    if name not in known:
        raise UserError(f"{flag} {name}: unknown {kind}{did_you_mean(name, known)}; choose from {', '.join(known)}")
    return name


def finish(name: str, run: Callable[[list[str]], int], when_stopped: str = "stopped") -> int:
    """What the process of a tool exits with: the code of `run`; 2 for a UserError and 130 for Ctrl-C, each told in
    one line on stderr; 141 if the reader of its output has left.

    Args:
        name: of the tool, before the line.
        run: what the tool does, given the words of the command line.
        when_stopped: what Ctrl-C leaves behind.
    """
    try:
        try:
            return run(sys.argv[1:])
        finally:  # after --help too, which ends with SystemExit
            sys.stdout.flush()  # here, where a reader that has left can still be caught
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print(f"{name}: {when_stopped}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `… | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
