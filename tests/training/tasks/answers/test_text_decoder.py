"""Answers decoded piece by piece: whole characters only, and together the text of all tokens."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from training.models.tokenizers import control_tokens, train_bpe
from training.tasks.answers.text_decoder import MOST_HELD, TextDecoder

pytestmark = pytest.mark.slow


@cache
def byte_level() -> PreTrainedTokenizerFast:
    return train_bpe(["Text"], 260)


@cache
def byte_fallback() -> PreTrainedTokenizerFast:
    """A tokenizer in the style of SentencePiece: pieces with a mark for the space, and bytes for all else."""
    from tokenizers import Tokenizer, decoders, models

    pieces = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁Hello", "▁world", "你"]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")


def pieces_of(tokenizer: PreTrainedTokenizerFast, tokens: list[int]) -> list[str]:
    decoder = TextDecoder(tokenizer)
    return [*(decoder.add(token) for token in tokens), decoder.finish()]


def test_no_piece_holds_half_of_a_character() -> None:
    text = "Hé 你好 😀👩‍👩‍👧 end"
    tokens = byte_level()(text, add_special_tokens=False)["input_ids"]
    assert len(tokens) == len(text.encode())
    pieces = pieces_of(byte_level(), tokens)
    assert "".join(pieces) == text
    assert [piece for piece in pieces if piece] == list(text)


def test_bytes_among_pieces_become_characters_when_they_are_whole() -> None:
    tokenizer = byte_fallback()
    emoji = [tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in "😀好".encode()]
    hello, world = tokenizer.convert_tokens_to_ids(["▁Hello", "▁world"])
    pieces = pieces_of(tokenizer, [hello, *emoji, world, world])
    assert pieces == ["Hello", "", "", "", "😀", "", "", "好", " world", " world", ""]


def test_control_tokens_are_no_text_and_the_unknown_one_is() -> None:
    tokenizer = byte_fallback()
    assert control_tokens(tokenizer) == {tokenizer.eos_token_id}
    assert "".join(pieces_of(tokenizer, [tokenizer.eos_token_id, tokenizer.unk_token_id])) == "<unk>"


def test_an_open_character_at_the_end_is_shown_as_broken() -> None:
    tokens = byte_level()("a好", add_special_tokens=False)["input_ids"][:-1]
    assert pieces_of(byte_level(), tokens) == ["a", "", "", "\ufffd"]


def test_bytes_that_are_never_a_character_are_not_held_for_ever() -> None:
    [broken] = byte_level().convert_tokens_to_ids(["ÿ"])  # byte 255, as byte-level tokenizers write it
    pieces = pieces_of(byte_level(), [broken] * 100)
    assert "".join(pieces) == "\ufffd" * 100
    assert max(map(len, pieces)) <= MOST_HELD + 1


@given(st.lists(st.integers(0, 259), max_size=60))
def test_all_pieces_are_the_text_of_all_tokens(tokens: list[int]) -> None:
    tokenizer = byte_level()
    assert "".join(pieces_of(tokenizer, tokens)) == tokenizer.decode(tokens, skip_special_tokens=True)


@given(st.lists(st.sampled_from(["▁Hello", "▁world", "你", *"é好😀"]), max_size=30))
def test_all_pieces_are_the_text_of_all_tokens_with_bytes_among_them(parts: list[str]) -> None:
    tokenizer = byte_fallback()
    names = [
        name for part in parts
        for name in ([part] if len(part) > 1 or part == "你" else [f"<0x{byte:02X}>" for byte in part.encode()])
    ]  # fmt: skip
    tokens = tokenizer.convert_tokens_to_ids(names)
    assert "".join(pieces_of(tokenizer, tokens)) == tokenizer.decode(tokens, skip_special_tokens=True)
