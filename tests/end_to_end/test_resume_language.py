"""Runs on texts and chats that are stopped, moved and changed: what may change, what is found, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file

from tests.support.language_data import chats_file, tiny_model, topics_file
from tests.support.matrix_runs import TOLERANCE, difference, steps
from training.record.log import LOG_NAME
from training.storage.cache_directory import cache_directory

if TYPE_CHECKING:
    from tests.conftest import FrontDoor

pytestmark = pytest.mark.slow
HALF, WHOLE = 4, 8
SAVED: list[str | Path] = [
    "--save-steps",
    str(HALF),
    "--save-interval",
    "none",
    "--answer-samples",
    "0",
    "--device",
    "cpu",
]
CURVE: list[str | Path] = ["--schedule", "constant", "--global-batch-size", "6", "--batch-size", "3", "--fingerprints"]


def weights(run_dir: Path) -> dict[str, Any]:
    (file,) = [*(run_dir / "final_model").glob("*model.safetensors")]
    return {name: tensor.tolist() for name, tensor in load_file(file).items()}


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory, front_door: FrontDoor) -> Path:
    """A run of `WHOLE` steps of a new network with a tokenizer that was trained on its data."""
    folder = tmp_path_factory.mktemp("text")
    shutil.copy(topics_file(), folder / "topics.jsonl")
    shutil.copy(tiny_model() / "config.json", folder / "config.json")
    words: list[str | Path] = [
        "--task", "text", "--model", "huggingface", "--model-config", folder / "config.json", "--tokenizer", "bpe",
        "--vocab-size", "320", "--max-seq-len", "64", "--packing", "--validation-split", "0.1",
    ]  # fmt: skip
    where: list[str | Path] = [
        "--datasets",
        folder / "topics.jsonl",
        "--run-dir",
        folder / "run",
        "--max-steps",
        str(WHOLE),
    ]
    done = front_door([*words, *where, *SAVED, *CURVE])
    assert (done.exit_code, done.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def chat_run(tmp_path_factory: pytest.TempPathFactory, front_door: FrontDoor) -> Path:
    """A run of `WHOLE` steps of LoRA on chats."""
    folder = tmp_path_factory.mktemp("chat")
    shutil.copy(chats_file(), folder / "chats.jsonl")
    shutil.copytree(tiny_model("qwen2"), folder / "base")
    words: list[str | Path] = ["--task", "chat", "--model", folder / "base", "--lora", "--max-steps", str(WHOLE)]
    done = front_door([*words, "--datasets", folder / "chats.jsonl", "--run-dir", folder / "run", *SAVED, *CURVE])
    assert (done.exit_code, done.stderr) == (0, "")
    return folder


@pytest.fixture(params=["text", "chat"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the run in `tmp_path/run`, whose last half is forgotten: as a kill after `HALF` would leave it."""
    made: Path = request.getfixturevalue(f"{request.param}_run")
    stopped_after_half(made / "run", tmp_path / "run")
    return made


def stopped_after_half(run: Path, copy: Path) -> None:
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "final_model")
    log = [json.loads(line) for line in (copy / LOG_NAME).read_text(encoding="utf-8").splitlines()]
    kept = [event for event in log if event.get("step", 0) <= HALF and event["event"] != "run_finished"]
    (copy / LOG_NAME).write_text("".join(json.dumps(event) + "\n" for event in kept), encoding="utf-8")
    for later in copy.glob("checkpoint_*"):
        if later.name != f"checkpoint_step_{HALF}":
            shutil.rmtree(later)


def test_a_run_goes_on_by_its_directory_alone_and_ends_as_if_it_had_not_stopped(
    folder: Path, tmp_path: Path, front_door: FrontDoor
) -> None:
    done = front_door(["--resume", tmp_path / "run"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"at step {HALF} " in done.stdout
    assert "warning" not in done.stdout
    assert weights(tmp_path / "run") == weights(folder / "run")
    for key in ("step", "loss", "batch_hash", "weights_fingerprint"):
        mine, theirs = steps(tmp_path / "run", HALF), steps(folder / "run", HALF)
        assert [event[key] for event in mine] == [event[key] for event in theirs], key


def test_a_run_whose_token_cache_is_gone_goes_on_exactly(
    folder: Path, tmp_path: Path, front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APT_TRAINER_CACHE", str(tmp_path / "another_cache"))
    done = front_door(["--resume", tmp_path / "run"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert [*(cache_directory() / "tokens").iterdir()], "the tokens, and a tokenizer that was trained, are made again"
    assert weights(tmp_path / "run") == weights(folder / "run")


def test_a_run_goes_on_in_another_directory(folder: Path, tmp_path: Path, front_door: FrontDoor) -> None:
    same: list[str | Path] = ["--config", tmp_path / "run" / "config.yaml", "--run-dir", tmp_path / "elsewhere"]
    done = front_door([*same, "--resume", "--start-from", tmp_path / "run"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert weights(tmp_path / "elsewhere") == weights(folder / "run")


def test_it_may_become_longer_and_its_batches_smaller(folder: Path, tmp_path: Path, front_door: FrontDoor) -> None:
    done = front_door(["--resume", tmp_path / "run", "--max-steps", str(WHOLE + 2), "--batch-size", "2"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "batch_size 3 -> 2 sums in another order: the curve goes on within the parity tolerance" in done.stdout
    mine = steps(tmp_path / "run", HALF)
    assert [event["step"] for event in mine] == list(range(HALF + 1, WHOLE + 3))
    for key in ("loss", "grad_norm", "weights_fingerprint"):
        assert difference(steps(folder / "run", HALF), mine[: WHOLE - HALF], key) <= TOLERANCE, key


def test_other_data_in_the_same_file_is_refused(folder: Path, tmp_path: Path, front_door: FrontDoor) -> None:
    (data,) = folder.glob("*s.jsonl")
    lines = data.read_text(encoding="utf-8").splitlines()
    (tmp_path / data.name).write_text("\n".join([*lines[:-1], lines[0]]), encoding="utf-8")
    refusal = front_door(["--resume", tmp_path / "run", "--datasets", tmp_path / data.name])
    assert refusal.exit_code == 2
    assert "the training data is not what it was" in refusal.stderr
    assert refusal.stderr.count("\n") == 1
    shutil.copy(data, tmp_path / data.name)
    assert front_door(["--resume", tmp_path / "run", "--datasets", tmp_path / data.name]).exit_code == 0, "moved"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--lora-rank", "4"], "lora_rank was 16 in the run and is 4 now"),
        (["--loss-on", "all"], "loss_on was 'assistant' in the run and is 'all' now"),
        (["--global-batch-size", "12"], "the global batch had 6 samples and has 12 now"),
        (["--task", "text"], "the run was trained with --task chat, not text"),
        (["--model", "apt"], "the run was trained with --model huggingface, not apt"),
    ],
)
def test_what_would_be_another_run_is_refused(
    words: list[str], told: str, chat_run: Path, tmp_path: Path, front_door: FrontDoor
) -> None:
    stopped_after_half(chat_run / "run", tmp_path / "run")
    refusal = front_door(["--resume", tmp_path / "run", *words])
    assert refusal.exit_code == 2
    assert told in refusal.stderr
    assert refusal.stderr.count("\n") == 1
