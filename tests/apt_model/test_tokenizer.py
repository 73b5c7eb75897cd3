"""The tokenizer: lossless on known text, one vocabulary whatever the order, control tokens out of reach of text."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apt_model.errors import ModelError
from apt_model.tokenizer import KNOWN_TAGS, SPECIALS, DynamicTagTokenizer

# Any text that UTF-8 can hold; pieces that look like tags and control tokens come often, so that they meet characters.
ODD_PIECES = ["[FR]", "[", "]", "[[EN]]", "[E", "N]", " ", "\n", "\r\n", "\t", "🌧️", "👩‍🔬", "下雨"]
PIECES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from([*KNOWN_TAGS, *SPECIALS, *ODD_PIECES]),
)
TEXTS = st.lists(PIECES, max_size=8).map("".join)


@given(text=TEXTS)
@settings(max_examples=50, deadline=None)
def test_text_of_known_characters_comes_back_unchanged(text: str) -> None:
    tokenizer = DynamicTagTokenizer.from_texts([text])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.unknown([text]) == Counter()


@pytest.mark.parametrize(
    "text", ["", " ", "  a  b ", "line one\nline two\n", "\t\r\n", "🌧️ and 👩‍🔬", "12 + 34 = ?", "雨が降る。"]
)
def test_spaces_newlines_and_emoji_come_back_unchanged(text: str) -> None:
    tokenizer = DynamicTagTokenizer.from_texts([text])
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(texts=st.lists(TEXTS, max_size=5), asked=TEXTS)
@settings(max_examples=50, deadline=None)
def test_text_never_becomes_a_control_token(texts: list[str], asked: str) -> None:
    tokenizer = DynamicTagTokenizer.from_texts([*texts, "[PAD][BOS][SEP][EOS]"])
    control = {tokenizer.pad_id, tokenizer.bos_id, tokenizer.sep_id, tokenizer.eos_id}
    assert control.isdisjoint(tokenizer.encode(asked))


def test_a_control_token_written_out_is_read_as_its_characters() -> None:
    tokenizer = DynamicTagTokenizer.from_texts(["[EOS]"])
    ids = tokenizer.encode("[EOS]")
    assert [tokenizer.tokens[i] for i in ids] == ["[", "E", "O", "S", "]"]
    assert tokenizer.decode(ids) == "[EOS]"


def test_known_tags_are_single_tokens_without_being_in_the_data() -> None:
    tokenizer = DynamicTagTokenizer.from_texts(["abc"])
    for tag in KNOWN_TAGS:
        assert len(tokenizer.encode(tag)) == 1
        assert tokenizer.decode(tokenizer.encode(tag)) == tag


def test_a_new_tag_in_the_text_becomes_a_single_token() -> None:
    assert len(DynamicTagTokenizer.from_texts(["[FR]pluie"]).encode("[FR]")) == 1
    assert len(DynamicTagTokenizer.from_texts(["pluie [FR"]).encode("[FR]")) == 4


def test_a_tag_brought_by_the_data_may_be_in_any_script() -> None:
    tokenizer = DynamicTagTokenizer.from_texts(["下雨"], tags=["[克林贡文]"])
    assert [tokenizer.tokens[i] for i in tokenizer.encode("[克林贡文]下雨")] == ["[克林贡文]", "下", "雨"]


def test_brackets_around_ordinary_words_stay_characters() -> None:
    tokenizer = DynamicTagTokenizer.from_texts(["[not a tag] [lower] [1]"])
    assert tokenizer.tags == KNOWN_TAGS


@given(texts=st.lists(TEXTS, max_size=6), tags=st.lists(st.sampled_from(["[FR]", "[DE]", "[ZH]"])), data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_vocabulary_does_not_depend_on_the_order_of_the_data(
    texts: list[str], tags: list[str], data: st.DataObject
) -> None:
    one = DynamicTagTokenizer.from_texts(texts, tags)
    other = DynamicTagTokenizer.from_texts(data.draw(st.permutations(texts)), data.draw(st.permutations(tags)))
    assert one.tokens == other.tokens
    assert one == other
    assert hash(one) == hash(other)


def test_the_vocabulary_is_control_tokens_then_tags_then_characters_in_order() -> None:
    tokenizer = DynamicTagTokenizer.from_texts(["ba[ZH]", "雨a"], tags=["[FR]"])
    assert tokenizer.tokens == (*SPECIALS, *KNOWN_TAGS, "[FR]", "[ZH]", "H", "Z", "[", "]", "a", "b", "雨")
    assert tokenizer.vocab_size == len(tokenizer.tokens)
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.sep_id, tokenizer.eos_id) == (0, 1, 2, 3, 4)


def test_encoding_never_grows_the_vocabulary() -> None:
    tokenizer = DynamicTagTokenizer.from_texts(["abc"])
    before = tokenizer.tokens
    tokenizer.encode("完全 unknown [NEW]")
    tokenizer.unknown(["完全 unknown [NEW]"])
    assert tokenizer.tokens == before


def test_unknown_characters_become_unk_and_are_counted() -> None:
    tokenizer = DynamicTagTokenizer.from_texts(["abc"])
    ids = tokenizer.encode("axbyx")
    assert [i == tokenizer.unk_id for i in ids] == [False, True, False, True, True]
    assert tokenizer.decode(ids) == "a[UNK]b[UNK][UNK]"
    assert tokenizer.unknown(["axby", "x"]) == Counter({"x": 2, "y": 1})


@given(known=TEXTS, text=TEXTS)
@settings(max_examples=40, deadline=None)
def test_as_many_unknown_characters_are_counted_as_are_encoded(known: str, text: str) -> None:
    tokenizer = DynamicTagTokenizer.from_texts([known])
    assert tokenizer.unknown([text]).total() == tokenizer.encode(text).count(tokenizer.unk_id)


def test_a_prompt_stands_between_bos_and_sep() -> None:
    tokenizer = DynamicTagTokenizer.from_texts(["ab"])
    ids = tokenizer.prompt_ids("ab")
    assert ids == [tokenizer.bos_id, *tokenizer.encode("ab"), tokenizer.sep_id]
    assert tokenizer.decode(ids) == "ab"
    assert tokenizer.decode(ids, keep_control=True) == "[BOS]ab[SEP]"


@given(texts=st.lists(TEXTS, max_size=5), text=TEXTS)
@settings(max_examples=40, deadline=None)
def test_a_saved_tokenizer_is_the_same_tokenizer(texts: list[str], text: str) -> None:
    tokenizer = DynamicTagTokenizer.from_texts(texts, ["[FR]"])
    plain = json.loads(json.dumps(tokenizer.to_dict()))
    again = DynamicTagTokenizer.from_dict(plain)
    assert again == tokenizer
    assert again.encode(text) == tokenizer.encode(text)


def test_a_tokenizer_file_is_the_same_bytes_whatever_the_order_of_the_data(tmp_path: Path) -> None:
    DynamicTagTokenizer.from_texts(["雨", "b\n", "a"], ["[FR]", "[DE]"]).save(tmp_path / "one.json")
    DynamicTagTokenizer.from_texts(["a", "雨", "b\n"], ["[DE]", "[FR]"]).save(tmp_path / "other.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "other.json").read_bytes()
    assert DynamicTagTokenizer.load(tmp_path / "one.json").decode([*range(5, 12)]) == "".join(KNOWN_TAGS) + "[DE]"


@pytest.mark.parametrize("tag", ["FR", "[]", "[a b]", "[[FR]]", "[EOS]", "[UNK]", "[FR]x", ""])
def test_what_cannot_be_a_tag_is_refused_by_name(tag: str) -> None:
    with pytest.raises(ModelError) as refused:
        DynamicTagTokenizer("abc", [tag])
    assert repr(tag) in str(refused.value)


GOOD: dict[str, Any] = DynamicTagTokenizer.from_texts(["abc"]).to_dict()


@pytest.mark.parametrize(
    "document",
    [
        pytest.param([], id="a list"),
        pytest.param({}, id="no format"),
        pytest.param({**GOOD, "format": "bpe"}, id="another format"),
        pytest.param({**GOOD, "version": 2}, id="a later version"),
        pytest.param({**GOOD, "specials": ["[PAD]"]}, id="other control tokens"),
        pytest.param({k: v for k, v in GOOD.items() if k != "characters"}, id="no characters"),
        pytest.param({k: v for k, v in GOOD.items() if k != "tags"}, id="no tags"),
        pytest.param({**GOOD, "characters": None}, id="characters are null"),
        pytest.param({**GOOD, "characters": ["a", 1]}, id="a character is a number"),
        pytest.param({**GOOD, "characters": ["ab"]}, id="a character is two"),
        pytest.param({**GOOD, "characters": ["[EOS]"]}, id="a character is a control token"),
        pytest.param({**GOOD, "tags": [1]}, id="a tag is a number"),
        pytest.param({**GOOD, "tags": ["FR"]}, id="a tag has no brackets"),
    ],
)
def test_a_file_that_is_no_tokenizer_of_ours_is_one_clear_line(document: object, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ModelError) as refused:
        DynamicTagTokenizer.load(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b'{"format": "apt-tok', b"\xff\xfe{}", b"not json"])
def test_a_tokenizer_file_that_cannot_be_read_is_one_clear_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ModelError) as refused:
        DynamicTagTokenizer.load(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_tokenizer_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        DynamicTagTokenizer.load(tmp_path / "tokenizer.json")
