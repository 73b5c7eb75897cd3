"""The process of a job, detached from whoever started it: `python process.py ATTEMPT PROGRAM`. No torch.

It claims the attempt, says who it is, runs the program in itself, and says how that ended. Nobody needs to live beside
it: its output goes to a file, and a stop is a file that it looks for.

    take the attempt's lock              another process has it: leave
    process.json is there already        the attempt has had its process: leave
    exit.json is there already           a scheduler has closed it, since it was to stop before it began: leave
    write process.json
    run the program with start.json's words; meanwhile, a few times a second:
        stop.json is there               interrupt the program, once, as Ctrl-C at a terminal does
        output.log is full               go on in a new one
    write exit.json

A full disk takes no line of output any more, and the program goes on until its work needs the disk; if not even
`exit.json` can be written, whoever started the process writes it once there is room, and else the state follows from
the run's record.

So an attempt runs once, however often and by whomever its process is started: a scheduler that was killed after it
started one, and before it knew, may simply start another.
"""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import NoReturn

if __name__ == "__main__":
    sys.path[:] = [str(Path(__file__).resolve().parents[3]), *(p for p in sys.path if p)]

from training.checkpoints.run_lock import RunLock
from training.errors import EXIT_INTERRUPTED
from training.experiments.jobs.files import AttemptFiles, Exit
from training.machine.output import Output, complain
from training.machine.processes import ProcessIdentity

SECONDS_BETWEEN_LOOKS = 0.25
LARGEST_OUTPUT = 32 * 2**20
"""Bytes of `output.log` from which on the output goes to a new one. One older one is kept beside it."""


class Watcher:
    """A thread that lets the program hear of a stop, and keeps its output bounded.

    Args:
        attempt: what is watched.
        largest_output: bytes.
    """

    def __init__(self, attempt: AttemptFiles, largest_output: int = LARGEST_OUTPUT) -> None:
        self._attempt, self._largest_output = attempt, largest_output
        self._ended = threading.Event()
        self._has_interrupted = False
        self._thread = threading.Thread(target=self._watch, name="job watcher", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def end(self) -> None:
        """Look no longer."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            # A disk that refuses for a while: the next look tries again. A stop file that is only there is enough.
            with contextlib.suppress(OSError):
                if not self._has_interrupted and (self._attempt.path / "stop.json").exists():
                    self._has_interrupted = True
                    self._interrupt()
                if os.fstat(1).st_size > self._largest_output:
                    begin_new_output(self._attempt.output)

    def _interrupt(self) -> None:
        """Interrupt the main thread, also while it waits in the system, as a signal of the terminal does."""
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, signal.SIGINT)


def begin_new_output(path: Path) -> None:
    """Lead what this process and its future children print into a new file; what is there is kept as `output.1.log`.

    Raises:
        OSError: the new one cannot be made; the output goes on where it went.
    """
    new = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o600)
    try:
        path.replace(path.with_name(f"{path.stem}.1{path.suffix}"))
        new.replace(path)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
    finally:
        os.close(descriptor)


def run_attempt(attempt: AttemptFiles, program: Path) -> int:
    """Claim an attempt, run its program and write down how it ended.

    Args:
        attempt: one that has its slots.
        program: a Python file, which is run as if Python had been started with it.

    Returns:
        The program's exit code; 0 where another process has the attempt or has had it, or it is closed.
    """
    lock = RunLock.take(attempt.path)
    if lock is None or attempt.process() is not None or attempt.exit() is not None:
        return 0
    attempt.write_process(ProcessIdentity.of_self())
    start = attempt.start()
    assert start is not None, "nobody starts a process before that is written"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a line is in the file as soon as it was printed
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    code = EXIT_INTERRUPTED if attempt.stop() is not None else _watched(attempt, program, start.words)
    # What a full disk or a closed stream refuses goes nowhere; Python would try again at its end, and fail with 120.
    for stream in (sys.stdout, sys.stderr):
        Output(stream, may_be_lost=True).flush()
    with contextlib.suppress(OSError):  # a full disk: whoever started this process sees the code, and tries again
        attempt.write_exit(Exit(code, time.time()))
    return code


def _watched(attempt: AttemptFiles, program: Path, words: tuple[str, ...]) -> int:
    """Run a program, let it hear of a stop, and return its exit code."""
    watcher, codes = Watcher(attempt), [EXIT_INTERRUPTED]
    # Ignored where a shell has started the server in the background; here it must be heard, from the first line on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    watcher.start()
    try:
        try:
            codes.append(_code_of(program, words))
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program has ended by itself: nobody is to be interrupted
    except KeyboardInterrupt:  # it came between the program's end and that line
        pass
    watcher.end()
    return codes[-1]


def _code_of(program: Path, words: tuple[str, ...]) -> int:
    """Run a program in this process and return its exit code; an error that it does not catch is printed."""
    sys.argv = [str(program), *words]
    try:
        runpy.run_path(str(program), run_name="__main__")
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        complain(str(error.code))
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BaseException:
        complain(traceback.format_exc().rstrip())
        return 1
    return 0


def main() -> NoReturn:
    """Run the attempt that the command line names, and end the process."""
    attempt, program = sys.argv[1:]
    sys.exit(run_attempt(AttemptFiles(Path(attempt)), Path(program)))


if __name__ == "__main__":
    main()
