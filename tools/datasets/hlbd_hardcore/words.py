"""The English lexicon of the reversal module: common words, written for this project."""

from __future__ import annotations

from functools import cache
from pathlib import Path

LEXICON = Path(__file__).with_name("words.txt")


@cache
def words() -> tuple[str, ...]:
    """Return the words of `words.txt` in its (alphabetical) order: lower case, 3 to 8 letters, no palindromes."""
    return tuple(LEXICON.read_text(encoding="utf-8").split())
