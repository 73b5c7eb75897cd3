"""Actions: a verb with its complements in four languages, and the people, places and times that fit it."""

from __future__ import annotations

from dataclasses import dataclass

from tools.datasets.hlbd_full.languages import chinese
from tools.datasets.hlbd_full.languages.japanese import JapaneseVerb
from tools.datasets.hlbd_full.languages.korean_verb import KoreanVerb
from tools.datasets.hlbd_full.lexicon.adverbs import Manner, Moment, manners
from tools.datasets.hlbd_full.lexicon.people import Owner, Person, people_of
from tools.datasets.hlbd_full.lexicon.places import Place, places

SINGLE = ("take a ", "have a ", "eat a ", "eat an ", "get a ", "ride a ", "row a ", "fly a ", "watch a ")
"""English phrases that stay singular where others go plural: she takes a walk every day, he can ride a bicycle."""


@dataclass(frozen=True)
class VerbPhrase:
    """An action such as 洗衣服.

    zh: spaced words, the verb first (see chinese.py). en: once ("read a book"); en_habit: in general ("read
    books"); en_request: the one at hand ("read the book"); ``{poss}`` becomes the subject's possessive (see Owner).
    who: groups of people who do it. at: places. how, ask: manners of doing it, and of being asked to.
    uses: sentence patterns it is natural in (past want must habit deny like skill once with).
    rhythm: day, week or any. parts: parts of the day.
    """

    zh: str
    char: str
    emoji: str
    en: str
    en_habit: str
    en_request: str
    ja: JapaneseVerb
    ko: KoreanVerb
    who: str
    at: tuple[Place, ...]
    how: tuple[Manner, ...]
    ask: tuple[Manner, ...]
    uses: frozenset[str]
    rhythm: str
    parts: frozenset[str]

    @property
    def doers(self) -> list[Person]:
        """Everybody who may do it."""
        return people_of(self.who)

    def suits(self, part: str) -> bool:
        """Return whether it is done in this part of the day ("" always fits)."""
        return not part or part in self.parts

    def memorable(self, moment: Moment) -> bool:
        """Return whether people would mention that it was done then: not for everyday acts long ago."""
        return self.suits(moment.part) and (moment.near or self.rhythm != "day")

    def zh_with(self, particle: str) -> str:
        """Return the Chinese phrase with 了, 过, 着 or 的 after the verb."""
        return chinese.after_verb(self.zh, particle)

    def english(self, owner: Owner) -> str:
        """Return the phrase for a single time: wash {poss} hands -> wash her hands."""
        return self.en.format(poss=owner)

    def english_habit(self, owner: Owner) -> str:
        """Return the phrase in general: read books, take walks."""
        return self.en_habit.format(poss=owner)

    def english_regularly(self, owner: Owner) -> str:
        """Return the phrase for "every day" or "after work": read books, but take a walk, eat an apple."""
        single = self.en.startswith(SINGLE)
        return (self.en if single else self.en_habit).format(poss=owner)


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
    ask: str = "",
    uses: str = "",
    rhythm: str = "any",
    parts: str = "morning afternoon evening",
) -> VerbPhrase:
    """Build one row of a table of actions. ``en`` is "once|in general|the one at hand"; the lists are spaced."""
    once, habit, request, *_ = [*en.split("|"), "", ""]
    return VerbPhrase(
        zh,
        char,
        emoji,
        once,
        habit or once,
        request or once,
        JapaneseVerb.parse(ja),
        KoreanVerb.parse(ko),
        who,
        places(at),
        manners(how),
        manners(ask),
        frozenset(uses.split()),
        rhythm,
        frozenset(parts.split()),
    )
