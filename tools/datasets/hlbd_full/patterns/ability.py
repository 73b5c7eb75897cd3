"""Patterns of being able, having to, refraining, and having experienced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from tools.datasets.hlbd_full.languages import english
from tools.datasets.hlbd_full.languages.korean_verb import KoreanVerb
from tools.datasets.hlbd_full.lexicon.actions.all_actions import for_use
from tools.datasets.hlbd_full.lexicon.actions.verb_phrase import VerbPhrase
from tools.datasets.hlbd_full.lexicon.people import Person, people_of
from tools.datasets.hlbd_full.lexicon.towns import CITIES, City
from tools.datasets.hlbd_full.patterns.utterance import Parts, Sentence, Utterance


@dataclass(frozen=True)
class Can(Utterance):
    """弟弟会游泳: 弟弟会游泳。"""

    person: Person
    verb: VerbPhrase
    varies: ClassVar[str] = "person"
    weight: ClassVar[int] = 5

    @classmethod
    def every(cls) -> Iterator[Self]:
        return (cls(person, verb) for verb in for_use("skill") for person in verb.doers)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("Aux", "会"), ("VP", self.verb.zh)

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        one, verb = self.person, self.verb
        return Sentence(
            f"{one.zh} 会 {verb.zh}",
            english.sentence(f"{one.en} can {verb.english_regularly(one.owner)}"),
            f"{one.ja}は{verb.ja.potential.masu}。",
            f"{one.ko_topic} {verb.ko.prospective} 줄 {'아세요' if one.honored else '알아요'}.",
        )

    def rephrased(self) -> Sentence | None:
        one, verb = self.person, self.verb
        have = english.present("have", one.agreement)
        if one.honored:
            return None
        return Sentence(
            f"{one.zh} 学-会 {verb.zh} 了",
            english.sentence(f"{one.en} {have} learned to {verb.english_regularly(one.owner)}"),
            f"{one.ja}は{verb.ja.potential.dictionary}ようになりました。",
            f"{one.ko_topic} {verb.ko.prospective} 수 있게 됐어요.",
        )


@dataclass(frozen=True)
class Must(Utterance):
    """弟弟得做作业: 弟弟今天得做作业。 得 is děi here."""

    person: Person
    verb: VerbPhrase
    varies: ClassVar[str] = "person"
    weight: ClassVar[int] = 4

    @classmethod
    def every(cls) -> Iterator[Self]:
        return (cls(person, verb) for verb in for_use("must") for person in verb.doers)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("Aux", "得/děi"), ("VP", self.verb.zh)

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        one, verb = self.person, self.verb
        have = english.present("have", one.agreement)
        return Sentence(
            f"{one.zh} 今天 得/děi {verb.zh}",
            english.sentence(f"{one.en} {have} to {verb.english(one.owner)} today"),
            f"{one.ja}は今日{verb.ja.nakereba}なりません。",
            f"{one.ko_topic} 오늘 {verb.ko.honored(one.honored).must}.",
        )

    def rephrased(self) -> Sentence:
        one, verb = self.person, self.verb
        return Sentence(
            f"{one.zh} 今天 不 能 不 {verb.zh}",
            english.sentence(f"{one.en} must {verb.english(one.owner)} today"),
            f"{one.ja}は今日{verb.ja.nai}といけません。",
            f"{one.ko_topic} 오늘 꼭 {verb.ko.honored(one.honored).must}.",
        )


@dataclass(frozen=True)
class Abstains(Utterance):
    """爷爷不喝酒: 爷爷平时不喝酒。"""

    person: Person
    verb: VerbPhrase
    varies: ClassVar[str] = "person"
    weight: ClassVar[int] = 4

    @classmethod
    def every(cls) -> Iterator[Self]:
        return (cls(person, verb) for verb in for_use("deny") for person in verb.doers)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("Neg", "不"), ("VP", self.verb.zh)

    def phrase(self) -> str:
        return f"不 {self.verb.zh}"

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        one, verb = self.person, self.verb
        do = english.present("do", one.agreement)
        return Sentence(
            f"{one.zh} 平时 不 {verb.zh}",
            english.sentence(f"{one.en} {do}n't usually {verb.english_habit(one.owner)}"),
            f"{one.ja}は普段{verb.ja.masen}。",
            f"{one.ko_topic} 평소에 {verb.ko.honored(one.honored).not_}.",
        )

    def rephrased(self) -> Sentence:
        one, verb = self.person, self.verb
        doing = english.gerund(verb.english_habit(one.owner))
        return Sentence(
            f"{one.zh} 没有 {verb.zh} 的 习惯",
            english.sentence(f"{one.en} {english.be(one.agreement)} not in the habit of {doing}"),
            f"{one.ja}には{verb.ja.dictionary}習慣がありません。",
            f"{one.ko_topic} {verb.ko.honored(one.honored).doing} 습관이 {'없으세요' if one.honored else '없어요'}.",
        )


@dataclass(frozen=True)
class Experienced(Utterance):
    """哥哥吃过火锅: 哥哥吃过火锅。"""

    person: Person
    verb: VerbPhrase
    varies: ClassVar[str] = "person"
    weight: ClassVar[int] = 3

    @classmethod
    def every(cls) -> Iterator[Self]:
        return (cls(person, verb) for verb in for_use("once") for person in verb.doers)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("VP", self.verb.zh_with("过"))

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        one, verb = self.person, self.verb
        have = english.present("have", one.agreement)
        return Sentence(
            f"{one.zh} {verb.zh_with('过')}",
            english.sentence(f"{one.en} {have} {english.participle(verb.english(one.owner))} before"),
            f"{one.ja}は{verb.ja.ta}ことがあります。",
            f"{one.ko_topic} {_tried(one, verb.ko)}.",
        )


def _tried(person: Person, verb: KoreanVerb) -> str:
    """Return "has tried": 먹어 본 적이 있어요, 드셔 보신 적이 있으세요."""
    if person.honored:
        return f"{verb.try_ if verb.stem not in ('먹', '마시') else verb.honored().try_} 보신 적이 있으세요"
    return f"{verb.try_} 본 적이 있어요"


@dataclass(frozen=True)
class Visited(Utterance):
    """哥哥去过北京: 哥哥去过北京。"""

    person: Person
    city: City
    varies: ClassVar[str] = "city"
    weight: ClassVar[int] = 4

    @classmethod
    def every(cls) -> Iterator[Self]:
        return (cls(person, city) for city in CITIES for person in people_of("home role"))

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("VP", f"去-过 {self.city.zh}")

    def card(self) -> tuple[str, str]:
        return self.city.char, self.city.emoji

    def sentence(self) -> Sentence:
        one, city = self.person, self.city
        have = english.present("have", one.agreement)
        return Sentence(
            f"{one.zh} 去-过 {city.zh}",
            english.sentence(f"{one.en} {have} been to {city.en}"),
            f"{one.ja}は{city.ja}に行ったことがあります。",
            f"{one.ko_topic} {_tried(one, KoreanVerb(f'{city.ko}에', '가'))}.",
        )

    def rephrased(self) -> Sentence:
        one, city = self.person, self.city
        return Sentence(
            f"{one.zh} 以前 去-过 {city.zh}",
            english.sentence(f"{one.en} once went to {city.en}"),
            f"{one.ja}は以前{city.ja}へ行ったことがあります。",
            f"{one.ko_topic} 전에 {_tried(one, KoreanVerb(f'{city.ko}에', '가'))}.",
        )
