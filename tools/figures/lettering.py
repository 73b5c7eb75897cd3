"""Text in figures: Chinese where a font can draw it, English where none can."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import font_manager

CJK_FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB", "Heiti SC",
    "Arial Unicode MS", "Noto Sans CJK JP", "Droid Sans Fallback",
)  # fmt: skip
FONT_ADVICE = (
    "no font with Chinese characters was found, so the figure's labels are in English; "
    "on Debian and Ubuntu `apt install fonts-noto-cjk` brings one (then delete matplotlib's font cache)"
)


class Lettering:
    """Labels in Chinese and English where a font can draw Chinese, else in English."""

    def __init__(self, fonts: Sequence[str] = CJK_FONTS) -> None:
        there = {font.name for font in font_manager.fontManager.ttflist}
        self.font = next((name for name in fonts if name in there), None)
        self.renamed: dict[str, str] = {}
        """Names of the data that no font here can draw -> what the figure calls them."""

    def label(self, chinese: str, english: str) -> str:
        """The Chinese text before the English one, or the English one alone."""
        return f"{chinese} {english}" if self.font else english

    def name(self, text: str) -> str:
        """A name from the data; a numbered stand-in where it cannot be drawn."""
        if self.font or text.isascii():
            return text
        return self.renamed.setdefault(text, f"name {len(self.renamed) + 1}")

    def families(self) -> list[str]:
        """Font families in order of preference; Latin letters in matplotlib's own font."""
        return ["DejaVu Sans", *([self.font] if self.font else [])]
