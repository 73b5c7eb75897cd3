"""Things and animals, with the measure word or counter each language counts them by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tools.datasets.hlbd_full import english


class Number(Enum):
    """How English treats the noun: an apple, these pants, milk."""

    ONE = "one"
    PAIR = "pair"
    MASS = "mass"


@dataclass(frozen=True)
class Noun:
    """A thing or an animal.

    measure: Chinese measure word; ja_counter, ko_counter: counters (本が二冊, 책이 두 권).
    kinds: what it is like, for choosing adjectives and places that fit.
    """

    zh: str
    char: str
    emoji: str
    en: str
    number: Number
    ja: str
    ko: str
    measure: str
    ja_counter: str
    ko_counter: str
    kinds: frozenset[str]

    @property
    def this(self) -> str:
        """this apple, these pants."""
        return f"{'these' if self.number is Number.PAIR else 'this'} {self.en}"

    @property
    def are(self) -> str:
        """is or are."""
        return "are" if self.number is Number.PAIR else "is"

    def one(self, adjective: str = "") -> str:
        """a red apple, red pants, fresh milk."""
        named = f"{adjective} {self.en}".strip()
        return english.with_article(named) if self.number is Number.ONE else named

    @property
    def general(self) -> str:
        """The kind as a whole: apples, pants, milk."""
        return english.plural(self.en) if self.number is Number.ONE else self.en


def noun(row: str) -> Noun:
    """Parse one row of a table: eleven columns separated by ``|`` (see the tables).

    Raises:
        ValueError: a row with a column too many or too few.
    """
    columns = [column.strip() for column in row.split("|")]
    zh, char, emoji, en, number, ja, ko, measure, ja_counter, ko_counter, kinds = columns
    return Noun(zh, char, emoji, en, Number(number), ja, ko, measure, ja_counter, ko_counter, frozenset(kinds.split()))


def table(text: str) -> tuple[Noun, ...]:
    """One noun a line."""
    return tuple(noun(line) for line in text.strip().splitlines())
