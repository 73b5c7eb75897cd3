"""The fonts of a picture: each character is drawn in the first font that has it, and none as an empty box."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from tools.figures.wording import printable
from training.errors import without_middle
from training.language.messages import Message, chosen_language, translated

LATIN = "DejaVu Sans"
"""The font that matplotlib brings."""
CHINESE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB", "Heiti SC",
    "Arial Unicode MS", "Noto Sans CJK JP", "Droid Sans Fallback",
)  # fmt: skip
KOREAN_FONTS = ("Noto Sans CJK KR", "Noto Sans KR", "Malgun Gothic", "Apple SD Gothic Neo", "NanumGothic")
JAPANESE_FONTS = ("Noto Sans CJK JP", "Noto Sans JP", "Yu Gothic", "Hiragino Sans", "IPAexGothic", "TakaoPGothic")
EMOJI_FONTS = ("Noto Emoji", "Symbola", "Segoe UI Emoji", "Segoe UI Symbol", "Noto Sans Symbols2", "Apple Symbols")
LONGEST_NAME = 48
"""Characters of a name that are drawn."""
REPLACEMENT = "?"
"""The sign that is drawn for a character that no font here has."""
NO_CHINESE_FONT = (
    "no font with Chinese characters was found, so the figure's labels are in English; "
    "on Debian and Ubuntu `apt install fonts-noto-cjk` brings one (then delete matplotlib's font cache)"
)


class Typeface:
    """The fonts that this machine has for pictures, and the characters that none of them can draw.

    Labels are in the language that was chosen, and where none was in Chinese and English; where no font can draw
    Chinese, they are in English, and `advice` says so.

    Args:
        chinese, japanese, korean, emoji: families to look for; the first one that is installed is taken.
    """

    def __init__(
        self,
        chinese: Sequence[str] = CHINESE_FONTS,
        japanese: Sequence[str] = JAPANESE_FONTS,
        korean: Sequence[str] = KOREAN_FONTS,
        emoji: Sequence[str] = EMOJI_FONTS,
    ) -> None:
        installed = {font.name for font in font_manager.fontManager.ttflist}
        found = [
            next((name for name in names if name in installed), None) for names in (chinese, japanese, korean, emoji)
        ]
        self._has_chinese = found[0] is not None
        self.families = list(dict.fromkeys(name for name in (LATIN, *found) if name is not None))
        """Font families in order of preference, for `rcParams["font.family"]`."""
        self.bold_families = [name for name in self.families if name not in emoji]
        """Families for bold text of the program itself: the fonts with emoji have no bold face."""
        self._paths = [str(font_manager.findfont(name)) for name in self.families]
        self.missing: set[str] = set()
        """Characters that were asked for and that no font here has."""
        self.renamed: dict[str, str] = {}
        """Names in the data that no font here can draw -> the names that the picture shows instead."""

    def label(self, message: Message, between: str = " ") -> str:
        """Return a title or an axis' name: in the chosen language, or in both.

        Args:
            message: the text.
            between: what stands between the languages; a line break where one line has no room for both.
        """
        if not self._has_chinese or chosen_language() == "en" or message.chinese == message:
            return str(message)
        return message.chinese if chosen_language() == "zh" else f"{message.chinese}{between}{message}"

    def word(self, message: str) -> str:
        """Return a word where there is room for one language only, as in a legend: Chinese for `zh`, else English."""
        return translated(message) if self._has_chinese and chosen_language() == "zh" else str(message)

    def text(self, text: str) -> str:
        """Return a text of unknown origin as it can be drawn: on one line, with `?` for what no font here has."""
        return "".join(self._drawable(character) for character in _composed(text))

    def name(self, text: str) -> str:
        """Return a name from the data, or a numbered one instead (`name 2`) where it cannot be drawn.

        Names of question marks would all look the same. `advice` lists which numbered name is which. A long name is
        shortened.
        """
        drawn = self.text(text)
        if drawn == _composed(text):
            return without_middle(drawn, LONGEST_NAME)
        return self.renamed.setdefault(text, f"name {len(self.renamed) + 1}")

    def _drawable(self, character: str) -> str:
        if character.isascii() or any(_has(path, character) for path in self._paths):
            return character
        self.missing.add(character)
        return REPLACEMENT

    def advice(self) -> list[str]:
        """Return notes for the user, one line each: which package brings a missing font, which names were replaced."""
        notes = [] if self._has_chinese or chosen_language() == "en" else [NO_CHINESE_FONT]
        packages: dict[str, list[str]] = {}
        for character in sorted(self.missing):
            packages.setdefault(_package(character), []).append(character)
        for package, characters in packages.items():
            if package == "fonts-noto-cjk" and notes:
                continue  # the first note says it already
            notes.append(
                f"no font here has {' '.join(characters[:8])}, so the figure shows a replacement; on Debian and "
                f"Ubuntu `apt install {package}` brings one (then delete matplotlib's font cache)"
            )
        return notes + [f"in the figure, {drawn} is {printable(given)}" for given, drawn in self.renamed.items()]


def _composed(text: str) -> str:
    """Return the text on one line, with whole Korean syllables and accented letters."""
    return printable(unicodedata.normalize("NFC", text))


@cache
def _font(path: str) -> FT2Font:
    return FT2Font(Path(path))


@cache
def _has(path: str, character: str) -> bool:
    return _font(path).get_char_index(ord(character)) != 0


def _package(character: str) -> str:
    """Return the Debian package that brings a font for a character."""
    name = unicodedata.name(character, "")
    if unicodedata.east_asian_width(character) in "WF" and unicodedata.category(character) != "So":
        return "fonts-noto-cjk"
    if name.startswith(("CJK ", "HIRAGANA ", "KATAKANA ", "HANGUL ")):
        return "fonts-noto-cjk"
    return "fonts-symbola" if unicodedata.category(character) in ("So", "Sk", "Sm") else "fonts-noto-core"
