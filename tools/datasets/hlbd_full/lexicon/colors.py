"""Colours."""

from __future__ import annotations

from dataclasses import dataclass

from tools.datasets.hlbd_full.languages.japanese import JapaneseAdjective


@dataclass(frozen=True)
class Color:
    """A colour: as a quality (赤い) and as a noun (赤; Korean uses the noun for both: 빨간색)."""

    zh: str
    char: str
    emoji: str
    en: str
    ja: JapaneseAdjective
    ja_noun: str
    ko: str


def _color(zh: str, emoji: str, en: str, ja: str, ja_noun: str, ko: str) -> Color:
    return Color(zh, zh[0], emoji, en, JapaneseAdjective(ja), ja_noun, ko)


COLORS: tuple[Color, ...] = (
    _color("红色", "🔴", "red", "赤い", "赤", "빨간색"),
    _color("蓝色", "🔵", "blue", "青い", "青", "파란색"),
    _color("绿色", "🟢", "green", "緑色の", "緑", "초록색"),
    _color("黄色", "🟡", "yellow", "黄色い", "黄色", "노란색"),
    _color("白色", "⚪", "white", "白い", "白", "흰색"),
    _color("黑色", "⚫", "black", "黒い", "黒", "검은색"),
    _color("紫色", "🟣", "purple", "紫色の", "紫", "보라색"),
    _color("粉色", "🩷", "pink", "ピンクの", "ピンク", "분홍색"),
    _color("灰色", "🩶", "gray", "灰色の", "灰色", "회색"),
    _color("棕色", "🟤", "brown", "茶色い", "茶色", "갈색"),
    _color("橙色", "🟠", "orange", "オレンジ色の", "オレンジ色", "주황색"),
)

BY_NAME = {color.zh: color for color in COLORS}
