"""One question: a prompt with its truth, and its origin."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import cached_property


class Split(StrEnum):
    """The origin of a question; from PARAPHRASE on: the `kind` of a row in a `*_Heldout.json`."""

    TRAIN = "train"
    VALIDATION = "validation"
    """Held back from a training file by the run's `validation_split`."""
    PARAPHRASE = "paraphrase"
    NEW_FACT = "new_fact"
    CONTRAST = "contrast"


MASK = "□"
"""The sign for an operand in a template."""

_LEADING_TAGS = re.compile(r"(?:\[[^\[\]\s\d][^\[\]\s]{0,23}\])+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
# These change from fact to fact in HLBD: numbers, Latin words and the twelve animals. Letters right behind a number
# or a slash are a unit (70kg, m/s) and belong to the template; so do single letters (g, R).
_OPERAND = re.compile(r"\d+(?:\.\d+)?|(?<![A-Za-z\d/·])[A-Za-z]{2,}|[鼠牛虎兔龙蛇马羊猴鸡狗猪]")


def normalised(text: str) -> str:
    """Return the text in the form in which answers are compared: Unicode NFC, nothing more.

    NFC, because "é" may be encoded in two ways that look the same. Not NFKC, which would take "m/s2" for "m/s²"; and no
    stripping: the model ends its own answers, and a space too many is a mistake.
    """
    return unicodedata.normalize("NFC", text)


def numbers_in(text: str) -> tuple[Decimal, ...]:
    """Return the numbers written in digits, in order; "m/s²" holds none."""
    return tuple(Decimal(found) for found in _NUMBER.findall(text))


def only_number(text: str) -> Decimal | None:
    """Return the one number in an answer, without its unit; None if it has none or several."""
    found = numbers_in(text)
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class Question:
    """One question. Its wording splits into a template and operands: `□加□得多少？` and (`12`, `34`)."""

    prompt: str
    truth: str
    module: str
    split: Split
    entry: int
    """Number of the row or concept; the questions about one concept share it."""
    group: str = ""
    """Contrast group: its rows differ in one operand and in the answer."""

    @cached_property
    def tags(self) -> str:
        """The tags in front, as they are written: `[EN]`, `[ZH][EMOJI]`; the first says what is asked for."""
        found = _LEADING_TAGS.match(self.prompt)
        return found.group() if found else ""

    @cached_property
    def asked_tag(self) -> str:
        """The first tag, or nothing."""
        return self.tags[: self.tags.index("]") + 1] if self.tags else ""

    @cached_property
    def content(self) -> str:
        """The prompt behind the tag that says what is asked for."""
        return self.prompt[len(self.asked_tag) :]

    @cached_property
    def template(self) -> str:
        """The prompt with its operands masked. Of a tagged prompt everything behind the tags is operand."""
        return self.tags + MASK if self.tags else _OPERAND.sub(MASK, self.prompt)

    @cached_property
    def operands(self) -> tuple[str, ...]:
        """The parts that the template leaves out, in order."""
        if self.tags:
            return (self.prompt[len(self.tags) :],)
        return tuple(found.group() for found in _OPERAND.finditer(self.prompt))

    @cached_property
    def numbers(self) -> tuple[Decimal, ...]:
        """The numbers of the prompt."""
        return numbers_in(self.prompt)

    @cached_property
    def true_number(self) -> Decimal | None:
        """The one number in the truth, without its unit; None if it has none or several."""
        return only_number(self.truth)

    @cached_property
    def expected(self) -> str:
        """The truth in the form in which answers are compared."""
        return normalised(self.truth)

    def is_right(self, answer: str) -> bool:
        """Return whether an answer is exactly the truth."""
        return normalised(answer) == self.expected
