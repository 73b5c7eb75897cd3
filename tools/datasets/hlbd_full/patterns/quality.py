"""Patterns of qualities: very, too, not; what people are like; comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from tools.datasets.hlbd_full.languages import english, korean
from tools.datasets.hlbd_full.lexicon.adjectives import CHARACTERS, QUALITIES, Adjective
from tools.datasets.hlbd_full.lexicon.nouns import ANIMALS, Noun, nouns_of
from tools.datasets.hlbd_full.lexicon.people import Person, people_of
from tools.datasets.hlbd_full.lexicon.scales import SCALES, Compared, Contrary
from tools.datasets.hlbd_full.patterns.utterance import Parts, Sentence, Utterance

INDOORS = frozenset({"room", "site", "shop", "lively", "hall"})
"""Kinds of nouns that one is in: Japanese and Korean say "here", not "this"."""


@dataclass(frozen=True)
class Very(Utterance):
    """苹果很甜: 这个苹果很甜。"""

    noun: Noun
    adjective: Adjective
    varies: ClassVar[str] = "adjective"
    weight: ClassVar[int] = 9

    @classmethod
    def every(cls) -> Iterator[Self]:
        return (cls(noun, adjective) for adjective in QUALITIES for noun in nouns_of(adjective.of))

    def parts(self) -> Parts:
        return ("NP", self.noun.zh), ("AP", f"很 {self.adjective.zh}")

    def card(self) -> tuple[str, str]:
        return self.noun.char, self.noun.emoji

    def sentence(self) -> Sentence:
        noun, quality = self.noun, self.adjective
        return Sentence(
            f"这 {noun.measure} {noun.zh} 很 {quality.zh}",
            english.sentence(f"{noun.this} {noun.are} very {quality.en}"),
            f"この{noun.ja}はとても{quality.ja.polite}。",
            f"이 {korean.topic(noun.ko)} {quality.ko.very('아주').polite}.",
        )

    def rephrased(self) -> Sentence | None:
        noun, quality = self.noun, self.adjective
        if noun in ANIMALS:  # これ and 이것 are no words for a living thing
            return None
        this = "these are" if noun.are == "are" else "this is"
        this_ja, this_ko = ("ここは", "여기는") if noun.kinds & INDOORS else ("これは", "이것은")
        return Sentence(
            f"这 是 一 {noun.measure} 很 {quality.zh} 的 {noun.zh}",
            english.sentence(f"{this} {noun.one(f'very {quality.en}')}"),
            f"{this_ja}とても{quality.ja.attributive}{noun.ja}です。",
            f"{this_ko} {quality.ko.very('아주').done} {korean.copula(noun.ko)}.",
        )


@dataclass(frozen=True)
class TooMuch(Utterance):
    """汤太烫了: 这碗汤太烫了。"""

    noun: Noun
    adjective: Adjective
    varies: ClassVar[str] = "adjective"
    weight: ClassVar[int] = 5

    @classmethod
    def every(cls) -> Iterator[Self]:
        for adjective in QUALITIES:
            if "too" in adjective.uses:
                yield from (cls(noun, adjective) for noun in nouns_of(adjective.of))

    def parts(self) -> Parts:
        return ("NP", self.noun.zh), ("AP", f"太 {self.adjective.zh} 了")

    def card(self) -> tuple[str, str]:
        return self.noun.char, self.noun.emoji

    def sentence(self) -> Sentence:
        noun, quality = self.noun, self.adjective
        return Sentence(
            f"这 {noun.measure} {noun.zh} 太 {quality.zh} 了",
            english.sentence(f"{noun.this} {noun.are} too {quality.en}"),
            f"この{noun.ja}は{quality.ja.excessive}。",
            f"이 {korean.topic(noun.ko)} {quality.ko.very('너무').polite}.",
        )


@dataclass(frozen=True)
class Isnt(Utterance):
    """苹果不甜: 这个苹果不甜。"""

    noun: Noun
    adjective: Adjective
    varies: ClassVar[str] = "adjective"
    weight: ClassVar[int] = 5

    @classmethod
    def every(cls) -> Iterator[Self]:
        for adjective in QUALITIES:
            if "not" in adjective.uses:
                yield from (cls(noun, adjective) for noun in nouns_of(adjective.of))

    def parts(self) -> Parts:
        return ("NP", self.noun.zh), ("AP", f"不 {self.adjective.zh}")

    def card(self) -> tuple[str, str]:
        return self.noun.char, self.noun.emoji

    def sentence(self) -> Sentence:
        noun, quality = self.noun, self.adjective
        return Sentence(
            f"这 {noun.measure} {noun.zh} 不 {quality.zh}",
            english.sentence(f"{noun.this} {noun.are}n't {quality.en}"),
            f"この{noun.ja}は{quality.ja.polite_negative}。",
            f"이 {korean.topic(noun.ko)} {quality.ko.long_negative}.",
        )


@dataclass(frozen=True)
class IsLike(Utterance):
    """爸爸很忙: 爸爸非常忙。"""

    person: Person
    adjective: Adjective
    varies: ClassVar[str] = "adjective"
    weight: ClassVar[int] = 5

    @classmethod
    def every(cls) -> Iterator[Self]:
        for adjective in CHARACTERS:
            for person in people_of(adjective.of):
                if not person.is_first or adjective.zh in ("忙", "健康"):
                    yield cls(person, adjective)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("AP", self.adjective.chinese("很"))

    def card(self) -> tuple[str, str]:
        return self.person.char, self.person.emoji

    def sentence(self) -> Sentence:
        one, quality = self.person, self.adjective
        return Sentence(
            f"{one.zh} {quality.chinese('很')}",
            english.sentence(f"{one.en} {english.be(one.agreement)} very {quality.en}"),
            f"{one.ja}はとても{quality.ja.polite}。",
            f"{one.ko_topic} {quality.ko.honored(one.honored).very('아주').polite}.",
        )

    def rephrased(self) -> Sentence | None:
        one, quality = self.person, self.adjective
        if one.is_first or one.agreement is english.Agreement.PLURAL or quality.zh == "忙":
            return None
        who = "분" if one.honored else "사람"
        ending = korean.copula_honored(who) if one.honored else korean.copula(who)
        return Sentence(
            f"{one.zh} 是 一 个 {quality.chinese('很')} 的 人",
            english.sentence(f"{one.en} is {english.with_article(f'very {quality.en} person')}"),
            f"{one.ja}はとても{quality.ja.attributive}人です。",
            f"{one.ko_topic} {quality.ko.honored(one.honored).very('아주').done} {ending}.",
        )


@dataclass(frozen=True)
class Compare(Utterance):
    """大象比猫大: 大象比猫大得多。"""

    one: Compared
    standard: Compared
    contrary: Contrary
    varies: ClassVar[str] = "standard"
    weight: ClassVar[int] = 6

    @classmethod
    def every(cls) -> Iterator[Self]:
        return (cls(*pair) for scale in SCALES for pair in scale.pairs())

    def parts(self) -> Parts:
        return ("NP", self.one.zh), ("PP", f"比 {self.standard.zh}"), ("AP", self.contrary.zh)

    def phrase(self) -> str:
        return f"比 {self.standard.zh} {self.contrary.zh}"

    def card(self) -> tuple[str, str]:
        return self.one.char, self.one.emoji

    def sentence(self) -> Sentence:
        one, other, more = self.one, self.standard, self.contrary
        return Sentence(
            f"{one.zh} 比 {other.zh} {more.zh} 得 多",
            english.sentence(f"{one.en} {one.are} much {english.comparative(more.en)} than {other.en}"),
            f"{one.ja}は{other.ja}よりずっと{more.ja.polite}。",
            f"{korean.topic(one.ko)} {other.ko}보다 훨씬 {more.ko.polite}.",
        )

    def rephrased(self) -> Sentence:
        one, other, more = self.one, self.standard, self.contrary
        return Sentence(
            f"和 {other.zh} 比 ， {one.zh} {more.zh} 得 多",
            english.sentence(f"compared with {other.en}, {one.en} {one.are} much {english.comparative(more.en)}"),
            f"{other.ja}と比べると、{one.ja}はずっと{more.ja.polite}。",
            f"{korean.and_(other.ko)} 비교하면 {korean.subject(one.ko)} 훨씬 {more.ko.polite}.",
        )
