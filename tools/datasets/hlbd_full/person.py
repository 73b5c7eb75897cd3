"""People: who a sentence is about, and how four languages treat them."""

from __future__ import annotations

from dataclasses import dataclass

from tools.datasets.hlbd_full import korean
from tools.datasets.hlbd_full.english import Agreement, plural, possessive


@dataclass(frozen=True)
class Owner:
    """Whose, in an English phrase: ``{poss} hands`` -> "her hands"; ``{poss:face}`` -> "her face", "our faces"."""

    word: str
    many: bool

    def __format__(self, thing: str) -> str:
        if not thing:
            return self.word
        return f"{self.word} {plural(thing) if self.many else thing}"


YOU = Owner("your", many=False)


@dataclass(frozen=True)
class Person:
    """Somebody who can be a subject.

    groups: what kind of person, for choosing fitting actions: ``adult elder young child`` are people at home,
    ``role`` people known by their work (with the work's own group beside it), ``visitor``s are not
    met in the rooms of the house; everybody is ``anyone``.
    honored: Korean raises the verb (어른: grandparents, teachers).
    """

    zh: str
    en: str
    ja: str
    ko: str
    char: str
    emoji: str
    possessive: str  # his, her, their, my, our
    pronoun: str  # he, she, they, I, we
    agreement: Agreement
    groups: frozenset[str]
    honored: bool

    @property
    def is_first(self) -> bool:
        """I or we: wishes are one's own (飲みたい), not seen from outside (飲みたがる)."""
        return self.pronoun in ("I", "we")

    @property
    def owner(self) -> Owner:
        """For what is the person's own: her hands, our faces."""
        return Owner(self.possessive, many=self.agreement is Agreement.PLURAL)

    @property
    def pronoun_agreement(self) -> Agreement:
        """How the pronoun governs its verb: the teacher is, but they are."""
        return Agreement.PLURAL if self.pronoun == "they" else self.agreement

    @property
    def ko_topic(self) -> str:
        """저는, 형은, 누나는."""
        return korean.topic(self.ko)

    @property
    def ko_subject(self) -> str:
        """제가, 형이, 누나가, 할머니께서."""
        return self.ko + "께서" if self.honored else korean.subject(self.ko)

    @property
    def ko_possessive(self) -> str:
        """제, 우리, 형의."""
        return {"저": "제", "우리": "우리"}.get(self.ko, self.ko + "의")

    @property
    def en_possessive(self) -> str:
        """my, our, Dad's, my parents'."""
        return self.possessive if self.is_first else possessive(self.en)


PRONOUNS = {"my": "I", "our": "we", "his": "he", "her": "she", "their": "they"}


def person(
    zh: str,
    char: str,
    emoji: str,
    en: str,
    poss: str,
    ja: str,
    ko: str,
    groups: str,
    *,
    many: bool = False,
    honored: bool = False,
) -> Person:
    """One row of the table of people; ``groups`` is a spaced list, ``many`` marks a plural subject."""
    kinds = set(groups.split()) | {"anyone"}
    if "role" not in kinds:
        kinds.add("home")
    if kinds & {"adult", "elder", "young"}:
        kinds.add("grown")
    agreement = Agreement.PLURAL if many else Agreement.FIRST if en == "I" else Agreement.THIRD
    return Person(zh, en, ja, ko, char, emoji, poss, PRONOUNS[poss], agreement, frozenset(kinds), honored)
