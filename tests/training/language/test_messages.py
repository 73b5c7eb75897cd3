"""A message is its English text everywhere, and another language's only where it is shown."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator

import pytest

from training.language.messages import (
    Language,
    Message,
    choose_language,
    chosen_language,
    say,
    translated,
    translated_lines,
)

SAVED = Message("saved {path} (step {step})", path="final_model", step=7)


@pytest.fixture(autouse=True)
def _no_language() -> Iterator[None]:
    """Leave no language behind."""
    choose_language(None)
    yield
    choose_language(None)


@pytest.mark.parametrize(
    ("language", "lines"),
    [
        (None, ["saved final_model (step 7)"]),
        ("en", ["saved final_model (step 7)"]),
        ("zh", ["已保存 final_model（第 7 步）"]),
        ("both", ["已保存 final_model（第 7 步）", "saved final_model (step 7)"]),
    ],
)
def test_a_message_is_shown_in_the_chosen_language(
    language: Language | None, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    choose_language(language)
    assert chosen_language() == language
    assert translated_lines(SAVED) == lines
    assert translated(SAVED) == " ".join(lines)
    say(SAVED)
    assert capsys.readouterr().out == "".join(f"{line}\n" for line in lines)


def test_whatever_records_a_message_gets_its_english_text() -> None:
    choose_language("zh")
    assert SAVED == "saved final_model (step 7)"
    assert json.dumps({"lines": [SAVED]}) == '{"lines": ["saved final_model (step 7)"]}'
    assert f"{SAVED}" == str(SAVED) == "saved final_model (step 7)"


def test_messages_within_a_message_are_translated_too() -> None:
    whole = Message.joined(", ", [SAVED, Message("warning: {message}", message=Message("learning rate")), "as it is"])
    assert whole == "saved final_model (step 7), warning: learning rate, as it is"
    assert whole.chinese == "已保存 final_model（第 7 步），警告：学习率，as it is"


def test_a_text_without_a_twin_or_with_braces_stays_as_it_is() -> None:
    choose_language("both")
    assert translated(Message("{no field} of ours")) == "{no field} of ours"
    assert translated("plain text") == "plain text"


def test_what_is_the_same_in_both_languages_is_shown_once() -> None:
    choose_language("both")
    assert translated(Message("epoch")) == "epoch"


def test_a_message_goes_from_one_process_to_another() -> None:
    copy = pickle.loads(pickle.dumps(Message.joined("; ", [SAVED, SAVED])))
    assert isinstance(copy, Message)
    assert copy == f"{SAVED}; {SAVED}"
    assert copy.chinese == f"{SAVED.chinese}；{SAVED.chinese}"
