"""Several processes as a plan: what is asked for becomes a command, or one clear line before anything starts."""

from __future__ import annotations

import ctypes
import os
import pickle
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.launched import ROOT
from training.backends.protocol import IS_ENDPOINT, LAUNCH_DIR, LOCAL_ADDRESS, LaunchPlan
from training.errors import ConfigError
from training.launch import launcher as launch
from training.launch.torchrun import Device, check_ranks, parse_endpoint, torchrun_plan
from training.machine import hardware as machine
from training.settings.tree import LaunchConfig

if TYPE_CHECKING:
    from tests.conftest import FrontDoor


def planned(device: Device = "cpu", num_threads: int | None = None, **settings: Any) -> LaunchPlan:
    plan = torchrun_plan(LaunchConfig(**settings), device, num_threads)
    assert plan is not None
    return plan


def refusal(device: Device = "auto", **settings: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        check_ranks(LaunchConfig(**settings), device)
    return str(refused.value)


# -- the plan ------------------------------------------------------------------------------------------------------


def test_one_process_needs_no_launcher() -> None:
    for settings in ({}, {"num_processes": 1}, {"num_gpus": 1}, {"rdzv_endpoint": "a:1"}):
        assert torchrun_plan(LaunchConfig(**settings), "auto") is None


def test_processes_of_one_machine_meet_by_themselves() -> None:
    plan = planned(num_processes=3)
    assert plan.processes == 3
    assert plan.endpoint is None
    words = list(plan.command)
    assert words[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert words[words.index("--nproc-per-node") + 1] == "3"
    assert "--standalone" in words
    assert Path(words[-1]).is_file()
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_several_machines_meet_at_the_endpoint() -> None:
    plan = planned(num_gpus=2, nnodes=4, rdzv_endpoint="10.0.0.1:29500", rdzv_id="mine", device="auto")
    words = " ".join(plan.command)
    assert "--nproc-per-node 2 --nnodes 4 --rdzv-backend c10d --rdzv-endpoint 10.0.0.1:29500 --rdzv-id mine" in words
    assert f"--local-addr {LOCAL_ADDRESS} --rdzv-conf is_host={IS_ENDPOINT}" in words
    assert (plan.endpoint, plan.processes, plan.device) == ("10.0.0.1:29500", 2, "cuda")
    assert planned(nnodes=2, rdzv_endpoint="a:1").processes == 1


def test_ranks_share_the_cores_unless_told_otherwise() -> None:
    cores = machine.count_cores()
    assert planned(num_processes=2).environment == {"OMP_NUM_THREADS": str(max(1, cores // 2))}
    assert planned(num_processes=1024).environment == {"OMP_NUM_THREADS": "1"}
    assert planned(num_processes=2, num_threads=5).environment == {"OMP_NUM_THREADS": "5"}


def test_a_dry_run_shows_a_command_that_a_shell_would_take(front_door: FrontDoor, tmp_path: Path) -> None:
    run = tmp_path / "a run"
    run.mkdir()
    shown = front_door(["--num-processes", "2", "--device", "cpu", "--resume", run, "--dry-run"])
    assert (shown.exit_code, shown.stderr) == (0, "")
    words = shlex.split(shown.stdout.splitlines()[-1].removeprefix("# plan: "))
    assert words[0].startswith("OMP_NUM_THREADS=")
    assert Path(words[-7]).is_file()
    assert words[-6:] == ["--config", f"{LAUNCH_DIR}/config.yaml", "--launch-dir", LAUNCH_DIR, "--resume", str(run)]


# -- what does not go together -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10.0.0.1:29500", ("10.0.0.1", 29500)), ("node-1:1", ("node-1", 1)), ("[fd00::1]:65535", ("fd00::1", 65535))],
)
def test_an_endpoint_is_a_host_and_a_port(text: str, expected: tuple[str, int]) -> None:
    assert parse_endpoint(text) == expected


@pytest.mark.parametrize("text", ["", "host", ":1", "host:", "host:a", "fd00::1:29500", "host:１２", "host:-1"])
def test_an_endpoint_without_host_or_port_is_refused(text: str) -> None:
    told = refusal(nnodes=2, rdzv_endpoint=text)
    assert told == f"rdzv_endpoint={text!r}: should be HOST:PORT, such as 10.0.0.1:29500"


@given(st.from_regex(r"[a-z0-9.-]+", fullmatch=True) | st.ip_addresses(v=4).map(str), st.integers(1, 65535))
def test_every_host_and_port_is_read_back(host: str, port: int) -> None:
    assert parse_endpoint(f"{host}:{port}") == (host, port)


def test_a_port_that_cannot_be_is_refused() -> None:
    for text in ("host:0", "host:65536"):
        assert "a port is a number from 1 to 65535" in refusal(nnodes=2, rdzv_endpoint=text)


def test_gpus_on_a_cpu_are_refused_with_the_flag_that_was_meant() -> None:
    assert "contradict each other" in refusal("cpu", num_gpus=2)
    assert "--num-processes 2" in refusal("cpu", num_gpus=2)
    assert "device=mps has one GPU" in refusal("mps", num_processes=2)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--fp16", "--bf16"], "--fp16 and --bf16 contradict each other; give one precision"),
        (["--fp32", "--precision", "bf16"], "--fp32 and --precision bf16 contradict each other; give one precision"),
    ],
)
def test_two_precisions_are_refused(flags: list[str], words: str, front_door: FrontDoor) -> None:
    done = front_door([*flags, "--dry-run"])
    assert (done.exit_code, done.stderr) == (2, f"error: {words}\n")


@pytest.mark.parametrize("flags", [["--bf16"], ["--bf16", "--bf16"], ["--bf16", "--precision", "bf16"]])
def test_a_precision_has_a_short_form(flags: list[str], front_door: FrontDoor) -> None:
    assert "precision: bf16\n" in front_door([*flags, "--dry-run"]).stdout


def test_a_launch_directory_without_a_launcher_is_refused(front_door: FrontDoor, tmp_path: Path) -> None:
    done = front_door(["--launch-dir", tmp_path])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: --launch-dir is for the workers that the front door starts")


# -- the machine ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus", "device", "settings", "words"),
    [
        (0, "auto", {"num_gpus": 2}, "num_gpus=2: this machine has 0 GPUs; use --num-processes 2 for ranks on the CPU"),
        (
            *(1, "auto", {"num_gpus": 2}),
            "num_gpus=2: this machine has 1 GPU; use --num-gpus 1 or --num-processes 2 --device cpu for ranks on the "
            "CPU",
        ),
        (
            *(3, "auto", {"num_processes": 4}),
            "num_processes=4: this machine has 3 GPUs; use --num-gpus 3 or --num-processes 4 --device cpu for ranks on "
            "the CPU",
        ),
        (
            0,
            "cuda",
            {"num_processes": 2},
            "num_processes=2: this machine has 0 GPUs; use --num-processes 2 ",
        ),
        (0, "auto", {"num_processes": 2}, None),
        (2, "auto", {"num_gpus": 2}, None),
        (1, "cpu", {"num_processes": 2}, None),
        (None, "auto", {"num_gpus": 8}, None),
    ],
)
def test_more_ranks_than_gpus_are_refused_before_anything_starts(
    gpus: int | None,
    device: Device,
    settings: dict[str, int],
    words: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launch, "count_gpus", lambda: gpus)
    config = LaunchConfig(**settings)
    plan = torchrun_plan(config, device)
    assert plan is not None
    if words is None:
        launch.check_gpus(plan, config)
        return
    with pytest.raises(ConfigError) as refused:
        launch.check_gpus(plan, config)
    assert str(refused.value).startswith(words)


def test_gpus_are_counted_as_the_driver_counts_them() -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        assert machine.count_gpus() in (0, None), "no driver, no GPU; None: an AMD machine"
        return
    program = "from training.machine.hardware import count_gpus; print(count_gpus())"
    for visible in ("", "0"):
        asked = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "CUDA_VISIBLE_DEVICES": visible},
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(asked.stdout) == min(machine.count_gpus() or 0, len(visible))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A program that listens on a port of this machine and answers nobody."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        yield made


@pytest.mark.slow
def test_a_port_in_use_is_refused_before_anything_starts(
    listener: socket.socket, front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_SECONDS_TO_ANSWER", 4.0)
    port = listener.getsockname()[1]
    where = ["--nnodes", "2", "--rdzv-endpoint", f"127.0.0.1:{port}", "--device", "cpu"]
    done = front_door(["--num-processes", "1", *where])
    assert done.exit_code == 2
    assert done.stderr == (
        f"error: rdzv_endpoint=127.0.0.1:{port}: port {port} is in use by another program; choose another, the same on "
        "every machine\n"
    )


@pytest.mark.slow
def test_the_meeting_of_another_torchrun_is_no_port_in_use() -> None:
    program = (
        "import torch.distributed as d; s = d.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)\n"
        "print(s.port, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as store:
        assert store.stdout is not None
        port = int(store.stdout.readline())
        assert not machine.opens_meeting("127.0.0.1", port), "it is joined, not opened"
        store.communicate("\n")


def test_the_machine_that_the_endpoint_names_opens_the_meeting() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    assert machine.opens_meeting("127.0.0.1", free)
    assert not machine.opens_meeting("203.0.113.7", 29500)  # an address for documentation: nobody's


def test_a_host_without_an_address_is_refused() -> None:
    for ask in (machine.opens_meeting, machine.address_towards):
        with pytest.raises(ConfigError, match=r"rdzv_endpoint=no-such-host\.invalid:29500: the host name"):
            ask("no-such-host.invalid", 29500)


def test_the_address_towards_this_machine_is_its_own() -> None:
    assert machine.address_towards("127.0.0.1", 29500) == "127.0.0.1"


@pytest.mark.slow
@pytest.mark.parametrize("culprits", ["0 1 2", "2"])
def test_ranks_of_a_launcher_called_by_hand_refuse_once(culprits: str, tmp_path: Path) -> None:
    """All ranks that refuse the same input print one line; so does a rank that is the only one to refuse."""
    program = (
        f"import os, sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        f"if os.environ['RANK'] in {culprits.split()}:\n"
        "    from training.train import main\n"
        "    sys.exit(main(['--no-such-flag']))\n"
        "time.sleep(300)\n"
    )
    (tmp_path / "ranks.py").write_text(program, encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    done = subprocess.run(
        [*launcher, str(tmp_path / "ranks.py")], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode != 0
    assert done.stderr.count("error: unknown flag --no-such-flag") == 1, done.stderr
