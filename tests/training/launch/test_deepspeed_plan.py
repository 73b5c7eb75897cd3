"""The promises of a launch hold under DeepSpeed's launcher too, which ends ranks in other ways than torchrun."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.launched import Launched, happens, launch_scripts, without_directory

pytestmark = pytest.mark.slow

DEEPSPEED = (
    '[sys.executable, "-m", "deepspeed.launcher.runner", "--num_accelerators", "2", "--master_port", "FREE_PORT", '
    '"--no_local_rank"]'
)


@pytest.fixture
def launches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Launched]]:
    """`launches(body)`: two workers do `body`. Whatever the test finds, no process stays."""
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")  # the launcher's import of DeepSpeed would load torch's compiler
    begun: list[Launched] = []

    def start(body: str) -> Launched:
        begun.append(launch_scripts(tmp_path, body, DEEPSPEED))
        return begun[-1]

    yield start
    for launched in begun:
        launched.kill()


def both(tmp_path: Path, what: str) -> bool:
    return happens(lambda: all((tmp_path / f"{what}_{rank}").exists() for rank in (0, 1)))


def test_a_stop_reaches_every_rank_and_each_leaves_in_order(
    launches: Callable[[str], Launched], tmp_path: Path
) -> None:
    launched = launches("print(rank)\nreturn wait()")
    assert both(tmp_path, "started")
    launched.send(signal.SIGINT)
    assert launched.end() == 130
    assert both(tmp_path, "saved")
    assert (launched.stdout, launched.stderr) == ("0\n", "")
    assert launched.left() == []
    assert launched.kept() == []


def test_what_all_ranks_refuse_is_one_line(launches: Callable[[str], Launched]) -> None:
    launched = launches("raise UserError('--zero-stage 5: no such stage')")
    assert (launched.end(), launched.stderr) == (2, "error: --zero-stage 5: no such stage\n")
    assert launched.left() == []


def test_a_rank_that_is_killed_is_named(launches: Callable[[str], Launched]) -> None:
    launched = launches(
        "if rank == 1: after('started', 0); os.kill(os.getpid(), signal.SIGKILL)\nwait()\n"
        "raise RuntimeError('[gloo] Connection closed by peer [127.0.0.1]:4711')"
    )
    assert launched.end() == 137
    assert without_directory(launched.stderr) == (
        "error: rank 1 was killed by SIGKILL (out of memory?); --resume goes on from the last checkpoint; "
        "the logs are kept in DIR\n"
    )
    assert launched.left() == []


def test_ranks_whose_front_door_or_launcher_is_killed_save_and_stop(
    launches: Callable[[str], Launched], tmp_path: Path
) -> None:
    launched = launches("return wait()")
    assert both(tmp_path, "started")
    launched.send(signal.SIGKILL)
    assert both(tmp_path, "saved")
    assert launched.is_gone_within(30)
    for mark in (*tmp_path.glob("started_*"), *tmp_path.glob("saved_*")):
        mark.unlink()

    launched = launches("return wait()")
    assert both(tmp_path, "started")
    os.kill(launched.pid_of_launcher(), signal.SIGKILL)
    assert launched.end(60) == 1
    assert both(tmp_path, "saved")
    assert launched.stderr.startswith("error: deepspeed was killed by SIGKILL; the ranks saved and stopped")
    assert launched.left() == []
