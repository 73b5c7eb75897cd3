"""The utterance: one filled sentence pattern, said in every language.

A pattern is a frozen dataclass whose fields are its slots; an instance is a concept. The Chinese concept is the
chain of its parts, so that the concept, its syntax (level 3) and its words cannot disagree.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from tools.datasets.hlbd_full.languages import chinese

Parts = tuple[tuple[str, str], ...]
"""(label, spaced Chinese words) in order, e.g. (("NP", "妈妈"), ("PP", "在 厨房"), ("VP", "做+饭"))."""


@dataclass(frozen=True)
class Sentence:
    """The full sentence. chinese is in spaced words without the end mark."""

    chinese: str
    english: str
    japanese: str
    korean: str
    end: str = "。"


@dataclass(frozen=True)
class Utterance(ABC):
    """One concept: a pattern with its slots filled.

    varies: the slot in which the members of a contrast group differ. weight: the pattern's share of a data set.
    """

    varies: ClassVar[str]
    weight: ClassVar[int] = 1

    @classmethod
    @abstractmethod
    def every(cls) -> Iterator[Self]:
        """Yield every sensible filling, in a fixed order."""

    @abstractmethod
    def parts(self) -> Parts:
        """Return the parts of the concept with their labels."""

    @abstractmethod
    def card(self) -> tuple[str, str]:
        """Return (key character, emoji)."""

    @abstractmethod
    def sentence(self) -> Sentence:
        """Return the sentence as the training data words it."""

    def rephrased(self) -> Sentence | None:
        """Return the same in a pattern that only the held-out file uses; None if there is none."""
        return None

    def phrase(self) -> str:
        """Return a shorter phrase within the concept, in spaced words: the last part unless a pattern overrides it."""
        return self.parts()[-1][1]

    def concept(self) -> str:
        """Return the concept as text, e.g. 妈妈在厨房做饭."""
        return "".join(chinese.hanzi(words) for _, words in self.parts())

    def syntax(self) -> str:
        """Return the syntax: ``S = NP + PP + VP (NP: 妈妈, PP: 在厨房, VP: 做饭)``."""
        parts = self.parts()
        labels = " + ".join(label for label, _ in parts)
        return f"S = {labels} ({', '.join(f'{label}: {chinese.hanzi(words)}' for label, words in parts)})"

    def slots(self) -> dict[str, str]:
        """Return slot -> name of its filling, e.g. {"person": "Person 妈妈", ...}."""
        return {field.name: _name(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def group(self) -> str:
        """Return the common part of a contrast group: the pattern and all slots but the varying one."""
        fixed = [value for slot, value in self.slots().items() if slot != self.varies]
        return "|".join([type(self).__name__, *fixed])


def _name(filler: object) -> str:
    return f"{type(filler).__name__} {getattr(filler, 'zh', filler)}"
