"""Execution of a `LaunchPlan`: starts the workers, shows their output, stops them, reports how it ended.

    write the resolved config into a directory of this launch
    start the launcher (torchrun, deepspeed), which starts the workers (`training.launch.worker`)
    until it ends:
        pass on what the first rank prints
        first Ctrl-C or SIGTERM: SIGTERM to every worker; they agree, save and leave
        a rank failed or is gone: the others get a few seconds, then all are killed
    make sure that no process is left
    one exit code, one line

A pipe at every worker's stdin, the lifeline, ties the processes together. Only the front door holds the writing end: if
it dies in any way, workers read the end of the file and stop in order. And as long as anybody of the launch lives, the
pipe has readers; so the front door knows that nobody is left, also of processes that it never heard of.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from training.backends.protocol import FREE_PORT, IS_ENDPOINT, LAUNCH_DIR, LOCAL_ADDRESS, LaunchPlan, RunRequest
from training.errors import ConfigError, UserError
from training.language.messages import Message, say
from training.launch.launch_directory import FrontDoorFacts, LaunchDirectory, RankProcess, is_alive
from training.launch.outcome import Verdict, exit_codes, judge
from training.launch.output_relay import RelayReader
from training.launch.torchrun import parse_endpoint
from training.machine.hardware import address_towards, count_gpus, free_port, opens_meeting
from training.machine.stop_signals import StopSignals
from training.settings.tree import LaunchConfig, TrainingConfig

SECONDS_BETWEEN_COPIES = 0.05
SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_AFTER_A_FAILURE = 5.0
"""Time for the other ranks to write down their own ends once one has failed; a hanging collective never returns."""
SECONDS_TO_STOP_ALONE = 60.0
"""Time for the ranks to save and stop when the launcher is gone and nobody ends them any more."""
SECONDS_TO_DIE = 10.0
SECONDS_FOR_THE_LAUNCHER = 2.0
"""Time for the launcher to write in its log how the ranks ended, once all are dead."""


def full_command(plan: LaunchPlan, request: RunRequest) -> tuple[str, ...]:
    """Return the plan's command with the workers' arguments; `LAUNCH_DIR` still stands in it."""
    words = [*plan.command, "--config", f"{LAUNCH_DIR}/config.yaml", "--launch-dir", LAUNCH_DIR]
    if request.resume:
        words += ["--resume", *([str(request.resume_from)] if request.resume_from else [])]
    if request.start_from is not None:
        words += ["--start-from", str(request.start_from)]
    if request.overwrite:
        words.append("--overwrite")
    if request.stop_after is not None:
        words += ["--stop-after", str(request.stop_after)]
    return tuple(words)


def environment_of(plan: LaunchPlan) -> dict[str, str]:
    """Return the variables that a plan sets where the user has not."""
    # `python -m`, by which launchers start, would import a user's own random.py or torch.py in place of the library.
    return {**plan.environment, "PYTHONSAFEPATH": "1"}


def describe(plan: LaunchPlan, request: RunRequest) -> str:
    """Return the plan as a shell command, for `--dry-run`."""
    variables = "".join(f"{key}={shlex.quote(value)} " for key, value in environment_of(plan).items())
    return variables + shlex.join(full_command(plan, request))


def launch(plan: LaunchPlan, request: RunRequest) -> int:
    """Start the plan's processes, stay with them to their end and return the exit code of the whole.

    Raises:
        UserError: this machine cannot carry out the plan; nothing was started.
        KeyboardInterrupt: a second Ctrl-C; all processes were killed.
    """
    check_gpus(plan, request.config.launch)
    command = _on_this_machine(full_command(plan, request), plan.endpoint)
    directory = LaunchDirectory.create(plan.directory)
    verdict = None
    try:
        with StopSignals() as signals, Launch(command, plan, request.config, directory) as launched:
            verdict = launched.watch(signals)
        if verdict.message:
            _tell(verdict, directory)
        return verdict.exit_code
    finally:
        if verdict is None or not verdict.is_crash:
            directory.delete()
        else:
            directory.keep()


def _tell(verdict: Verdict, directory: LaunchDirectory) -> None:
    if verdict.traceback:
        print(verdict.traceback.rstrip(), file=sys.stderr)
    kept = f"; the logs are kept in {directory.path}" if verdict.is_crash else ""
    print(f"{'error: ' if verdict.is_error else ''}{verdict.message}{kept}", file=sys.stderr)


def check_gpus(plan: LaunchPlan, settings: LaunchConfig) -> None:
    """Check that this machine has the GPUs that a plan needs.

    Raises:
        ConfigError: fewer than ranks that need one.
    """
    asked = f"num_gpus={settings.num_gpus}" if settings.num_gpus else f"num_processes={plan.processes}"
    gpus = count_gpus() if plan.device in ("auto", "cuda") else None
    if gpus is not None and gpus < plan.processes and (plan.device == "cuda" or gpus > 0):
        has = f"this machine has {gpus} GPU{'' if gpus == 1 else 's'}"
        on_cpu = f"--num-processes {plan.processes} {'--device cpu ' if gpus else ''}for ranks on the CPU"
        raise ConfigError(f"{asked}: {has}; use {f'--num-gpus {gpus} or ' if gpus else ''}{on_cpu}")


def _on_this_machine(command: Sequence[str], endpoint: str | None) -> list[str]:
    """Return the command with the words filled in that depend on this machine."""
    words = [str(free_port()) if word == FREE_PORT else word for word in command]
    if endpoint is None:
        return words
    place = parse_endpoint(endpoint)
    opens = str(opens_meeting(*place)).lower()
    address = address_towards(*place)
    return [address if word == LOCAL_ADDRESS else word.replace(f"={IS_ENDPOINT}", f"={opens}") for word in words]


class Launch:
    """One launcher and its workers. Leaving the context leaves no process behind.

    Args:
        command: of the launcher, with nothing but `LAUNCH_DIR` to be filled in.
        plan: source of the command.
        config: settings that the workers read.
        directory: empty.

    Raises:
        UserError: the launcher cannot be started.
    """

    def __init__(
        self, command: Sequence[str], plan: LaunchPlan, config: TrainingConfig, directory: LaunchDirectory
    ) -> None:
        self._directory = directory
        words = [_in_directory(word, directory.path) for word in command]
        modules = {"torch.distributed.run": "torchrun", "deepspeed.launcher.runner": "deepspeed"}
        self._name = next((name for module, name in modules.items() if module in command), Path(words[0]).name)
        self._processes = plan.processes
        directory.write_config(config)
        stdin, self._lifeline = os.pipe()
        joined = _is_same_place(sys.stdout, sys.stderr)
        try:
            directory.write_facts(_facts(stdin, joined))
            with directory.launcher_log.open("wb") as log:
                self._launcher = subprocess.Popen(
                    words,
                    stdin=stdin,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**environment_of(plan), **os.environ},
                    start_new_session=True,  # a Ctrl-C at the terminal reaches the front door alone
                )
        except OSError as error:
            os.close(self._lifeline)
            raise UserError(f"{words[0]}: the launcher cannot be started ({error.strerror})") from error
        finally:
            os.close(stdin)
        streams = {"out": sys.stdout} if joined else {"out": sys.stdout, "err": sys.stderr}
        self._shown = [
            RelayReader(directory.shown(name), _encoding(sys.stdout), stream) for name, stream in streams.items()
        ]
        self._asked: set[int] = set()  # ranks that have got SIGTERM
        self._deaths: dict[int, RankProcess] = {}  # gone without a word, before anything was killed
        self._failed_at: float | None = None
        self._is_introduced = False
        self._next_look = 0.0

    def __enter__(self) -> Launch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill_all()
        os.close(self._lifeline)
        for shown in self._shown:
            shown.close()

    def watch(self, signals: StopSignals) -> Verdict:
        """Stay until the launch is over, and judge it."""
        while self._launcher.poll() is None:
            self._look(signals)
            if signals.received is not None and not self._directory.ranks():
                break  # nobody has begun: nothing to save
            if self._has_waited_after_a_failure():
                break
            time.sleep(SECONDS_BETWEEN_COPIES)
        else:
            self._let_orphans_stop(signals)
        launcher_code = self._launcher.poll()
        self._next_look = 0.0
        self._look(signals)  # for what happened since the last look
        self._kill_all()
        self._copy()
        log = self._directory.launcher_log.read_text(encoding="utf-8", errors="replace")
        endings = self._directory.endings()
        gone = {rank: process for rank, process in self._deaths.items() if rank not in endings}
        return judge(
            endings,
            exit_codes(log, gone),
            launcher=self._name,
            launcher_code=launcher_code or 0,
            launcher_log=log,
            asked=signals.received,
        )

    def _look(self, signals: StopSignals) -> None:
        """Show new output; now and then pass on a stop, and notice failures."""
        self._copy()
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS
        ranks = self._ranks_here()
        gone = [rank for rank, process in ranks.items() if not is_alive(process)]
        endings = self._directory.endings()  # after that: a rank writes down its end before it goes
        self._deaths |= {rank: ranks[rank] for rank in gone if rank not in endings}
        if self._failed_at is None and (self._deaths or any(ending.message for ending in endings.values())):
            self._failed_at = time.monotonic()
        if signals.received is not None:
            self._ask_to_stop(ranks)
        if len(ranks) >= self._processes and not self._is_introduced:
            self._introduce(ranks)

    def _introduce(self, ranks: dict[int, RankProcess]) -> None:
        """Name this machine's ranks if rank 0 is on another one: nothing else would show that it takes part."""
        self._is_introduced = True
        if 0 not in self._directory.ranks():
            world_size = next(iter(ranks.values())).world_size
            say(
                Message(
                    "ranks {first} to {last} of {all} are on this machine; rank 0's reports the run",
                    first=min(ranks),
                    last=max(ranks),
                    all=world_size,
                )
            )

    def _ranks_here(self) -> dict[int, RankProcess]:
        here = socket.gethostname()
        return {rank: process for rank, process in self._directory.ranks().items() if process.host == here}

    def _ask_to_stop(self, ranks: dict[int, RankProcess]) -> None:
        """Send SIGTERM to each worker that has not had it. Not to the launcher: it would end them with tracebacks."""
        for rank, process in ranks.items():
            if rank not in self._asked:
                self._asked.add(rank)
                _signal(process.pid, signal.SIGTERM)

    def _let_orphans_stop(self, signals: StopSignals) -> None:
        """Let the ranks save and stop that a launcher left behind when somebody killed it."""
        until = time.monotonic() + SECONDS_TO_STOP_ALONE
        while self._anyone_left() and time.monotonic() < until:
            self._look(signals)
            endings = self._directory.endings()
            running = {rank: process for rank, process in self._ranks_here().items() if rank not in endings}
            if not any(map(is_alive, running.values())) or self._has_waited_after_a_failure():
                return
            self._ask_to_stop(running)
            time.sleep(SECONDS_BETWEEN_COPIES)

    def _has_waited_after_a_failure(self) -> bool:
        return self._failed_at is not None and time.monotonic() - self._failed_at > SECONDS_AFTER_A_FAILURE

    def _anyone_left(self) -> bool:
        """Return whether any process of the launch lives: the lifeline still has a reader."""
        poll = select.poll()
        poll.register(self._lifeline, 0)  # errors are always reported
        return not poll.poll(0)

    def _kill_all(self) -> None:
        """End every process of the launch at once; the launcher last, which then logs how the ranks ended."""
        begun = time.monotonic()
        if self._anyone_left() and not self._directory.ranks():
            self._signal_launcher(
                signal.SIGTERM
            )  # it knows workers that have not come so far as to make themselves known
        while self._anyone_left() and time.monotonic() - begun < SECONDS_TO_DIE:
            for process in self._ranks_here().values():
                _signal(process.pid, signal.SIGKILL)
            if time.monotonic() - begun > SECONDS_FOR_THE_LAUNCHER:
                self._signal_launcher(signal.SIGKILL)
            time.sleep(SECONDS_BETWEEN_COPIES)
            self._launcher.poll()  # a dead child that nobody asks about stays a zombie
        self._launcher.wait()

    def _signal_launcher(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._launcher.pid, number)

    def _copy(self) -> None:
        for shown in self._shown:
            shown.copy()


def _in_directory(word: str, path: Path) -> str:
    first, slash, rest = word.partition("/")
    return f"{path}{slash}{rest}" if first == LAUNCH_DIR else word


def _facts(stdin: int, joined: bool) -> FrontDoorFacts:
    pipe = os.fstat(stdin)
    terminal = None
    with contextlib.suppress(OSError, ValueError):
        terminal = os.ttyname(sys.stderr.fileno())
    return FrontDoorFacts((pipe.st_dev, pipe.st_ino), terminal, _encoding(sys.stdout), joined)


def _encoding(stream: IO[str]) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _is_same_place(one: IO[str], other: IO[str]) -> bool:
    try:
        return os.path.sameopenfile(one.fileno(), other.fileno())
    except (OSError, ValueError):  # not files: a notebook, a test
        return one is other


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
