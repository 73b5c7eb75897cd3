"""The command `tools/chat.py`: an answer for each question, and one line for what cannot be asked."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from apt_model.tokenizer import DynamicTagTokenizer
from tools import chat
from training.checkpoints.finished_model import load_trained_model
from training.errors import UserError
from training.tasks.hlbd.files import Sample
from training.tasks.hlbd.training_answers import recite


def test_an_answer_a_question_typed_or_piped(
    finished_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = ["tiny 3 + 1 等于几？", "tiny 4 + 1 等于几？"]
    trained = load_trained_model(finished_run)
    tokenizer = DynamicTagTokenizer.from_dict(trained.artefacts["tokenizer"], "here")
    longest = "1" * (trained.options.model_dump()["max_seq_len"] - 1)
    expected = recite(trained.model, tokenizer, [Sample(q, longest, "m", 0) for q in questions])
    texts = [one.answer or "(nothing)" for one in expected]

    assert chat.run(["--model", str(finished_run), "--prompt", questions[0], "--device", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines() == texts[:1]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([questions[0], "", questions[1]])))
    assert chat.run(["--model", str(finished_run), "--device", "cpu"]) == 0
    assert capsys.readouterr() == ("\n".join(texts) + "\n", "")


def test_what_the_model_cannot_read_is_said_beside_its_answer(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat.run(["--model", str(finished_run), "--prompt", "龙 3", "--device", "cpu"]) == 0
    assert capsys.readouterr().err == "the model has never seen: 龙\n"
    assert chat.run(["--model", str(finished_run), "--prompt", "3" * 300, "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "(nothing)\n"
    assert printed.err.startswith("the question has more tokens than the model reads (max_seq_len ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "nowhere"], "nowhere: no such model"),
        (["--model", ".", "--prompt", " "], "--prompt is empty"),
        (["--model", ".", "--device", "tpu"], "--device tpu"),
        ([], "--model"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(arguments: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        chat.run(arguments)
    assert "\n" not in str(caught.value)
