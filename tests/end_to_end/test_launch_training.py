"""Real training in two processes: finished, refused, stopped, killed, on two machines. No process is ever left."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.launched import ROOT, Launched, happens, without_directory
from training.record.reporter import read_events

if TYPE_CHECKING:
    from tests.conftest import FrontDoor, Outcome, TinyDataset

pytestmark = pytest.mark.slow

TWO = ("--num-processes", "2")
FOUR_SHARE_IT = ("--batch-size", "2", "--global-batch-size", "8")
ENDLESS = ("--epochs", "100000", "--report-batches", "1")
Starts = Callable[..., Launched]


class Host(NamedTuple):
    """A machine: what is put before a command to run it there, and variables that it needs."""

    prefix: list[str]
    environment: dict[str, str]


@pytest.fixture
def starts(tmp_path: Path, tiny_dataset: TinyDataset, tiny_flags: list[str]) -> Iterator[Starts]:
    """`starts("--epochs", "1")`: `train.py` on tiny data into `tmp_path/run`. Whatever happens, no process stays."""
    data, begun = tiny_dataset(), []

    def start(*words: str, host: Host | None = None, directory: str = ".") -> Launched:
        prefix, environment = host or Host([], {})
        (tmp_path / directory).mkdir(exist_ok=True)
        command: list[str | Path] = [*prefix, sys.executable, ROOT / "train.py", "--datasets", data, "--run-dir", "run"]
        begun.append(Launched([*command, *tiny_flags, *words], tmp_path / directory, environment))
        return begun[-1]

    yield start
    for launched in begun:
        launched.kill()


@pytest.fixture
def alone(
    tmp_path: Path,
    tiny_dataset: TinyDataset,
    tiny_flags: list[str],
    front_door: FrontDoor,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Outcome]:
    """`alone("--epochs", "1")`: the same run in one process, which is this one."""
    data = tiny_dataset()

    def train(*words: str) -> Outcome:
        monkeypatch.chdir(tmp_path)
        return front_door(["--datasets", data, "--run-dir", "run", *tiny_flags, *words])

    return train


def losses(run: Path) -> list[float]:
    """The loss of each update in the record of a run."""
    log = run / "progress.jsonl"
    return [event["loss"] for event in read_events(log) if event["event"] == "step"] if log.exists() else []


def steps_done(run: Path) -> int:
    """How far the record of a run goes that was never thrown back to a checkpoint before its last step."""
    return len(losses(run))


def trains(run: Path, steps: int = 3) -> bool:
    """Whether a run comes so far."""
    return happens(lambda: steps_done(run) >= steps)


# -- to the end ----------------------------------------------------------------------------------------------------


def test_two_processes_leave_what_one_leaves(starts: Starts, tmp_path: Path) -> None:
    for library in ("random", "torch", "numpy"):  # a user's own files, in the directory of the launch
        (tmp_path / f"{library}.py").write_text("raise ImportError('not the library')", encoding="utf-8")
    launched = starts(*TWO, "--epochs", "2", "--save-interval", "1")
    assert launched.end() == 0, launched.stderr
    assert "4 steps, 2 ranks sharing 8 samples per update\n" in launched.stdout
    assert "finished at step 4" in launched.stdout
    assert launched.stderr == ""
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *("checkpoint_epoch_1", "checkpoint_epoch_2", "final_model.pt", "final_model"),
        *("experiment_report.json", "progress.jsonl", "config.yaml", "snapshots"),
    }
    assert launched.left() == []
    assert launched.kept() == []


@pytest.mark.parametrize(
    "words", [("--vocab-size", "3"), ("--resume", "nowhere"), ("--dataset", "missing.json")], ids=lambda w: w[0]
)
def test_what_is_refused_reads_as_from_one_process(
    words: tuple[str, ...],
    starts: Starts,
    alone: Callable[..., Outcome],
) -> None:
    told = alone(*words)
    assert told.exit_code == 2
    shared = starts(*TWO, *words)
    assert (shared.end(), shared.stderr) == (2, told.stderr)
    assert shared.left() == []
    assert shared.kept() == []


def test_a_run_directory_that_is_taken_is_refused_by_rank_0_for_all(
    starts: Starts, alone: Callable[..., Outcome]
) -> None:
    assert alone("--epochs", "1").exit_code == 0
    launched = starts(*TWO, "--epochs", "1")
    assert launched.end() == 2
    assert launched.stderr.startswith("error: --run-dir run: it holds a run already")
    assert launched.stderr.count("\n") == 1
    assert launched.left() == []


def test_a_user_may_call_torchrun_himself(tmp_path: Path, tiny_dataset: TinyDataset, tiny_flags: list[str]) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    words: list[str | Path] = ["--datasets", tiny_dataset(), "--run-dir", "run", "--epochs", "1", *TWO]
    launched = Launched([*torchrun, "--local-addr", "127.0.0.1", ROOT / "train.py", *words, *tiny_flags], tmp_path)
    assert launched.end() == 0, launched.stderr
    assert launched.stdout.count("finished at step 2") == 1
    assert launched.left() == []


# -- cut short -----------------------------------------------------------------------------------------------------


def test_a_stop_saves_and_the_run_goes_on_from_there(starts: Starts, tmp_path: Path) -> None:
    reached = 0
    for number, exit_code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        launched = starts(*TWO, *ENDLESS, "--resume")
        assert trains(tmp_path / "run", reached + 3)
        launched.send(number)
        assert launched.end() == exit_code
        assert reached == 0 or f"at step {reached} of" in launched.stdout
        assert re.search(r"^go on with: \S+ \S*train\.py --resume run$", launched.stdout, re.MULTILINE)
        assert launched.stderr == ""
        assert launched.left() == []
        assert launched.kept() == []
        reached = steps_done(tmp_path / "run")
    resumed = starts(*TWO, "--resume", "--epochs", str(reached // 2 + 2))
    assert resumed.end() == 0, resumed.stderr
    assert f"at step {reached} of" in resumed.stdout


def test_the_death_of_one_rank_ends_the_run_within_seconds(starts: Starts, tmp_path: Path) -> None:
    launched = starts(*TWO, *ENDLESS)
    assert trains(tmp_path / "run")
    (rank_1,) = launched.temporary.glob("apt-launch-*/rank_1.json")
    os.kill(json.loads(rank_1.read_text())["pid"], signal.SIGKILL)
    began = time.monotonic()
    assert launched.end() == 137
    assert time.monotonic() - began < 30
    assert without_directory(launched.stderr) == (
        "error: rank 1 was killed by SIGKILL (out of memory?); --resume goes on from the last checkpoint; "
        "the logs are kept in DIR\n"
    )
    assert launched.left() == []


def test_a_front_door_that_is_killed_leaves_a_checkpoint_and_no_process(starts: Starts, tmp_path: Path) -> None:
    launched = starts(*TWO, *ENDLESS)
    assert trains(tmp_path / "run")
    launched.send(signal.SIGKILL)
    assert launched.is_gone_within(60)
    reached = steps_done(tmp_path / "run")
    assert reached
    assert (tmp_path / "run" / f"checkpoint_step_{reached}").is_dir() or reached % 2 == 0


# -- two machines --------------------------------------------------------------------------------------------------


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[tuple[str, list[Host]]]:
    """An endpoint, and two network namespaces that a cable joins; where those cannot be made, this machine twice."""
    mark = uuid.uuid4().hex[:6]
    names = [f"apt-{mark}-{number}" for number in (1, 2)]
    cables = [f"v{mark}{number}" for number in (1, 2)]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", cables[0], "netns", names[0], "type", "veth", "peer", cables[1], "netns", names[1])
        for number, (name, cable) in enumerate(zip(names, cables, strict=True), start=1):
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "up")
            ip("-n", name, "link", "set", "lo", "up")
    except (OSError, subprocess.CalledProcessError):  # no `ip`, or not allowed to use it so
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
        made = [Host([], {}), Host([], {})]
    else:
        endpoint = "10.77.0.1:29500"
        made = [
            Host(["ip", "netns", "exec", name], {"GLOO_SOCKET_IFNAME": cable})
            for name, cable in zip(names, cables, strict=True)
        ]
    yield endpoint, made
    if shutil.which("ip"):
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.fixture
def on_both(hosts: tuple[str, list[Host]], starts: Starts) -> Callable[..., list[Launched]]:
    """`on_both("--epochs", "1")`: the same command on two machines, four ranks in all; each has its own directory."""
    endpoint, made = hosts

    def start(*words: str) -> list[Launched]:
        where = ("--nnodes", "2", "--rdzv-endpoint", endpoint, *FOUR_SHARE_IT)
        return [starts(*TWO, *where, *words, host=host, directory=str(n)) for n, host in enumerate(made)]

    return start


def test_two_machines_train_the_run_that_one_process_trains(
    on_both: Callable[..., list[Launched]], alone: Callable[..., Outcome], tmp_path: Path
) -> None:
    launched = on_both("--epochs", "3")
    assert [one.end() for one in launched] == [0, 0], [one.stderr for one in launched]
    mains = [number for number in (0, 1) if (tmp_path / str(number) / "run").exists()]
    assert len(mains) == 1, "rank 0's machine alone holds the run"
    main, other = launched[mains[0]], launched[1 - mains[0]]
    assert "4 ranks sharing 8 samples per update" in main.stdout
    assert "finished at step 6" in main.stdout
    assert other.stdout == "ranks 2 to 3 of 4 are on this machine; rank 0's reports the run\n"
    assert [one.left() for one in launched] == [[], []]
    assert alone("--epochs", "3", *FOUR_SHARE_IT).exit_code == 0
    assert losses(tmp_path / str(mains[0]) / "run") == pytest.approx(losses(tmp_path / "run"), rel=1e-5)


def test_two_machines_stop_together(on_both: Callable[..., list[Launched]], tmp_path: Path) -> None:
    launched = on_both(*ENDLESS)
    assert happens(lambda: any(steps_done(tmp_path / str(number) / "run") > 2 for number in (0, 1)))
    launched[1].send(signal.SIGINT)
    assert launched[1].end() == 130
    assert launched[0].end() == 143, "it was stopped by the other machine"
    assert [one.stderr for one in launched] == ["", ""]
    assert [one.left() for one in launched] == [[], []]
