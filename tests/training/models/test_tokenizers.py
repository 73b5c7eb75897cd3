"""Tokenizers: trained on the data, by character or a model's own; they lose nothing, also by way of a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.language_data import tiny_model
from training.errors import CheckpointError, ConfigError
from training.models.tokenizers import (
    LEAST_VOCABULARY,
    TURNS,
    by_character,
    end_token,
    from_artefacts,
    load_tokenizer,
    stop_tokens,
    to_artefacts,
    tokenizer_texts,
    train_bpe,
    unknown_characters,
    with_stop_tokens,
    write_tokenizer,
)

pytestmark = pytest.mark.slow

TEXTS = ["The cat sat on the mat.", "这只猫坐在垫子上。", "def f(x):\n    return x ** 2\n"] * 5


@pytest.fixture(scope="module")
def bpe() -> Any:
    return train_bpe(TEXTS, 300)


@pytest.mark.parametrize(
    "make", [lambda: train_bpe(TEXTS, 300), lambda: by_character(TEXTS)], ids=["bpe", "characters"]
)
def test_the_same_texts_give_the_same_tokenizer(make: Callable[[], Any]) -> None:
    one, other = to_artefacts(make()), to_artefacts(make())
    assert json.dumps(one) == json.dumps(other)


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60))
def test_bytes_lose_no_text(bpe: Any, text: str) -> None:
    ids = bpe(text, add_special_tokens=False)["input_ids"]
    assert bpe.decode(ids) == text
    assert all(0 <= number < len(bpe) for number in ids)


def test_a_tokenizer_by_character_counts_what_it_does_not_know() -> None:
    tokenizer = by_character(["abc"])
    assert tokenizer.decode(tokenizer("cab", add_special_tokens=False)["input_ids"]) == "cab"
    assert unknown_characters(tokenizer, "aXbY") == ["X", "Y"]


def test_every_tokenizer_that_is_made_has_turn_tokens_that_text_is_split_at(bpe: Any) -> None:
    for tokenizer in (bpe, by_character(TEXTS)):
        begin, end = tokenizer.convert_tokens_to_ids(list(TURNS))
        ids = tokenizer(f"{TURNS[0]}T{TURNS[1]}", add_special_tokens=False)["input_ids"]
        assert (ids[0], ids[-1]) == (begin, end)
        assert end_token(tokenizer, "--task text") == tokenizer.eos_token_id


def test_a_vocabulary_too_small_for_all_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match=f"vocab_size=259 is too small: .* need {LEAST_VOCABULARY} tokens"):
        train_bpe(TEXTS, 259)
    assert len(train_bpe(TEXTS, LEAST_VOCABULARY)) == LEAST_VOCABULARY


def test_a_tokenizer_is_the_same_after_artefacts_and_files(bpe: Any, tmp_path: Path) -> None:
    artefacts = json.loads(json.dumps(to_artefacts(bpe)))
    again = from_artefacts(artefacts, "here")
    write_tokenizer(artefacts, tmp_path)
    read = load_tokenizer(str(tmp_path))
    for text in TEXTS:
        assert again(text)["input_ids"] == read(text)["input_ids"] == bpe(text)["input_ids"]
    assert again.eos_token == read.eos_token == bpe.eos_token
    assert to_artefacts(again)["tokenizer"] == artefacts["tokenizer"]


def test_stop_tokens_are_kept_beside_the_tokenizer(bpe: Any) -> None:
    artefacts = with_stop_tokens(to_artefacts(bpe), bpe, [3, 0])
    assert stop_tokens(artefacts) == [3, 0]
    assert stop_tokens(to_artefacts(bpe)) == []
    assert with_stop_tokens({"note": 1}, bpe, [3]) == {"note": 1}
    assert tokenizer_texts({"tokenizer": {}}) == {}


@pytest.mark.parametrize("artefacts", [{}, {"tokenizer": {}}, {"tokenizer": {"a": 1}, "tokenizer_files": {}}], ids=str)
def test_artefacts_without_a_tokenizer_are_refused(artefacts: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"^there: .*tokenizer") as refused:
        from_artefacts(artefacts, "there")
    assert "\n" not in str(refused.value)


def test_an_artefact_cannot_write_outside_its_folder(bpe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of a stranger may name any file."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    artefacts = to_artefacts(bpe)
    files = {**artefacts["tokenizer_files"], "../escaped.json": "{}"}
    from_artefacts({**artefacts, "tokenizer_files": files}, "here")
    assert not list(tmp_path.rglob("escaped.json"))
    (tmp_path / "model").mkdir()
    write_tokenizer({**artefacts, "tokenizer_files": files}, tmp_path / "model")
    assert [path.parent.name for path in tmp_path.rglob("escaped.json")] == ["model"]


def test_places_without_a_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"--tokenizer {tmp_path}: no tokenizer can be read there"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(ConfigError, match=r"--tokenizer /no/such: there is no such directory"):
        load_tokenizer("/no/such")
    tokenizer = load_tokenizer(str(tiny_model()))
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match=r"--model x: the tokenizer has no end token \(eos_token\)"):
        end_token(tokenizer, "--model x")
