"""Actions: a verb with what belongs to it, in four languages, and what it goes with."""

from __future__ import annotations

from dataclasses import dataclass

from tools.full import chinese
from tools.full.japanese import JapaneseVerb
from tools.full.korean_verb import KoreanVerb
from tools.full.lexicon_people import people_of
from tools.full.lexicon_places import places
from tools.full.manner import Manner, manners
from tools.full.person import Person
from tools.full.place import Place


@dataclass(frozen=True)
class VerbPhrase:
    """An action such as 洗衣服.

    zh: spaced words, the verb first (see chinese.py). en: once ("wash the clothes"); en_habit: in general
    ("wash clothes"); ``{poss}`` becomes the subject's possessive.
    who: groups of people who do it. at: places. how: manners. uses: sentence patterns it is natural in
    (past want must habit deny like skill once with). rhythm: day, week or any. parts: parts of the day.
    """

    zh: str
    char: str
    emoji: str
    en: str
    en_habit: str
    ja: JapaneseVerb
    ko: KoreanVerb
    who: str
    at: tuple[Place, ...]
    how: tuple[Manner, ...]
    uses: frozenset[str]
    rhythm: str
    parts: frozenset[str]

    @property
    def doers(self) -> list[Person]:
        """Everybody who may do it."""
        return people_of(self.who)

    def suits(self, part: str) -> bool:
        """True if it is done in this part of the day ("" fits always)."""
        return not part or part in self.parts

    def zh_with(self, particle: str) -> str:
        """The Chinese phrase with 了, 过, 着 or 的 behind the verb."""
        return chinese.after_verb(self.zh, particle)

    def english(self, owner: str) -> str:
        """Once: wash {poss} hands -> wash her hands."""
        return self.en.format(poss=owner)

    def english_habit(self, owner: str) -> str:
        """In general: read a book -> read books."""
        return self.en_habit.format(poss=owner)


def action(
    zh: str,
    char: str,
    emoji: str,
    en: str,
    ja: str,
    ko: str,
    *,
    who: str = "",
    at: str = "",
    how: str = "",
    uses: str = "",
    rhythm: str = "any",
    parts: str = "morning afternoon evening",
) -> VerbPhrase:
    """One row of a table of actions. ``en`` is "once|in general"; the lists are spaced."""
    once, _, habit = en.partition("|")
    return VerbPhrase(
        zh,
        char,
        emoji,
        once,
        habit or once,
        JapaneseVerb.parse(ja),
        KoreanVerb.parse(ko),
        who,
        places(at),
        manners(how),
        frozenset(uses.split()),
        rhythm,
        frozenset(parts.split()),
    )
