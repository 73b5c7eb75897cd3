"""The worker's side of a launch: its output goes to where the front door finds it, its end is written down.

A worker is a process that a launcher (torchrun, deepspeed) started. With `--launch-dir` it belongs to a front door that
watches it; without, the user called the launcher, and the worker talks to the terminal like any program.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from training.errors import EXIT_BAD_INPUT, ConfigError, UserError
from training.launch.launch_directory import Ending, FrontDoorFacts, LaunchDirectory, RankProcess
from training.launch.output_relay import relay_writer
from training.machine.startup import missing_package
from training.machine.terminal import stand_in_for
from training.settings.rank_identity import RankIdentity, is_worker

SECONDS_FOR_THE_OTHERS = 3.0
"""How long a rank that refuses the user's input waits for the other ranks to say the same, before its end makes the
launcher end them."""
SECONDS_TO_BE_ENDED = 10.0
"""How long a rank whose launcher was called by hand keeps a refusal back, so that it is printed once and not once a
rank."""
SECONDS_WITHOUT_FRONT_DOOR = 300.0
"""How long a worker may take to save and stop once the front door is gone. Then it hangs, and ends itself."""

_LOST_PEER = re.compile(
    r"connection (was )?(closed|reset|refused)|broken pipe|socket (closed|timeout)|closed by peer|remote process exited"
    r"|ncclRemoteError|ncclSystemError|timed out (after )?waiting|recvValue failed|sendBytes failed",
    re.IGNORECASE,
)


def work(launch_dir: Path, run: Callable[[], int]) -> NoReturn:
    """Run as one rank of a launch and end the process.

    Args:
        launch_dir: the front door's directory for this launch.
        run: the work; returns the exit code of an orderly end (128 + a signal's number: it was asked to stop).

    Raises:
        ConfigError: a launcher did not start this process.
    """
    identity = RankIdentity.of_environment()
    if identity is None:
        raise ConfigError("--launch-dir is for the workers that the front door starts; start a run without it")
    directory, rank = LaunchDirectory(launch_dir), identity.rank
    facts = directory.facts()
    directory.write_rank(RankProcess(rank, os.getpid(), socket.gethostname(), identity.world_size))
    is_tied = _holds_lifeline(facts)
    _redirect(directory, identity, facts, is_tied)
    if is_tied:
        _watch_lifeline()
    ending = _ending_of(run)
    try:
        directory.write_ending(rank, ending)
        if ending.exit_code == EXIT_BAD_INPUT:
            _wait_for_the_others(directory, identity.local_world_size)
    except OSError as error:  # the directory is gone or full; the rank's log is all that is left
        print(f"rank {rank}: its end could not be written down ({error}): {ending.message}", file=sys.stderr)
    leave(ending.exit_code if ending.message else 0)


def defer_to_first_rank() -> None:
    """Wait, in any rank but the first of this machine, for the launcher to end this process.

    What the user gave is refused by every rank alike. The first one says so and ends, and the launcher then ends the
    others; a rank that is still there was the only one to refuse.
    """
    if is_worker() and os.environ["LOCAL_RANK"] != "0":
        time.sleep(SECONDS_TO_BE_ENDED)


def leave(exit_code: int) -> NoReturn:
    """End the process, with all output written.

    A worker ends without the interpreter's own way out. Threads of native libraries now and then abort that (DeepSpeed:
    one run in twenty), and the launcher would take it for a crash and end the other ranks.
    """
    if is_worker():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # nobody is left to read it
                stream.flush()
        logging.shutdown()
        os._exit(exit_code)
    sys.exit(exit_code)


def _ending_of(run: Callable[[], int]) -> Ending:
    try:
        return Ending(run())
    except UserError as error:
        return Ending(EXIT_BAD_INPUT, str(error), lost_peer=_names_lost_peer(error))
    except BaseException as error:
        if missing := missing_package(error):
            return Ending(EXIT_BAD_INPUT, missing)
        lines = f"{type(error).__name__}: {error}".splitlines()
        return Ending(1, lines[0].rstrip(), traceback.format_exc(), _names_lost_peer(error))


def _names_lost_peer(error: BaseException) -> bool:
    """Return whether an error, or its cause, only says that another rank is gone."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RuntimeError | ConnectionError) and _LOST_PEER.search(str(cause)):
            return True
        cause = cause.__cause__
    return False


def _holds_lifeline(facts: FrontDoorFacts) -> bool:
    """Return whether this worker's front door is on this machine; over ssh the launcher watches the workers."""
    try:
        here = os.fstat(0)
    except OSError:  # no stdin at all
        return False
    return (here.st_dev, here.st_ino) == facts.lifeline


def _redirect(directory: LaunchDirectory, identity: RankIdentity, facts: FrontDoorFacts, is_tied: bool) -> None:
    """Show what Python prints in the first rank, and write all other output to the rank's log.

    The first is rank 0, and on a machine with a front door of its own the first there.
    """
    log = os.open(directory.rank_log(identity.rank), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    faulthandler.enable()  # to the log
    if not (identity.rank == 0 or (is_tied and identity.local_rank == 0)):
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
        return
    sys.stdout = relay_writer(directory.shown("out"), facts.encoding, 1)
    sys.stderr = sys.stdout if facts.joined else relay_writer(directory.shown("err"), facts.encoding, 2)
    stand_in_for(facts.terminal if is_tied else None)


def _watch_lifeline() -> None:
    """Stop in order, as on SIGTERM, when the front door is gone; it may have been killed without a chance to say so."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SECONDS_WITHOUT_FRONT_DOOR)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def _wait_for_the_others(directory: LaunchDirectory, here: int) -> None:
    until = time.monotonic() + SECONDS_FOR_THE_OTHERS
    while len(directory.endings()) < here and time.monotonic() < until:
        time.sleep(0.05)
