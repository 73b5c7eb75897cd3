"""Pieces of Markdown: tables, and text of unknown origin that must stay text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_MARKUP = re.compile(r"([\\`*|<>\[\]~])")


def plain(text: object) -> str:
    """`text` so that Markdown shows it as it is, on one line."""
    line = " ".join(str(text).split())
    return _MARKUP.sub(r"\\\1", "".join(c if c.isprintable() else "?" for c in line))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Lines of a table: the first column to the left, the others to the right."""
    yield f"| {' | '.join(map(plain, head))} |"
    yield f"|{'|'.join(['---', *['--:'] * (len(head) - 1)])}|"
    for row in rows:
        yield f"| {' | '.join(map(plain, row))} |"


def percent(rate: float) -> str:
    """`88.1 %`."""
    return f"{100 * rate:.1f} %"
