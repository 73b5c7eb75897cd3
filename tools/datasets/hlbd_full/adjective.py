"""Qualities: adjectives with the nouns or people they are said of."""

from __future__ import annotations

from dataclasses import dataclass

from tools.datasets.hlbd_full.japanese import JapaneseAdjective
from tools.datasets.hlbd_full.korean_verb import KoreanVerb


@dataclass(frozen=True)
class Adjective:
    """A quality. of: kinds of nouns it fits; uses: ``too`` (太烫了) and ``not`` (不甜) where that is natural."""

    zh: str
    en: str
    ja: JapaneseAdjective
    ko: KoreanVerb
    of: str
    uses: frozenset[str]

    def chinese(self, degree: str) -> str:
        """With a word of degree: 很 甜; 个子 很 高."""
        topic, _, word = self.zh.rpartition(" ") if self.zh.startswith("个子") else ("", "", self.zh)
        return f"{topic} {degree} {word}".strip()


def quality(zh: str, en: str, ja: str, ko: str, of: str = "", uses: str = "") -> Adjective:
    """One row of a table of adjectives."""
    return Adjective(zh, en, JapaneseAdjective(ja), KoreanVerb.parse(ko), of, frozenset(uses.split()))
