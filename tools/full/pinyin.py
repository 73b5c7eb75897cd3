"""Pinyin of a Chinese phrase, word by word.

Orthography (after GB/T 16159, the Chinese standard, as teaching material writes it):

* a word is written together, words are separated by spaces; the particles 的 地 得 了 着 过 are words;
* tone marks; a neutral tone has no mark (``māma``, ``dōngxi``);
* 一 and 不 keep their dictionary tone (``yī gè``, ``bù shì``): sandhi is spoken, not written;
* a syllable that begins with a, o or e inside a word takes an apostrophe (``nǚ'ér``);
* names begin with a capital (``Běijīng``); there is no sentence capital and no punctuation.

Readings come from pypinyin. A word in READINGS overrules it, and ``word/reading`` overrules both.
"""

from __future__ import annotations

import unicodedata
from functools import cache

from pypinyin import Style
from pypinyin import pinyin as readings_of

from tools.full.chinese import PUNCTUATION, words

READINGS: dict[str, str] = {}
"""Words whose reading pypinyin does not know: mostly neutral tones, and characters of several readings."""

NAMES: frozenset[str] = frozenset()


@cache
def word_pinyin(word: str) -> str:
    """Pinyin of one word; ``""`` for punctuation.

    Raises:
        ValueError: a character of the word has no reading.
    """
    text, _, given = word.partition("/")
    text = text.replace("+", "")
    if all(char in PUNCTUATION for char in text):
        return ""
    reading = given or READINGS.get(text) or _joined(text)
    return reading[0].upper() + reading[1:] if text in NAMES else reading


def pinyin(phrase: str) -> str:
    """Pinyin of a spaced phrase: ``pinyin("天 下+雨 了")`` -> ``"tiān xiàyǔ le"``."""
    return " ".join(filter(None, map(word_pinyin, words(phrase))))


def _joined(text: str) -> str:
    syllables = [choices[0] for choices in readings_of(text, style=Style.TONE, errors="ignore")]
    if len(syllables) != len(text):
        raise ValueError(f"no pinyin for every character of {text!r}: {syllables}")
    first, *rest = syllables
    return first + "".join(f"'{part}" if _plain(part[0]) in "aoe" else part for part in rest)


def _plain(letter: str) -> str:
    return unicodedata.normalize("NFD", letter)[0]
