"""Output of a program, and the reader, terminal or disk behind it that may go away. No torch.

Training goes on without its output (`output_may_be_lost`). Where the output is the work, as in a tool, the program
ends: `LostOutputError`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast


class LostOutputError(OSError):
    """What was printed could not be written. Its `errno` is the system's; EPIPE: the reader has left."""


class Output:
    """A stream to print to that survives the loss of what lies behind it.

    Args:
        stream: the text stream proper.
        may_be_lost: print into nothing from then on; otherwise the loss is raised.
    """

    def __init__(self, stream: TextIO, may_be_lost: bool) -> None:
        self._stream = stream
        self.may_be_lost = may_be_lost
        self.loss: LostOutputError | None = None

    def write(self, text: str) -> int:
        """Write as a text stream does.

        Raises:
            LostOutputError: it cannot, and may not be lost.
        """
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush as a text stream does.

        Raises:
            LostOutputError: it cannot, and may not be lost.
        """
        self._attempt(self._stream.flush)

    def ended(self) -> None:
        """Flush, and tell of a loss that was swallowed on the way, as argparse does.

        Raises:
            LostOutputError: something could not be written and was not allowed to be lost.
        """
        self.flush()
        if self.loss is not None:
            raise self.loss

    def _attempt(self, act: Callable[[], object]) -> None:
        try:
            act()
        except (OSError, ValueError) as error:  # ValueError: somebody has closed it
            self._print_into_nothing()
            if not self.may_be_lost:
                number = (error.errno if isinstance(error, OSError) else None) or errno.EBADF
                self.loss = LostOutputError(number, os.strerror(number))
                raise self.loss from error

    def _print_into_nothing(self) -> None:
        """Lead the stream to nothing's file; what it still holds would fail again at each flush, and at the end."""
        with contextlib.suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def guarded_output() -> Iterator[None]:
    """Guard stdout and stderr while a program runs: the loss of stdout raises, that of stderr is no matter.

    Raises:
        LostOutputError: what was printed to stdout could not be written.
    """
    before = sys.stdout, sys.stderr
    output = Output(sys.stdout, may_be_lost=False)
    sys.stdout, sys.stderr = cast(TextIO, output), cast(TextIO, Output(sys.stderr, may_be_lost=True))
    try:
        try:
            yield
        except SystemExit:  # `--help` of a tool
            output.ended()
            raise
        output.ended()
    finally:
        with contextlib.suppress(OSError):
            output.flush()
        sys.stdout, sys.stderr = before


@contextlib.contextmanager
def output_may_be_lost() -> Iterator[None]:
    """Go on quietly when stdout is lost while a block runs."""
    output = sys.stdout
    if not isinstance(output, Output):  # a worker's, which goes to files of the launch
        sys.stdout = cast(TextIO, Output(output, may_be_lost=True))
        try:
            yield
        finally:
            sys.stdout = output
        return
    output.may_be_lost = True
    try:
        yield
        output.flush()
    finally:
        output.may_be_lost = False


def complain(line: str) -> None:
    """Print a line to stderr, if it is still there."""
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)
