"""Several processes share a run, and nothing of its curve changes: real torchrun, real gloo."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.launch import worker
from training.machine import ranks as ranks_module
from training.machine.ranks import Ranks
from training.record.reporter import Event, read_events
from training.tasks.fingerprints import batch_hash, halves, weights_fingerprint
from training.tasks.objective import ModuleObjective
from training.tasks.rank_batches import Feed

if TYPE_CHECKING:
    from tests.conftest import FrontDoor

ROOT = Path(__file__).resolve().parents[3]
TOLERANCE = 1e-5
"""Relative difference that fp32 sums in another order may make over 50 steps; what is measured is near 1e-7."""
SETTINGS = shlex.split(
    "--d-model 32 --num-layers 2 --num-heads 2 --d-ff 64 --max-steps 50 --validation-split 0.1 --fingerprints "
    # Accumulation on one rank, and a smaller last update in each epoch.
    "--batch-size 5 --global-batch-size 23 --schedule linear --length-window 4 --answer-samples 0 --save-steps 25 "
    "--dataset HLBD_Hardcore_Full.json"
)


def torchrun(ranks: int, *command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Start `command` as so many ranks, by hand: `python -m torch.distributed.run … train.py …`."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return subprocess.run(
        [*launcher, *map(str, command)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def curve(run_dir: Path) -> list[Event]:
    """Steps and evaluations of a run."""
    return [e for e in read_events(run_dir / "progress.jsonl") if e["event"] in ("step", "eval")]


def largest_difference(a: list[Event], b: list[Event], key: str) -> float:
    """Largest relative difference of a figure over two curves."""
    pairs = [(x[key], y[key]) for x, y in zip(a, b, strict=True) if key in x]
    assert pairs
    return float(max(np.max(np.abs(np.subtract(x, y)) / np.abs(x)) for x, y in pairs))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The same run in one, two and three processes."""
    folder = tmp_path_factory.mktemp("ranks")
    for ranks in (1, 2, 3):
        done = torchrun(ranks, ROOT / "train.py", *SETTINGS, "--run-dir", f"on{ranks}", cwd=folder)
        assert done.returncode == 0, done.stderr
    return {ranks: folder / f"on{ranks}" for ranks in (1, 2, 3)}


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_the_curve_does_not_depend_on_the_number_of_processes(runs: dict[int, Path], ranks: int) -> None:
    alone, shared = curve(runs[1]), curve(runs[ranks])
    assert len(alone) == len(shared) == 50 + 3
    for key in ("loss", "grad_norm", "weights_fingerprint"):
        assert largest_difference(alone, shared, key) <= TOLERANCE, key
    for key in ("step", "epoch", "batch_hash", "tokens", "loss_tokens", "learning_rate", "accuracy", "clipped"):
        assert [x.get(key) for x in alone] == [y.get(key) for y in shared], key


@pytest.mark.slow
def test_only_rank_0_tells_and_writes(runs: dict[int, Path]) -> None:
    names = {ranks: sorted(p.name for p in runs[ranks].iterdir()) for ranks in (1, 2)}
    assert names[1] == names[2]
    started = next(read_events(runs[2] / "progress.jsonl"))
    assert (started["event"], started["world_size"]) == ("run_started", 2)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(runs: dict[int, Path], tmp_path: Path) -> None:
    rest: list[str | Path] = ["--resume", runs[2] / "checkpoint_step_25", "--run-dir", "rest"]
    done = torchrun(1, ROOT / "train.py", *SETTINGS, *rest, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not bit for bit as it would have gone on: world_size 2 -> 1" in done.stdout
    uninterrupted = [e for e in curve(runs[1]) if e["step"] > 25]
    assert largest_difference(uninterrupted, curve(tmp_path / "rest"), "loss") <= TOLERANCE
    assert largest_difference(uninterrupted, curve(tmp_path / "rest"), "weights_fingerprint") <= TOLERANCE


@pytest.fixture
def alone_of_two(monkeypatch: pytest.MonkeyPatch) -> int:
    """This process is rank 1 of two, and rank 0 never comes. Returns the port where it would be."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    variables = {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ranks_module, "SECONDS_BEFORE_A_WORD", 0.01)
    monkeypatch.setattr(worker, "SECONDS_TO_BE_ENDED", 0.0)
    return port


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_ranks_that_do_not_come_are_waited_for_until_a_deadline_that_is_said(
    host: str,
    alone_of_two: int,
    monkeypatch: pytest.MonkeyPatch,
    front_door: FrontDoor,
    tiny_flags: list[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("MASTER_ADDR", host)
    monkeypatch.setattr(ranks_module, "RENDEZVOUS", timedelta(seconds=3))
    refused = front_door([*tiny_flags, "--run-dir", tmp_path / "run"])
    place = f"{host}:{alone_of_two}, as rank 1 of 2"
    waiting, error = refused.stderr.splitlines()
    assert refused.exit_code == 2
    assert waiting == f"waiting for the other ranks at {place}, for at most 0.05 minutes"
    assert error.startswith(f"error: the ranks did not meet at {place}, within 0.05 minutes; start all of them")
    assert "env -u RANK -u LOCAL_RANK -u WORLD_SIZE -u MASTER_ADDR -u MASTER_PORT " in error
    assert not (tmp_path / "run").exists()


def test_waiting_for_other_ranks_can_be_interrupted(
    alone_of_two: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Interrupting(io.StringIO):
        def write(self, text: str) -> int:
            if "waiting for the other ranks" in text:
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            return super().write(text)

    monkeypatch.setattr(ranks_module, "RENDEZVOUS", timedelta(seconds=60))
    with contextlib.redirect_stderr(Interrupting()), pytest.raises(KeyboardInterrupt):
        Ranks.join(torch.device("cpu"))


SEEN_BY_ONE = ("skip", "callback", "signal", "patience")


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[dict[str, Any]]]]:
    """A run in two processes for each of them, one after the other: their folder, and what each rank tells of each."""
    folder = tmp_path_factory.mktemp("decided")
    done = torchrun(2, ROOT / "tests/support/programs/decide_together.py", folder, *SEEN_BY_ONE, cwd=folder)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[{")]
    return folder, dict(zip(SEEN_BY_ONE, told, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "state", "step"),
    [("skip", "finished", 10), ("callback", "stopped", 3), ("signal", "stopped", None), ("patience", "finished", None)],
)
def test_what_one_rank_sees_is_decided_by_all(
    what: str, state: str, step: int | None, decided: tuple[Path, dict[str, list[dict[str, Any]]]]
) -> None:
    folder, told = decided
    first, second = told[what]
    assert (first["rank"], second["rank"]) == (0, 1)
    assert {k: v for k, v in first.items() if k != "rank"} == {k: v for k, v in second.items() if k != "rank"}
    assert first["state"] == state
    events = list(read_events(folder / what / "progress.jsonl"))
    steps = [e for e in events if e["event"] == "step"]
    assert len(steps) == first["step"]
    if step is not None:
        assert first["step"] == step
    if what == "skip":  # the outlier is in one of the two updates of each epoch, and on one rank only
        assert [e.get("skipped", False) for e in steps].count(True) == 5
        assert np.isfinite(np.concatenate([np.ravel(w) for w in first["weights"]])).all()
    if what == "signal":
        assert 3 <= first["step"] < 10
        assert events[-1]["reason"] == "SIGTERM"
    if what == "patience":
        (finished,) = [event for event in events if event["event"] == "run_finished"]
        assert first["step"] < 100
        assert "no better validation loss" in finished["reason"]


class Numbers:
    """A dataset of so many samples, each its own number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"x": torch.tensor([float(index)])}


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 7), st.randoms(use_true_random=False))
def test_every_sample_is_on_one_rank_and_every_rank_has_as_many_batches(
    count: int, batch_size: int, world: int, random: Any
) -> None:
    task = ModuleObjective(lambda: torch.nn.Linear(1, 1), lambda m, t: t["x"].sum())
    indices = list(range(count))
    random.shuffle(indices)
    feeds = [
        Feed(task, Numbers(40), Ranks(torch.device("cpu"), rank, rank, world), batch_size) for rank in range(world)
    ]
    shares = [list(feed.batches(np.array(indices), lambda number: number)) for feed in feeds]
    assert len({len(share) for share in shares}) == 1
    real = [batch for share in shares for batch in share if batch.weight]
    assert sorted(int(x) for batch in real for x in batch.tensors["x"].ravel()) == sorted(indices)
    assert sum(batch.weight for batch in real) == feeds[0].weight(np.array(indices)) == count
    assert all(batch.num_samples <= batch_size for batch in real)
    seeds = [batch.seed for share in shares for batch in share]
    assert len(seeds) == len(set(seeds)), "every batch draws its own dropout"


class Drawn(Numbers):
    """Numbers with a draw of each sample's own."""

    def drawn(self, index: int, seed: int) -> dict[str, torch.Tensor]:
        """Return the number and the seed."""
        return {"x": torch.tensor([float(index)]), "seed": torch.tensor([seed])}


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 7))
def test_a_samples_own_draws_do_not_depend_on_ranks_and_sizes_of_batches(
    count: int, batch_size: int, world: int
) -> None:
    task = ModuleObjective(lambda: torch.nn.Linear(1, 1), lambda m, t: t["x"].sum())
    drawn: dict[int, int] = {}
    for rank in range(world):
        feed = Feed(task, Drawn(40), Ranks(torch.device("cpu"), rank, rank, world), batch_size)
        for batch in feed.batches(range(count), lambda number: number, lambda sample: sample**2 + 7):
            if batch.weight:
                drawn |= {int(x): int(seed) for x, seed in zip(*batch.tensors.values(), strict=True)}
    assert drawn == {sample: sample**2 + 7 for sample in range(count)}


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50), st.integers(0, 50))
def test_a_batch_hash_does_not_depend_on_who_had_which_sample(hashes: list[int], cut: int) -> None:
    whole = halves(hashes)
    parts = [halves(hashes[:cut]), halves(hashes[cut:])]
    assert batch_hash(*whole) == batch_hash(*(sum(half) for half in zip(*parts, strict=True)))
    if hashes:
        assert batch_hash(*halves([hashes[0] ^ 1, *hashes[1:]])) != batch_hash(*whole)


def test_a_weights_fingerprint_moves_with_any_weight() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    before = weights_fingerprint(module)
    assert weights_fingerprint(module) == before
    for parameter in module.parameters():
        with torch.no_grad():
            for place in range(parameter.numel()):
                parameter.view(-1)[place] += 1e-3
                moved = weights_fingerprint(module)
                parameter.view(-1)[place] -= 1e-3
                assert np.abs(np.subtract(moved, before)).max() > 1e-7


def test_a_process_that_nobody_launched_is_a_world_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    alone = Ranks.join(torch.device("cpu"))
    assert (alone.rank, alone.world_size, alone.is_main) == (0, 1, True)
    assert alone.total([1.5, 2.0]) == [1.5, 2.0]
    assert (alone.agree(7), alone.broadcast("x"), alone.gather("y")) == (7, "x", ["y"])
    alone.barrier()
    alone.leave()
