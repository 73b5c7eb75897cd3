"""Reverse English: spell a word backwards. Its common words in `words.txt` were written for this project."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tools.datasets.hlbd_hardcore.fact import Axes, Fact, Kind

MODULE = "reverse_english"
LEXICON = Path(__file__).with_name("words.txt")


@cache
def words() -> tuple[str, ...]:
    """Return the words of `words.txt` in its (alphabetical) order: lower case, 3 to 8 letters, no palindromes."""
    return tuple(LEXICON.read_text(encoding="utf-8").split())


def _word_identity(word: str) -> str:
    return f"{MODULE}/word/{word}"


def _rhyme_identity(word: str) -> str:
    """Return the identity of a rhyme: words in -iddle are reserved together, so that they can form a contrast group."""
    return f"{MODULE}/rhyme/{word[1:]}"


def _word(index: int) -> Fact:
    word = words()[index]
    return Fact(
        MODULE,
        "word",
        {"head": word[0], "tail": word[1:]},
        word[::-1],
        _word_identity(word),
        reveals=(_rhyme_identity(word),),
    )


@cache
def _short_words() -> tuple[str, ...]:
    """Return the words of up to four letters that training may use; pairs are made of these alone."""
    facts = (_word(index) for index in range(len(words())))
    return tuple(fact.answer[::-1] for fact in facts if len(fact.answer) <= 4 and not fact.is_reserved())


def _pair(first: int, second: int) -> Fact:
    head, tail = _short_words()[first], _short_words()[second]
    pair = f"{head} {tail}"
    return Fact(MODULE, "pair", {"head": head, "tail": " " + tail}, pair[::-1], f"{MODULE}/pair/{pair}")


def _pair_axes(reach: int) -> Axes:
    """Return the axes of pairs: none at reach 1, because pairs enter only when a file is too large for the lexicon."""
    some = range(min(80 * (reach - 1), len(_short_words())))
    return (some, some)


_PHRASINGS = (
    "把 {head}{tail} 倒过来拼写",
    "把单词 {head}{tail} 倒着拼出来。",
    "{head}{tail} 倒过来怎么拼？",
    "{head}{tail} 倒着写是什么？",
    "将 {head}{tail} 的字母倒序写出。",
    "{head}{tail} 的字母倒过来是什么？",
    "英文 {head}{tail} 倒着拼是什么？",
    "请倒着拼写 {head}{tail}。",
    "倒序拼写：{head}{tail}",
    "{head}{tail} 从后往前怎么拼？",
    "把 {head}{tail} 从后往前写。",
    "{head}{tail} 反过来怎么写？",
)
_HELD_OUT = (
    "请把 {head}{tail} 倒着写出来。",
    "{head}{tail} 反过来怎么拼？",
    "将 {head}{tail} 从后往前拼出。",
)

KINDS = (
    Kind("word", lambda reach: (range(len(words())),), _word, _PHRASINGS, _HELD_OUT, contrast=("head",)),
    # Built from words that training may use anyway, so a pair gives nothing away: none is reserved.
    Kind("pair", _pair_axes, _pair, _PHRASINGS, _HELD_OUT, rote=True),
)
