"""Durations, numbers, foreign text and aligned columns, as tables and pictures show them. No matplotlib."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from training.errors import printable as escaped
from training.errors import without_middle
from training.language.messages import Message, translated

LONGEST_CELL = 80
"""Characters of a table's cell."""
LONGEST_NUMBER = 8
"""Digits of a setting's value that is shown in full."""
_EMOJI_STYLE = "\ufe0f"
_JOINERS = {"\u200d", "\ufe0e", _EMOJI_STYLE}
"""Signs that join or vary emoji. A font without colours shows no difference, and terminals disagree on their width."""


def rate(per_second: float) -> str:
    """Return a rate in a few columns: `85`, `1.2k`, `340k`, `2.1M`."""
    for unit, scale in (("M", 1e6), ("k", 1e3)):
        if per_second >= scale:
            return f"{per_second / scale:.1f}{unit}" if per_second < 100 * scale else f"{per_second / scale:.0f}{unit}"
    return f"{per_second:.0f}"


def figure(value: float) -> str:
    """Return a loss in at most seven columns: `0.1234`, `12.34`, `1.2e-05`."""
    size = abs(value)
    if size >= 1e4 or 0.0 < size < 0.001:
        return f"{value:.1e}"
    return f"{value:.4f}" if size < 10.0 else f"{value:.4g}"


def size_text(count: int) -> str:
    """Return a number of bytes in binary units: `1.5 GiB`, `300 MiB`, `12 KiB`."""
    for size, unit in ((2**30, "GiB"), (2**20, "MiB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1024:.0f} KiB"


def printable(text: str) -> str:
    """Return a text of unknown origin on one line, escaped as in error messages, and without joiners of emoji."""
    return escaped("".join(c for c in text if c not in _JOINERS))


def columns_of(text: str) -> int:
    """Return how many columns a terminal gives to a text: CJK characters and emoji take two, combining marks none."""
    columns = last = 0
    for character in text:
        if character == _EMOJI_STYLE:  # turns a narrow sign into a wide picture
            own = 2 - last
        elif unicodedata.category(character) in ("Mn", "Me", "Cf"):
            own = 0
        else:
            own = last = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        columns += own
    return columns


def aligned(rows: Sequence[Sequence[str]], indent: str = "  ") -> Iterator[str]:
    """Yield one line per row with aligned columns: the first column flush left, the others flush right.

    What came from outside is escaped (`printable`).
    """
    rows = [[without_middle(printable(cell), LONGEST_CELL) for cell in row] for row in rows]
    widths = [max(columns_of(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        cells = [" " * (w - columns_of(c)) + c for c, w in zip(row, widths, strict=True)]
        first = row[0] + " " * (widths[0] - columns_of(row[0]))
        yield (indent + "  ".join([first, *cells[1:]])).rstrip()


def setting_text(value: Any) -> str:
    """Return a setting's value as short as it is exact enough: `0.0003` for 0.00030000000000000003."""
    text = str(value)
    return f"{value:.4g}" if isinstance(value, float) and len(text) > LONGEST_NUMBER else text


def head_of(*names: Message) -> list[str]:
    """Return the head of a table, in the chosen language."""
    return list(map(translated, names))


def shortened(text: str, columns: int) -> str:
    """Return the end of a text in at most `columns` columns: the end tells a path from its neighbours."""
    if columns_of(text) <= columns:
        return text
    while columns_of(text) >= columns:
        text = text[1:]
    return "~" + text


def cut(text: str, columns: int) -> str:
    """Return the beginning of a text in at most `columns` columns."""
    if columns_of(text) <= columns:
        return text
    while columns_of(text) >= columns:
        text = text[:-1]
    return text + "~"


def told_apart(texts: Sequence[str], columns: int) -> list[str]:
    """Return texts in at most `columns` columns each, shortened so that different ones stay different.

    Their ends are kept, else their beginnings, else both; where even these are the same, they are numbered.
    """
    for short in (shortened, cut, _without_middle):
        found = [short(text, columns) for text in texts]
        if len(set(found)) == len(set(texts)):
            return found
    order = {text: n for n, text in enumerate(dict.fromkeys(texts), start=1)}
    return [f"{cut(text, columns - len(mark))}{mark}" for text in texts for mark in [f"#{order[text]}"]]


def _without_middle(text: str, columns: int) -> str:
    if columns_of(text) <= columns:
        return text
    end = shortened(text, columns // 2)
    return cut(text, columns - columns_of(end) + 1).removesuffix("~") + end


def in_lines(parts: Sequence[str], columns: int, most: int) -> str:
    """Return parts with commas between them on lines of about `columns` columns; the rest is counted: `, +2`."""
    lines = [""]
    for n, part in enumerate(parts):
        joined = f"{lines[-1]}, {part}" if lines[-1] else part
        if not lines[-1] or columns_of(joined) <= columns:
            lines[-1] = joined
        elif len(lines) < most:
            lines.append(part)
        else:
            lines[-1] += f", +{len(parts) - n}"
            break
    return "\n".join(lines)


def in_two_lines(text: str, columns: int) -> str:
    """Return the beginning of a text on two lines of at most `columns` columns, broken at a space where possible."""
    if columns_of(text) <= columns:
        return text
    end = len(text)
    while columns_of(text[:end]) > columns:
        end -= 1
    space = text.rfind(" ", end // 2, end + 1)
    first = text[: space if space > 0 else end]
    return f"{first}\n{cut(text[len(first) :].lstrip(), columns)}"
