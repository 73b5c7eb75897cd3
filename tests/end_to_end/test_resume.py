"""Kill a run anywhere, resume it with the same command plus --resume, and get the weights it would have had."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.warm_start import WarmProcess, WarmStart
from training.checkpoints.checkpoint import list_checkpoints
from training.checkpoints.finished_model import load_trained_model
from training.record.log import counted
from training.record.report import Report
from training.record.reporter import LOG_NAME, read_events

ROOT = Path(__file__).resolve().parents[2]

# Everything that has a state: dropout, two optimizers, the stabilizer, an average of the weights, accumulation,
# validation, warm restarts. An epoch has 18 updates of 3 batches each (the last one smaller), so few checkpoints fall
# on an epoch's end.
SETTINGS = {
    "d_model": 32, "num_layers": 2, "num_heads": 4, "d_ff": 64, "dropout": 0.1, "optimizer": "muon",
    "stabilizer": "dbc_dac", "dbc_rank": 8, "batch_size": 10, "gradient_accumulation_steps": 3, "epochs": 6,
    "restart_epochs": 2, "validation_split": 0.1, "save_interval": 2, "save_steps": 5, "keep_last": 3,
    "keep_best": True, "report_batches": 3, "answer_samples": 0, "learning_rate": 1e-3, "num_threads": 1,
    "ema_decay": 0.9, "device": "cpu",
}  # fmt: skip


IMPORTED = {
    "playground": ("training.train", "training.run"),
    # accelerate imports deepspeed and torch's compiler: seconds, in every process that trains.
    "huggingface": ("training.train", "training.loop.transformers_loop", "torch._dynamo", "deepspeed"),
}
"""What a run of a backend imports, and a forked one need not import anew."""


def arguments(backend: str, run_dir: Path, *more: str) -> list[str]:
    flags = ["--backend", backend]
    for name, value in SETTINGS.items():
        dashed = f"--{name.replace('_', '-')}"
        flags += [dashed] if value is True else [dashed, str(value)]
    return [*flags, "--run-dir", str(run_dir), *more]


@dataclass(frozen=True)
class Place:
    """Where the runs of these tests happen."""

    backend: str
    warm: WarmStart
    reference: Path
    """The run that nobody interrupts, started as a user would."""

    def start(self, run_dir: Path, *more: str) -> WarmProcess:
        return self.warm.start(arguments(self.backend, run_dir, *more))

    def finish(self, run_dir: Path, *more: str) -> str:
        process = self.start(run_dir, *more)
        output = process.wait()
        assert process.returncode == 0, output
        return output


@pytest.fixture(scope="module", params=["playground", "huggingface"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    run_dir = tmp_path_factory.mktemp("reference") / "run"
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments(request.param, run_dir)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with WarmStart(*IMPORTED[request.param]) as warm:
        yield Place(request.param, warm, run_dir)


def last_step(run_dir: Path) -> int:
    log = run_dir / LOG_NAME
    if not log.exists():
        return 0
    return max((e["step"] for e in counted(read_events(log)) if e["event"] == "step"), default=0)


def passes(run_dir: Path, step: int) -> Callable[[], bool]:
    """A condition to wait for: the run has done so many updates. The record is read again only where it has grown."""
    log, seen = run_dir / LOG_NAME, 0

    def reached() -> bool:
        nonlocal seen
        size = log.stat().st_size if log.exists() else 0
        if size == seen:
            return False
        seen = size
        return last_step(run_dir) >= step

    return reached


def assert_same_weights(run_dir: Path, reference: Path) -> None:
    ours, theirs = (load_trained_model(d / "final_model.pt").model.state_dict() for d in (run_dir, reference))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), f"{name} differs from the uninterrupted run's"


def assert_same_record(run_dir: Path, reference: Path) -> None:
    """No gap, no point twice, and the very figures of the uninterrupted run."""
    ours, theirs = (
        json.loads((d / "experiment_report.json").read_text(encoding="utf-8")) for d in (run_dir, reference)
    )
    assert ours["curve"]["step"] == theirs["curve"]["step"] == list(range(1, theirs["step"] + 1))
    for key in ("epoch", "loss", "accuracy", "grad_norm", "learning_rate"):
        assert ours["curve"][key] == theirs["curve"][key], key
    for key in ("epochs", "evaluations", "best", "batch", "step", "state"):
        assert ours[key] == theirs[key], key
    folded = Report.of(read_events(run_dir / LOG_NAME)).to_dict()
    assert folded["curve"] == ours["curve"]


def wait_for(condition: Callable[[], Any], process: WarmProcess, seconds: float = 120) -> bool:
    """Until the condition holds (True) or the process has ended (False)."""
    until = time.monotonic() + seconds
    for look in itertools.count():
        if condition():
            return True
        if look % 20 == 0:  # another process is asked, which takes longer than the look itself
            if process.poll() is not None:
                return False
            if time.monotonic() > until:
                break
        time.sleep(0.002)
    process.kill()
    raise AssertionError("the run made no progress")


def kill_points(seed: int) -> Iterator[tuple[int, float]]:
    """(updates to wait for, seconds more): seeded, so that a failure can be seen again."""
    draw = random.Random(seed)
    while True:
        yield draw.randint(1, 14), draw.random() * 0.08


@pytest.mark.slow
def test_a_run_killed_at_25_random_points_ends_with_the_weights_of_an_uninterrupted_one(
    place: Place, tmp_path: Path
) -> None:
    kills = 0
    rounds = 0
    points = kill_points(seed=7)
    while kills < 25:
        rounds += 1
        run_dir = tmp_path / f"round_{rounds}"
        while True:
            process = place.start(run_dir, "--resume")
            # A resumed run goes back to its checkpoint: wait until it has passed that point.
            updates, more = next(points)
            resumed_at = last_step(run_dir) // 5 * 5
            if not wait_for(passes(run_dir, resumed_at + updates), process):
                output = process.wait()
                assert process.returncode == 0, output
                break
            time.sleep(more)
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += process.returncode == -signal.SIGKILL
        assert_same_weights(run_dir, place.reference)
        assert_same_record(run_dir, place.reference)
    print(f"{kills} kills in {rounds} runs")


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_is_being_written_leaves_the_last_one_good(place: Place, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    caught = 0
    for _ in range(6):
        process = place.start(run_dir, "--resume")
        if wait_for(lambda: any(run_dir.glob(".checkpoint*.tmp")), process):
            process.send_signal(signal.SIGKILL)
            caught += 1
        process.wait()
    assert caught >= 3
    place.finish(run_dir, "--resume")
    assert not list(run_dir.glob(".*.tmp")), "leftovers of the kills are cleaned away"
    assert_same_weights(run_dir, place.reference)
    assert_same_record(run_dir, place.reference)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_writes_a_checkpoint_first_and_says_how_to_go_on(
    asked: signal.Signals, place: Place, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    process = place.start(run_dir)
    assert wait_for(passes(run_dir, 7), process)
    process.send_signal(asked)
    output = process.wait()
    assert process.returncode == 128 + asked, output
    assert "--resume" in output
    report = json.loads((run_dir / "experiment_report.json").read_text(encoding="utf-8"))
    assert report["state"] == "stopped"
    assert list_checkpoints(run_dir)[0][0][0] == report["step"]
    assert f"at step {report['step']} " in place.finish(run_dir, "--resume")
    assert_same_weights(run_dir, place.reference)
    assert_same_record(run_dir, place.reference)


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once_and_nothing_is_lost(place: Place, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = place.start(run_dir)
    assert wait_for(passes(run_dir, 12), process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    output = process.wait()
    assert process.returncode == 128 + signal.SIGINT, output
    assert "Traceback" not in output
    place.finish(run_dir, "--resume")
    assert_same_weights(run_dir, place.reference)
    assert_same_record(run_dir, place.reference)


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_is_named_and_the_last_good_one_is_used(place: Place, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = place.start(run_dir)
    assert wait_for(passes(run_dir, 20), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    newest = list_checkpoints(run_dir)[0][0][1]
    damaged = bytearray((newest / "optimizer.safetensors").read_bytes())
    damaged[len(damaged) // 2] ^= 0x10
    (newest / "optimizer.safetensors").write_bytes(damaged)
    output = place.finish(run_dir, "--resume")
    assert f"{newest.name}/optimizer.safetensors: damaged" in output
    assert_same_weights(run_dir, place.reference)
    assert_same_record(run_dir, place.reference)


@pytest.mark.slow
def test_a_finished_run_stays_as_it_is_when_resumed_and_goes_on_when_given_more_epochs(
    place: Place, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    place.finish(run_dir, "--epochs", "4")
    before = (run_dir / "final_model.pt").read_bytes()
    assert "(0 steps)" in place.finish(run_dir, "--resume", "--epochs", "4")
    assert (run_dir / "final_model.pt").read_bytes() == before
    place.finish(run_dir, "--resume")
    assert_same_weights(run_dir, place.reference)
    assert_same_record(run_dir, place.reference)
