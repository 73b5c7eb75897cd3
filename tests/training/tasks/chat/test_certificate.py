"""Certificate of the loss mask: its counts, its lines, its refusal, and a sample as it is shown."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.training.tasks.chat.known_templates import LLAMA3, QWEN3, SMOLLM2, small_tokenizer
from training.errors import DataError
from training.tasks.causal_lm.shown_samples import show
from training.tasks.chat.certificate import MaskCertificate
from training.tasks.chat.formats import Conversation
from training.tasks.chat.masks import EncodedConversation, LossOn, encode
from training.tasks.chat.template import find_template
from training.tasks.token_dataset import EncodedSample

pytestmark = pytest.mark.slow  # imports transformers


def chat(*texts: str) -> Conversation:
    roles = ("user", "assistant")
    return Conversation([{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)], None, 1)


def encoded(tokenizer: Any, *texts: str, loss_on: LossOn = "assistant") -> EncodedConversation:
    return encode(tokenizer, find_template(None, tokenizer), chat(*texts), loss_on, "row")


def sample(tokens: Sequence[int], trained: Sequence[int], **settings: Any) -> EncodedConversation:
    return EncodedConversation(np.array(tokens, dtype=np.int32), np.array(trained, dtype=np.bool_), **settings)


def test_the_counts_of_some_rows() -> None:
    tokenizer = small_tokenizer(chat_template=SMOLLM2)
    rows = [encoded(tokenizer, "2 + 2?", "4"), encoded(tokenizer, "2 + 2?", "4", "Sure?", "Yes, two and two is four.")]
    found = MaskCertificate.of(tokenizer)
    for number, row in enumerate(rows, start=1):
        found.add(row, tokenizer, f"chats.jsonl, line {number}")
    assert (found.rows, found.turns, found.stops) == (2, 3, {"<|im_end|>": 3})
    assert found.tokens == sum(len(row.tokens) for row in rows)
    assert found.trained == sum(row.trained.sum() for row in rows)
    assert found.untrained_rows == found.cut_rows == found.cut_answers == found.double_bos == found.unknown == 0
    assert found.pad_is_eos
    found.check()


def test_a_cut_before_in_and_after_the_answer() -> None:
    tokenizer = small_tokenizer(chat_template=SMOLLM2)
    row = encoded(tokenizer, "2 + 2?", "It is four.")
    first, last = np.flatnonzero(row.trained)[[0, -1]]
    for kept, cut, answer, untrained, stops in (
        (len(row.tokens) + 5, 0, 0, 0, 1),
        (last + 1, 1, 0, 0, 1),
        (last, 1, 1, 0, 0),
        (first, 1, 1, 1, 0),
    ):
        found = MaskCertificate.of(tokenizer)
        found.add(row, tokenizer, "a", int(kept))
        assert (found.cut_rows, found.cut_answers, found.untrained_rows) == (cut, answer, untrained)
        assert sum(found.stops.values()) == stops
        assert found.tokens == min(kept, len(row.tokens))


def test_data_that_trains_nothing_are_refused() -> None:
    tokenizer = small_tokenizer(chat_template=SMOLLM2)
    found = MaskCertificate.of(tokenizer)
    found.add(sample([1, 2], [0, 0], turns=0, stops=()), tokenizer, "a.jsonl, line 3")
    with pytest.raises(DataError, match=r"no token of the 1 rows is trained.*\(first: a\.jsonl, line 3\)"):
        found.check()
    found.add(encoded(tokenizer, "a", "b"), tokenizer, "a.jsonl, line 4", kept=5)
    with pytest.raises(DataError, match=r"1 are cut before their answer begins \(first: a\.jsonl, line 4\)"):
        found.check()


def test_a_doubled_bos_is_counted() -> None:
    tokenizer = small_tokenizer(chat_template="{{ bos_token }}" + LLAMA3)
    found = MaskCertificate.of(tokenizer)
    found.add(encoded(tokenizer, "a", "b"), tokenizer, "x")
    assert found.double_bos == 1
    assert found.first["double_bos"] == "x"


def test_the_facts_are_json_and_come_back() -> None:
    tokenizer = small_tokenizer(chat_template=QWEN3)
    found = MaskCertificate.of(tokenizer)
    found.add(encoded(tokenizer, "a", "b", "c", "d"), tokenizer, "x", kept=9)
    assert found.notes == {"rewritten": 1}
    again = MaskCertificate.from_facts(json.loads(json.dumps(found.facts())))
    assert again == found
    assert list(again.lines()) == list(found.lines())


def width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def test_the_table_is_aligned_and_fits_the_terminal_in_both_languages() -> None:
    tokenizer = small_tokenizer(chat_template=LLAMA3.replace("<|eot_id|>", "<|im_start|>"), eos_token="</s>")
    found = MaskCertificate.of(tokenizer)
    found.add(encoded(tokenizer, "2 + 2?", "4"), tokenizer, "a/very/long/path/of/chats.jsonl, line 1234567", kept=20)
    found.add(encoded(tokenizer, "2 + 2?", "4"), tokenizer, "chats.jsonl, line 2")
    found.rows, found.tokens, found.turns = 12_345_678, 123_456_789, 999_999_999
    found.notes = {"rewritten": 7, "stop outside tags": 7_000_000, "prompt in tags": 7_000_000}
    lines = list(found.lines())
    for texts in (lines, [line.chinese for line in lines]):
        assert max(map(width, texts)) <= 80
        table = [text.split("  first")[0].split("  首例")[0] for text in texts[:12]]
        ends = {width(text) for text in (table[0], table[3], table[4], table[5], table[9])}
        assert ends == {47}
    assert all(line.chinese != line for line in lines)
    assert "turns whose stop token is trained" in lines[10]
    assert "<|im_start|>" in lines[10]
    assert any("answers end by <|im_start|>, not </s>" in line for line in lines)


# -- a sample shown ------------------------------------------------------------------------------------------------


def test_a_sample_shows_what_is_trained() -> None:
    tokenizer = small_tokenizer(chat_template=SMOLLM2)
    row = encoded(tokenizer, "Why? 🌧️\x1b[31m", "Because.\nRain.")
    assert show(tokenizer, row, color=False) == [
        "<|im_start|>system↵",
        "You answer as a small model.<|im_end|>↵",
        "<|im_start|>user↵",
        "Why? 🌧️\\x1b[31m<|im_end|>↵",
        "<|im_start|>assistant↵",
        "⟦Because.↵",
        "Rain.<|im_end|>⟧↵",
    ]


def test_colours_end_with_each_line() -> None:
    tokenizer = small_tokenizer(chat_template=SMOLLM2)
    row = encoded(tokenizer, "a", "b\nc")
    assert show(tokenizer, EncodedSample(row.tokens, row.trained), color=True)[-3:] == [
        "\x1b[2m<|im_start|>assistant↵\x1b[0m",
        "\x1b[32mb↵\x1b[0m",
        "\x1b[32mc<|im_end|>\x1b[0m\x1b[2m↵\x1b[0m",
    ]


def test_a_character_of_several_tokens_is_shown_whole() -> None:
    tokenizer = small_tokenizer()
    tokens = np.array(tokenizer.encode("a🌧b"), dtype=np.int32)
    assert len(tokens) > 3
    trained = np.array([False, False] + [True] * (len(tokens) - 2))
    assert show(tokenizer, EncodedSample(tokens, trained), color=False) == ["a⟦🌧b⟧"]


def test_nothing_is_shown_of_nothing() -> None:
    assert show(small_tokenizer(), sample([], [], turns=0, stops=()), color=False) == []
