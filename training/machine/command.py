"""A command as a process: the ways in which it may end, each with an exit code and at most one line. No torch."""

from __future__ import annotations

import errno
from collections.abc import Callable

from training.errors import EXIT_BAD_INPUT, EXIT_BROKEN_PIPE, EXIT_INTERRUPTED, UserError
from training.machine.output import LostOutputError, complain, guarded_output
from training.machine.startup import listen, missing_package, open_missing_streams
from training.machine.stop_signals import KnownInterrupts


def exit_code_of(
    run: Callable[[], int], name: str, when_stopped: str, before_refusal: Callable[[], None] = lambda: None
) -> int:
    """Run a command and return the exit code of its process.

    That is what `run` returns; 2 for a UserError, a package that is missing and a full disk behind stdout, and 130 for
    Ctrl-C, each with one line on stderr; 141 if the reader of its output has left.

    Args:
        run: the command.
        name: what stands in front of the line: the name of a tool, or `error`.
        when_stopped: what Ctrl-C leaves behind, as a whole line.
        before_refusal: called before a UserError is printed.
    """
    listen()
    open_missing_streams()
    try:
        with guarded_output(), KnownInterrupts():
            return run()
    except UserError as error:
        before_refusal()
        complain(f"{name}: {error}")
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        complain(when_stopped)
        return EXIT_INTERRUPTED
    except LostOutputError as error:
        if error.errno == errno.EPIPE:  # `… | head` has read enough
            return EXIT_BROKEN_PIPE
        complain(f"{name}: what was printed could not be written ({error.strerror})")
        return EXIT_BAD_INPUT
    except ModuleNotFoundError as error:
        line = missing_package(error)
        if line is None:
            raise
        complain(f"{name}: {line}")
        return EXIT_BAD_INPUT
