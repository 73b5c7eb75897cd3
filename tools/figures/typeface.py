"""Text in pictures: each character by the first font that has it, and none as an empty box."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from tools.figures.lettering import CJK_FONTS, FONT_ADVICE, Lettering
from tools.runs.wording import printable

LATIN = "DejaVu Sans"
"""Matplotlib brings it."""
KOREAN_FONTS = ("Noto Sans CJK KR", "Noto Sans KR", "Malgun Gothic", "Apple SD Gothic Neo", "NanumGothic")
JAPANESE_FONTS = ("Noto Sans CJK JP", "Noto Sans JP", "Yu Gothic", "Hiragino Sans", "IPAexGothic", "TakaoPGothic")
EMOJI_FONTS = ("Noto Emoji", "Symbola", "Segoe UI Emoji", "Segoe UI Symbol", "Noto Sans Symbols2", "Apple Symbols")
STAND_IN = "?"
"""Instead of a character that no font here has."""


class Typeface:
    """The fonts that this machine has for pictures, and what they cannot draw.

    Args:
        chinese, japanese, korean, emoji: families to look for, the first that is there is taken.
    """

    def __init__(
        self,
        chinese: Sequence[str] = CJK_FONTS,
        japanese: Sequence[str] = JAPANESE_FONTS,
        korean: Sequence[str] = KOREAN_FONTS,
        emoji: Sequence[str] = EMOJI_FONTS,
    ) -> None:
        self._letters = Lettering(chinese)
        there = {font.name for font in font_manager.fontManager.ttflist}
        found = [next((name for name in names if name in there), None) for names in (japanese, korean, emoji)]
        families = [LATIN, self._letters.font, *found]
        self.families = list(dict.fromkeys(name for name in families if name is not None))
        """In order of preference."""
        self.bold_families = [name for name in self.families if name not in emoji]
        """For our own words: the fonts with emoji have no bold face."""
        self._paths = [str(font_manager.findfont(name)) for name in self.families]
        self.missing: set[str] = set()
        """Characters that were asked for and that no font here has."""
        self.renamed: dict[str, str] = {}
        """Names of the data that no fonts here can draw -> what the picture calls them."""

    def label(self, chinese: str, english: str) -> str:
        """The Chinese text before the English one, or the English one alone."""
        return self._letters.label(chinese, english)

    def text(self, text: str) -> str:
        """Text of unknown origin as it can be drawn, on one line."""
        return "".join(self._drawable(character) for character in _composed(text))

    def name(self, text: str) -> str:
        """A name of the data; a numbered stand-in where it cannot be drawn, since names of `?` are all alike."""
        drawn = self.text(text)
        return drawn if drawn == _composed(text) else self.renamed.setdefault(text, f"name {len(self.renamed) + 1}")

    def _drawable(self, character: str) -> str:
        if character.isascii() or any(_has(path, character) for path in self._paths):
            return character
        self.missing.add(character)
        return STAND_IN

    def advice(self) -> list[str]:
        """What the user should know: which package brings the fonts that are missing. One line each."""
        notes = [FONT_ADVICE] if self._letters.font is None else []
        packages: dict[str, list[str]] = {}
        for character in sorted(self.missing):
            packages.setdefault(_package(character), []).append(character)
        for package, characters in packages.items():
            if package == "fonts-noto-cjk" and notes:
                continue  # said already
            notes.append(
                f"no font here has {' '.join(characters[:8])}, so the figure has a stand-in instead; on Debian and "
                f"Ubuntu `apt install {package}` brings one (then delete matplotlib's font cache)"
            )
        return notes + [f"in the figure, {drawn} is {printable(given)}" for given, drawn in self.renamed.items()]


def _composed(text: str) -> str:
    """Whole Korean syllables and accented letters, on one line."""
    return printable(unicodedata.normalize("NFC", text))


@cache
def _font(path: str) -> FT2Font:
    return FT2Font(Path(path))


@cache
def _has(path: str, character: str) -> bool:
    return _font(path).get_char_index(ord(character)) != 0


def _package(character: str) -> str:
    """The Debian package with a font for a character."""
    name = unicodedata.name(character, "")
    if unicodedata.east_asian_width(character) in "WF" and unicodedata.category(character) != "So":
        return "fonts-noto-cjk"
    if name.startswith(("CJK ", "HIRAGANA ", "KATAKANA ", "HANGUL ")):
        return "fonts-noto-cjk"
    return "fonts-symbola" if unicodedata.category(character) in ("So", "Sk", "Sm") else "fonts-noto-core"
