"""A run stopped anywhere goes on anywhere, really trained.

The square of {playground, DDP on two ranks, ZeRO 1, 2 and 3, transformers' Trainer alone, and with DeepSpeed on two}.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.programs.resume_matrix import END_OF_EPOCH, HALF, KINDS, ON_ONE_RANK, WHOLE, checkpoint_of
from training.checkpoints.checkpoint import load_checkpoint
from training.checkpoints.finished_model import load_trained_model
from training.record.reporter import Event, read_events

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-5
"""Relative, in fp32; measured differences are below 1e-6."""

pytestmark = pytest.mark.slow


def launch(ranks: int, folder: Path, *what: str) -> None:
    """Carry out `what` of tests/support/programs/resume_matrix.py on so many ranks."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    done = subprocess.run(
        [sys.executable, *torchrun, str(ROOT / "tests/support/programs/resume_matrix.py"), str(folder), *what],
        # Nothing is compiled here; DeepSpeed's import alone would load torch's compiler, seconds a rank.
        env={**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "TORCHDYNAMO_DISABLE": "1"},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`KIND/`: `WHOLE` uninterrupted steps, a checkpoint after `HALF`. `A-B/`: A's checkpoint, the other steps as B."""
    folder = tmp_path_factory.mktemp("matrix")
    launch(1, folder, "whole", *ON_ONE_RANK)
    launch(2, folder, "whole", "rest", *(kind for kind in KINDS if kind not in ON_ONE_RANK))
    launch(1, folder, "rest", *ON_ONE_RANK)
    return folder


def steps(run_dir: Path, after: int = 0, event: str = "step") -> list[Event]:
    """Step events of a run's record, or others."""
    events = (e for e in read_events(run_dir / "progress.jsonl") if e["event"] == event)
    return [e for e in events if e["step"] > after]


def difference(a: list[Event], b: list[Event], key: str) -> float:
    """Largest relative difference of a figure, step by step."""
    return float(max(np.max(np.abs(np.subtract(x[key], y[key])) / np.abs(x[key])) for x, y in zip(a, b, strict=True)))


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_a_run_stopped_here_goes_on_there_on_the_same_curve(matrix: Path, source: str, target: str) -> None:
    uninterrupted, resumed = steps(matrix / "playground", HALF), steps(matrix / f"{source}-{target}")
    assert [e["step"] for e in resumed] == list(range(HALF + 1, WHOLE + 1))
    assert [e["batch_hash"] for e in resumed] == [e["batch_hash"] for e in uninterrupted]
    assert [e["learning_rate"] for e in resumed] == [e["learning_rate"] for e in uninterrupted]
    for key in ("loss", "grad_norm", "weights_fingerprint"):
        assert difference(uninterrupted, resumed, key) <= TOLERANCE, key
    validated = steps(matrix / "playground", HALF, "eval"), steps(matrix / f"{source}-{target}", event="eval")
    assert [e["step"] for e in validated[1]] == [END_OF_EPOCH, WHOLE]
    assert difference(*validated, "loss") <= TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_on_the_same_backend_it_goes_on_bit_for_bit(matrix: Path, kind: str) -> None:
    whole, resumed = (load_trained_model(matrix / name).model.state_dict() for name in (kind, f"{kind}-{kind}"))
    assert all(torch.equal(weights, resumed[name]) for name, weights in whole.items())
    assert [e["loss"] for e in steps(matrix / kind, HALF)] == [e["loss"] for e in steps(matrix / f"{kind}-{kind}")]


@pytest.mark.parametrize("kind", KINDS)
def test_every_checkpoint_has_the_same_form_and_is_read_by_the_tools(matrix: Path, kind: str) -> None:
    reference = load_checkpoint(checkpoint_of("playground", matrix))["engine"]
    path = checkpoint_of(kind, matrix)
    engine = load_checkpoint(path)["engine"]
    assert engine.keys() == reference.keys()
    assert engine["model"].keys() == reference["model"].keys()
    assert engine["optimizers"]["adamw"].keys() == reference["optimizers"]["adamw"].keys()
    for name, state in engine["optimizers"]["adamw"].items():
        expected = reference["optimizers"]["adamw"][name]
        assert state.keys() == expected.keys()
        assert float(state["step"]) == float(expected["step"]) == HALF
        assert state["exp_avg"].shape == expected["exp_avg"].shape
    trained = load_trained_model(path)
    assert all(torch.equal(weights, engine["model"][name]) for name, weights in trained.model.state_dict().items())
