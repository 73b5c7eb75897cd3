"""A finished APT goes on with new data: HLBD, then texts, then chats, with its own tokenizer and its own shape."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import yaml

from tests.support.language_data import chats_file, topics_file
from training.checkpoints.finished_model import load_trained_model
from training.record.reporter import read_events

if TYPE_CHECKING:
    from tests.conftest import FrontDoor

pytestmark = pytest.mark.slow
SHORT: list[str | Path] = ["--batch-size", "4", "--max-steps", "3", "--answer-samples", "0", "--device", "cpu"]


def test_an_apt_of_hlbd_goes_on_with_texts_and_then_with_chats(
    finished_run: Path, front_door: FrontDoor, tmp_path: Path
) -> None:
    (tmp_path / "new.txt").write_text("0 + 1 等于几？🚀🚀\n\nÜber alles.", encoding="utf-8")
    text: list[str | Path] = [
        *SHORT,
        "--task",
        "text",
        "--datasets",
        tmp_path / "new.txt",
        "--run-dir",
        tmp_path / "text",
    ]
    done = front_door([*text, "--model", finished_run])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "tokens are unknown to the tokenizer (" in done.stdout

    before, after = (load_trained_model(run / "final_model") for run in (finished_run, tmp_path / "text"))
    assert after.artefacts["tokenizer"] == before.artefacts["tokenizer"], "its tokenizer stays"
    assert after.options.d_model == before.options.d_model == 16
    begun = yaml.safe_load((tmp_path / "text" / "config.yaml").read_text(encoding="utf-8"))
    assert begun["model"]["base_model"] == str(finished_run / "final_model")
    start = next(e for e in read_events(tmp_path / "text" / "progress.jsonl") if e["event"] == "run_started")
    assert start["unknown"] > 0, "it is in the report too"

    chat: list[str | Path] = [*SHORT, "--task", "chat", "--datasets", chats_file(), "--model", tmp_path / "text"]
    refusal = front_door([*chat, "--chat-template", "chatml", "--run-dir", tmp_path / "refused"])
    assert refusal.exit_code == 2
    assert f"the model in {tmp_path / 'text' / 'final_model'} has" in refusal.stderr
    assert refusal.stderr.rstrip().endswith("a chat template without new tokens (--chat-template plain)")
    assert refusal.stderr.count("\n") == 1
    done = front_door([*chat, "--chat-template", "plain", "--max-seq-len", "512", "--run-dir", tmp_path / "chat"])
    assert (done.exit_code, done.stderr) == (0, "")
    last = load_trained_model(tmp_path / "chat" / "final_model")
    was, now = (one.family.tokenizer(one.artefacts, "it").get_vocab() for one in (before, last))
    assert was == now
    assert (last.options.d_model, last.options.max_seq_len) == (16, 512)


def test_the_first_weights_are_those_of_the_finished_model(
    finished_run: Path, front_door: FrontDoor, tmp_path: Path
) -> None:
    words: list[str | Path] = [
        "--task",
        "text",
        "--datasets",
        topics_file(),
        "--model",
        finished_run,
        "--learning-rate",
        "1e-12",
    ]
    schedule: list[str | Path] = ["--schedule", "constant", "--min-lr", "0", "--weight-decay", "0"]
    assert front_door([*SHORT, *words, *schedule, "--run-dir", tmp_path / "text"]).exit_code == 0
    before, after = (load_trained_model(run / "final_model").model for run in (finished_run, tmp_path / "text"))
    for name, weights in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], weights, rtol=0, atol=1e-9)


def test_an_apt_of_texts_has_the_turn_tokens_of_chats_already(front_door: FrontDoor, tmp_path: Path) -> None:
    small: list[str | Path] = [
        "--d-model",
        "16",
        "--num-layers",
        "1",
        "--num-heads",
        "2",
        "--d-ff",
        "16",
        "--vocab-size",
        "300",
    ]
    text: list[str | Path] = ["--task", "text", "--datasets", topics_file(), "--run-dir", tmp_path / "text"]
    assert front_door([*SHORT, *small, *text]).exit_code == 0
    chat: list[str | Path] = ["--task", "chat", "--datasets", chats_file(), "--model", tmp_path / "text"]
    done = front_door([*SHORT, *chat, "--run-dir", tmp_path / "chat"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "<|im_end|>" in done.stdout, "the answer's end is learned"
    before, after = (load_trained_model(tmp_path / name / "final_model") for name in ("text", "chat"))
    assert after.artefacts["tokenizer"]["model"] == before.artefacts["tokenizer"]["model"]
