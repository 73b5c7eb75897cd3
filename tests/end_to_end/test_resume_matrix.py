"""A run stopped anywhere goes on anywhere, really trained.

The square of {playground, DDP on two ranks, ZeRO 1, 2 and 3, transformers' Trainer alone, and with DeepSpeed on two}.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from tests.support.matrix_runs import TOLERANCE, difference, run_matrix, steps
from tests.support.programs.resume_matrix import CASES, KINDS, checkpoint_of
from training.checkpoints.checkpoint import load_checkpoint
from training.checkpoints.finished_model import load_trained_model

CASE = "hlbd"
HALF, END_OF_EPOCH, WHOLE = CASES[CASE].half, CASES[CASE].end_of_epoch, CASES[CASE].whole
AVERAGE = "hlbd_average"
WITH_AVERAGE = [kind for kind in KINDS if kind != "zero3"]  # which has no whole weights to average
AVERAGED = [*zip(WITH_AVERAGE, WITH_AVERAGE, strict=True), *itertools.pairwise([*WITH_AVERAGE, WITH_AVERAGE[0]])]
"""(source, target): each kind goes on with its own checkpoint and with that of another."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`KIND/`: `WHOLE` uninterrupted steps, a checkpoint after `HALF`. `A-B/`: A's checkpoint, the other steps as B."""
    folder = tmp_path_factory.mktemp("matrix")
    pairs = [(CASE, source, kind) for source, kind in itertools.product(KINDS, KINDS)]
    run_matrix(folder, [*pairs, *((AVERAGE, source, kind) for source, kind in AVERAGED)])
    return folder / CASE


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
    reference = load_checkpoint(checkpoint_of(CASE, "playground", matrix.parent))["engine"]
    path = checkpoint_of(CASE, kind, matrix.parent)
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


@pytest.mark.parametrize(("source", "target"), AVERAGED)
def test_the_average_of_the_weights_goes_on_with_the_run(matrix: Path, source: str, target: str) -> None:
    runs = matrix.parent / AVERAGE
    last = CASES[AVERAGE].whole
    whole, resumed = runs / target, runs / f"{source}-{target}"
    measured = steps(whole, event="eval"), steps(resumed, event="eval")
    assert [e["step"] for e in measured[1]] == [last]
    assert difference(*measured, "loss") <= (0.0 if source == target else TOLERANCE)
    state = load_trained_model(whole).model.state_dict(), load_trained_model(resumed).model.state_dict()
    for name, weights in state[0].items():
        if source == target:
            assert torch.equal(weights, state[1][name])
        else:
            torch.testing.assert_close(weights, state[1][name], rtol=1e-4, atol=1e-6)
    reference = load_trained_model(runs / "playground").model.state_dict()
    for name, weights in state[0].items():
        torch.testing.assert_close(weights, reference[name], rtol=1e-4, atol=1e-6)
