"""Outcome of a launch: from the ends of its ranks to one exit code and one line. Pure; no torch."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from training.errors import EXIT_BAD_INPUT
from training.launch.launch_directory import Ending, RankProcess
from training.machine.stop_signals import EXIT_CODES_OF_A_STOP

_TORCHRUN_DEATH = re.compile(r"exitcode\s*: (-?\d+)\)?\s+(?:local_rank: \d+ )?\(pid: (\d+)\)")
_DEEPSPEED_DEATH = re.compile(r"exits with return code = (-?\d+)")
_LOG_PREFIX = re.compile(r"^(\[[^\]]*\]:?\s*|[EWI]\d{4} [^\]]*\]\s*)+")
_RESUME = "; --resume goes on from the last checkpoint"
_EXCEPTION = re.compile(r"^[\w.]*(Error|Exception|Timeout)\b: ?.+")


@dataclass(frozen=True)
class Verdict:
    """How the front door ends."""

    exit_code: int
    message: str = ""
    """One line for the user; empty: the first rank has said everything."""
    traceback: str = ""
    """Of the rank whose error it is, if that is a crash."""

    @property
    def is_error(self) -> bool:
        """Say whether the message is an error, and not just the news of a stop that was asked for."""
        return bool(self.message) and self.exit_code not in EXIT_CODES_OF_A_STOP

    @property
    def is_crash(self) -> bool:
        """Say whether the logs are worth keeping."""
        return self.is_error and self.exit_code != EXIT_BAD_INPUT


def judge(
    endings: Mapping[int, Ending],
    deaths: Mapping[int, int | None],
    *,
    launcher: str,
    launcher_code: int,
    launcher_log: str = "",
    asked: signal.Signals | None = None,
) -> Verdict:
    """Return the verdict on a launch that is over.

    Args:
        endings: ends of the ranks that wrote theirs down.
        deaths: ranks that were gone without a message, before anything was killed on purpose -> their exit code
            (negative: a signal's number) or None: not known.
        launcher: its name, for messages.
        launcher_code: its exit code; negative: a signal's number.
        launcher_log: its output.
        asked: the signal by which the user asked for a stop.
    """
    failures = sorted(
        ((rank, ending) for rank, ending in endings.items() if ending.message), key=lambda failure: failure[1].time
    )
    causes = [(rank, ending) for rank, ending in failures if not ending.lost_peer]
    first = endings.get(min({*endings, *deaths}, default=-1))  # of this machine's ranks
    in_order = first is not None and not first.message
    if first is not None and in_order and (first.exit_code == 0 or asked):
        return Verdict(128 + asked if asked and first.exit_code else 0)
    if causes:
        return _of_failure(*causes[0], endings)
    for rank, code in sorted(deaths.items()):
        if code != -signal.SIGTERM and not (asked and code is None):
            return _of_death(rank, code)
    if first is not None and in_order:  # it stopped though this front door did not ask
        if launcher_code < 0:
            return Verdict(1, f"{launcher} was killed by {_name(-launcher_code)}; the ranks saved and stopped{_RESUME}")
        return Verdict(first.exit_code)
    if asked is not None:
        return Verdict(128 + asked, f"stopped at once{_RESUME}")
    if failures:
        rank, ending = failures[0]
        return Verdict(
            1, f"rank {rank} lost its connection to another rank, whose machine may show why: {ending.message}"
        )
    if deaths:  # all by SIGTERM: somebody else's
        return Verdict(128 + signal.SIGTERM, f"stopped at once{_RESUME}")
    if launcher_code < 0:
        return Verdict(128 - launcher_code, f"{launcher} was killed by {_name(-launcher_code)} before any rank started")
    if launcher_code > 0:
        return _of_failed_start(launcher, launcher_code, launcher_log)
    return Verdict(0)


def _of_failure(rank: int, ending: Ending, endings: Mapping[int, Ending]) -> Verdict:
    others = [other for number, other in endings.items() if number != rank]
    # What the user gave is refused by all ranks alike, and then reads as if one process had refused it. A rank that got
    # further than this one shows that the trouble is this rank's own.
    is_its_own = rank != 0 and any(other.message != ending.message for other in others)
    if ending.exit_code == EXIT_BAD_INPUT and not is_its_own:
        return Verdict(EXIT_BAD_INPUT, ending.message)
    return Verdict(ending.exit_code, f"rank {rank}: {ending.message}", ending.traceback)


def _of_death(rank: int, code: int | None) -> Verdict:
    if code is None:
        return Verdict(1, f"rank {rank} was killed or ended itself without a word{_RESUME}")
    if code >= 0:
        return Verdict(code or 1, f"rank {rank} ended with exit code {code} and left no error")
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return Verdict(128 - code, f"rank {rank} was killed by {_name(-code)}{hint}{_RESUME}")


def _of_failed_start(launcher: str, code: int, log: str) -> Verdict:
    said = [_LOG_PREFIX.sub("", line).strip() for line in log.splitlines()]
    errors = [line for line in said if _EXCEPTION.match(line)] or [line for line in said if line] or [""]
    last = errors[-1][:300]
    if "Rendezvous" in last:
        return Verdict(
            EXIT_BAD_INPUT,
            "the machines did not meet: start the same command on all --nnodes machines, and check that each reaches "
            f"--rdzv-endpoint ({last})",
        )
    return Verdict(code, f"{launcher} could not start the ranks: {last or f'exit code {code}'}")


def _name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def exit_codes(log: str, gone: Mapping[int, RankProcess]) -> dict[int, int | None]:
    """Find in a launcher's log the exit codes of ranks that are gone without a message; None: it does not say.

    Args:
        log: torchrun's or deepspeed's.
        gone: rank -> its process.
    """
    by_pid = {int(pid): int(code) for code, pid in _TORCHRUN_DEATH.findall(log)}
    codes = [int(code) for code in _DEEPSPEED_DEATH.findall(log)]
    only = codes[-1] if codes and len(gone) == 1 else None  # deepspeed names no process
    return {rank: by_pid.get(process.pid, only) for rank, process in gone.items()}
