"""A language model of transformers, whole or with LoRA, or a denoiser, stopped anywhere, goes on anywhere.

The suite trains a sample: each kind goes on from its own checkpoint and from one other's. `pytest --every-pair` trains
the square of all kinds, for {whole, LoRA} × {text, chat}.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.language_data import chats_file, tiny_model, topics_file
from tests.support.matrix_runs import TOLERANCE, difference, run_matrix, steps
from tests.support.programs.resume_matrix import CASES, KINDS, checkpoint_of
from training.checkpoints.checkpoint import load_checkpoint
from training.checkpoints.finished_model import load_trained_model

SAMPLE = {
    "text_whole_packed": ("playground", "ddp", "zero3", "hf_zero2"),
    "chat_lora": ("ddp", "zero1", "zero3", "hf"),
    "diffusion": ("playground", "ddp", "zero1", "zero3", "hf", "hf_zero2"),
}
"""Case -> kinds of its sample; each kind of engine has a whole model, and adapters alone."""
NOISY = "chat_lora_noisy"
"""It has dropout and noise, which are drawn again where a batch is cut otherwise: a kind goes on from its own only."""

pytestmark = pytest.mark.slow


def pairs(everything: bool) -> Iterator[tuple[str, str, str]]:
    """Yield (case, kind of the checkpoint, kind that goes on from it)."""
    for case in CASES:
        if case.startswith("hlbd"):  # they have a file of their own
            continue
        if case == NOISY:
            # The end-to-end tests of kills have this on one rank.
            yield from ((case, kind, kind) for kind in KINDS if everything or kind == "zero3")
        elif everything:
            kinds = (*KINDS, "zero0")
            yield from ((case, source, kind) for source, kind in itertools.product(kinds, kinds))
        elif case in SAMPLE:
            for number, kind in enumerate(SAMPLE[case]):
                yield case, kind, kind
                yield case, SAMPLE[case][number - 1], kind


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize the tests as `--every-pair` says."""
    every = list(pairs(metafunc.config.getoption("--every-pair")))
    if "source" in metafunc.fixturenames:
        metafunc.parametrize(("case", "source", "kind"), [pair for pair in every if pair[0] != NOISY])
    elif "other" in metafunc.fixturenames:
        kinds = dict.fromkeys((case, kind) for case, *both in every for kind in both if case != NOISY)
        metafunc.parametrize(("case", "other"), list(kinds))
    elif "kind" in metafunc.fixturenames:
        metafunc.parametrize(("case", "kind"), [(case, kind) for case, source, kind in every if source == kind])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Models, data, and all runs of the matrix."""
    made = tmp_path_factory.mktemp("matrix")
    for name in {case.model for case in CASES.values()} - {"apt", "denoising_mlp"}:
        shutil.copytree(tiny_model(name), made / name)
    shutil.copy(chats_file(40), made / "chats.jsonl")
    shutil.copy(topics_file(), made / "topics.jsonl")
    everything = request.config.getoption("--every-pair")
    run_matrix(made, pairs(everything), seconds=7200 if everything else 580)
    return made


def test_a_run_stopped_here_goes_on_there_on_the_same_curve(folder: Path, case: str, source: str, kind: str) -> None:
    half, whole, reference = CASES[case].half, CASES[case].whole, folder / case / "playground"
    resumed, uninterrupted = steps(folder / case / f"{source}-{kind}"), steps(reference, half)
    assert [e["step"] for e in resumed] == list(range(half + 1, whole + 1))
    assert [e["batch_hash"] for e in resumed] == [e["batch_hash"] for e in uninterrupted]
    assert [e["learning_rate"] for e in resumed] == [e["learning_rate"] for e in uninterrupted]
    for key in ("loss", "grad_norm", "weights_fingerprint"):
        assert difference(uninterrupted, resumed, key) <= TOLERANCE, key
    validated = steps(reference, half, "eval"), steps(folder / case / f"{source}-{kind}", event="eval")
    assert [e["step"] for e in validated[1]] == [CASES[case].end_of_epoch, whole]
    assert difference(*validated, "loss") <= TOLERANCE


def test_it_has_the_same_first_weights_and_the_same_curve_from_the_first_step(
    folder: Path, case: str, other: str
) -> None:
    begun = steps(folder / case / "playground"), steps(folder / case / other)
    assert [e["batch_hash"] for e in begun[0]] == [e["batch_hash"] for e in begun[1]]
    for key in ("loss", "grad_norm", "weights_fingerprint"):
        assert difference(*begun, key) <= TOLERANCE, key


def test_on_the_same_backend_it_goes_on_bit_for_bit(folder: Path, case: str, kind: str) -> None:
    runs = [folder / case / name for name in (kind, f"{kind}-{kind}")]
    whole, resumed = (load_trained_model(run / "final_model").model.state_dict() for run in runs)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(weights, resumed[name]) for name, weights in whole.items())
    assert [e["loss"] for e in steps(runs[0], CASES[case].half)] == [e["loss"] for e in steps(runs[1])]


def test_every_checkpoint_has_the_same_form_and_only_what_is_trained(folder: Path, case: str, kind: str) -> None:
    reference = load_checkpoint(checkpoint_of(case, "playground", folder))["engine"]
    engine = load_checkpoint(checkpoint_of(case, kind, folder))["engine"]
    assert engine.keys() == reference.keys()
    assert engine["model"].keys() == reference["model"].keys()
    moments, expected = engine["optimizers"]["adamw"], reference["optimizers"]["adamw"]
    assert moments.keys() == expected.keys()
    assert all(state["exp_avg"].shape == expected[name]["exp_avg"].shape for name, state in moments.items())
    if CASES[case].settings.get("lora"):
        assert all("lora_" in name or "lm_head" in name for name in engine["model"])
