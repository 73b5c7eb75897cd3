"""Durations, numbers and foreign text as the table and the picture show them."""

from __future__ import annotations

import unicodedata

_JOINERS = {"\u200d", "\ufe0e", "\ufe0f"}
"""They join or vary emoji. A font without colours shows no difference, and terminals disagree on their width."""


def duration(seconds: float) -> str:
    """`8s`, `3m20s`, `5h12m`, `3d04h`."""
    total = max(0, round(seconds))
    days, hours, minutes = total // 86400, total // 3600 % 24, total // 60 % 60
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{total % 60:02d}s" if minutes else f"{total}s"


def rate(per_second: float) -> str:
    """`85`, `1.2k`, `340k`, `2.1M`."""
    for unit, scale in (("M", 1e6), ("k", 1e3)):
        if per_second >= scale:
            return f"{per_second / scale:.1f}{unit}" if per_second < 100 * scale else f"{per_second / scale:.0f}{unit}"
    return f"{per_second:.0f}"


def figure(value: float) -> str:
    """A loss in at most seven columns: `0.1234`, `12.34`, `1.2e-05`."""
    size = abs(value)
    if size >= 1e4 or 0.0 < size < 0.001:
        return f"{value:.1e}"
    return f"{value:.4f}" if size < 10.0 else f"{value:.4g}"


def printable(text: str) -> str:
    """Text of unknown origin on one line, without control codes that a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text if c not in _JOINERS)


def columns_of(text: str) -> int:
    """Columns that a text takes: Chinese, Japanese and Korean characters and emoji take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def shortened(text: str, columns: int) -> str:
    """The end of a text that takes no more columns: what tells a path from its neighbours."""
    if columns_of(text) <= columns:
        return text
    while columns_of(text) >= columns:
        text = text[1:]
    return "~" + text


def cut(text: str, columns: int) -> str:
    """The beginning of a text that takes no more columns."""
    if columns_of(text) <= columns:
        return text
    while columns_of(text) >= columns:
        text = text[:-1]
    return text + "~"


def in_two_lines(text: str, columns: int) -> str:
    """The beginning of a text, on two lines of so many columns at most, broken at a space where it can be."""
    if columns_of(text) <= columns:
        return text
    end = len(text)
    while columns_of(text[:end]) > columns:
        end -= 1
    space = text.rfind(" ", end // 2, end + 1)
    first = text[: space if space > 0 else end]
    return f"{first}\n{cut(text[len(first) :].lstrip(), columns)}"
