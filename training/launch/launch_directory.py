"""The directory in which the front door and the workers of one launch exchange files. No torch.

    config.yaml       the resolved config: everything that the workers get
    launch.json       facts about the front door for the workers (`FrontDoorFacts`)
    launcher.log      output of the launcher (torchrun)
    shown.out .err    output of the first rank (`output_relay`), which the front door passes on to its terminal
    rank_N.log        all other output of rank N: C++ libraries, child processes, everything that other ranks print
    rank_N.json       rank N has started (`RankProcess`)
    rank_N.end.json   how rank N ended (`Ending`); a rank that has started, is gone and left none was killed

The directory is deleted after the launch unless a crash makes its logs worth reading. The front door holds its `.lock`
meanwhile: the directory of one that was killed is deleted by the next launch, once no worker of it lives.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.checkpoints.run_lock import RunLock, owner_of
from training.errors import UserError
from training.settings.tree import TrainingConfig
from training.storage.atomic import write_atomically
from training.storage.json_files import read_as

_PREFIX = "apt-launch-"


@dataclass(frozen=True)
class FrontDoorFacts:
    """The front door, as its workers see it."""

    lifeline: tuple[int, int]
    """Device and inode of the pipe at every worker's stdin. The front door alone holds its other end, so it reads as
    ended as soon as the front door is gone, however it went."""
    terminal: str | None
    """Path of the terminal at the front door's stderr; None: there is none."""
    encoding: str
    """Encoding of what the first rank prints."""
    joined: bool
    """Its stdout and stderr lead to the same place, so both go into `shown.out` and keep their order."""


@dataclass(frozen=True)
class RankProcess:
    """A worker that has started."""

    rank: int
    pid: int
    host: str
    world_size: int


@dataclass(frozen=True)
class Ending:
    """How a rank ended."""

    exit_code: int
    message: str = ""
    """The error in one line; empty: it ended in order."""
    traceback: str = ""
    """Only of a crash."""
    lost_peer: bool = False
    """The error only says that another rank is gone."""
    time: float = field(default_factory=time.time)
    """Unix seconds."""


@dataclass(frozen=True)
class _RankEnding:
    rank: int
    ending: Ending


class LaunchDirectory:
    """The files of one launch.

    Args:
        path: an existing directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.launcher_log = path / "launcher.log"
        self._facts = path / "launch.json"
        self._lock: RunLock | None = None

    @classmethod
    def create(cls, parent: str | None = None) -> LaunchDirectory:
        """Make a new one that only this user can read, in `parent`; None: among the temporary files.

        Raises:
            UserError: it cannot be made.
        """
        try:
            if parent is not None:
                Path(parent).mkdir(parents=True, exist_ok=True)
            _delete_abandoned(Path(parent or tempfile.gettempdir()))
            made = cls(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)))
            with contextlib.suppress(OSError):  # a disk without locks: then nobody can tell when it is abandoned
                made._lock = RunLock.take(made.path)
            return made
        except OSError as error:
            where = parent or tempfile.gettempdir()
            raise UserError(f"{where}: the directory of the launch cannot be made there ({error.strerror})") from error

    def delete(self) -> None:
        """Delete the directory, whatever is still in it."""
        self.keep()
        shutil.rmtree(self.path, ignore_errors=True)

    def keep(self) -> None:
        """Leave the directory to the user: no later launch deletes it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def rank_log(self, rank: int) -> Path:
        """Return the path of the log of a rank's output that is not shown."""
        return self.path / f"rank_{rank}.log"

    def shown(self, stream: str) -> Path:
        """Return the path of the output that the front door passes on to its `out` or `err`."""
        return self.path / f"shown.{stream}"

    def write_config(self, config: TrainingConfig) -> None:
        """Write down the settings that the workers read, before the launcher starts."""
        write_atomically(self.config, config.to_yaml().encode(), durable=False)

    def write_facts(self, facts: FrontDoorFacts) -> None:
        """Write down the facts about the front door, before the launcher starts."""
        self._write(self._facts, asdict(facts))

    def facts(self) -> FrontDoorFacts:
        """Read the facts that `write_facts` wrote."""
        return read_as(self._facts, FrontDoorFacts)

    def write_rank(self, process: RankProcess) -> None:
        """Write down that a worker has started: its first act."""
        self._write(self.path / f"rank_{process.rank}.json", asdict(process))

    def ranks(self) -> dict[int, RankProcess]:
        """Return the workers that have started, by rank."""
        found = [read_as(path, RankProcess) for path in self.path.glob("rank_*[0-9].json")]
        return {process.rank: process for process in sorted(found, key=lambda process: process.rank)}

    def write_ending(self, rank: int, ending: Ending) -> None:
        """Write down how a worker ended: its last act."""
        self._write(self.path / f"rank_{rank}.end.json", asdict(_RankEnding(rank, ending)))

    def endings(self) -> dict[int, Ending]:
        """Return the ends of the ranks that have ended, by rank."""
        found = [read_as(path, _RankEnding) for path in self.path.glob("rank_*.end.json")]
        return {end.rank: end.ending for end in sorted(found, key=lambda end: end.rank)}

    def _write(self, path: Path, values: dict[str, Any]) -> None:
        write_atomically(
            path, json.dumps(values, ensure_ascii=False).encode("utf-8", "backslashreplace"), durable=False
        )


def is_alive(process: RankProcess) -> bool:
    """Return whether a worker of this machine still runs."""
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _delete_abandoned(parent: Path) -> None:
    """Delete the directories of front doors of this machine that were killed, unless a worker still writes into one."""
    here = socket.gethostname()
    for path in parent.glob(f"{_PREFIX}*"):
        owner = owner_of(path)
        if owner is None or owner.alive is not False:
            continue  # kept for its logs, at work, another computer's or another user's
        try:
            ranks = LaunchDirectory(path).ranks().values()
        except (OSError, ValueError, TypeError):
            ranks = {}.values()
        if all(process.host == here and not is_alive(process) for process in ranks):
            shutil.rmtree(path, ignore_errors=True)
