"""Chinese text written as words: ``"妹妹 高兴 地 唱歌"``.

Inside the lexicon and the patterns a Chinese phrase is a string of words separated by single spaces, because
pinyin is written by word. Three marks are allowed in a word and never reach the reader:

* ``/`` gives a reading that the characters alone do not decide: ``得/děi`` (must), but ``得`` (particle);
* ``+`` joins a separable verb: ``跑+步`` is one word (pǎobù) until something steps between: 跑-了 步;
* ``-`` joins a suffix that is written with its word but read by itself: ``穿-着`` (chuānzhe), ``孩子-们``.

A word that is only punctuation (``，``) is kept in the text and has no pinyin.
"""

from __future__ import annotations

from functools import lru_cache

PUNCTUATION = "，。？！、"


def words(phrase: str) -> list[str]:
    """Return the words of a spaced phrase, marks included."""
    return phrase.split()


def bare(word: str) -> str:
    """Return a word without its marks: ``得/děi`` -> ``得``, ``理+发/fà`` -> ``理发``, ``穿-着`` -> ``穿着``."""
    pieces = word.replace("-", "+").split("+")
    return "".join(piece.partition("/")[0] for piece in pieces)


@lru_cache(maxsize=65536)
def hanzi(phrase: str) -> str:
    """Return the text that a reader sees: no spaces, no marks."""
    return "".join(bare(word) for word in words(phrase))


def split_verb(phrase: str) -> tuple[str, str]:
    """Return the verb and the rest, so that 了, 过, 着 and 的 can step between.

    ``"洗 衣服"`` -> ``("洗", "衣服")``, ``"跑+步"`` -> ``("跑", "步")``, ``"休息"`` -> ``("休息", "")``.
    """
    first, _, rest = phrase.partition(" ")
    verb, plus, object_ = first.partition("+")
    if plus:
        return verb, f"{object_} {rest}".strip()
    return first, rest


def after_verb(phrase: str, particle: str) -> str:
    """Put a particle behind the verb: 洗-了 衣服, 去-过 北京; 的 is a word of its own: 洗 的 衣服."""
    verb, rest = split_verb(phrase)
    joint = " " if particle == "的" else "-"
    return f"{verb}{joint}{particle} {rest}".strip()
