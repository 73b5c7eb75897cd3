"""Patterns of wishing and liking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from tools.datasets.hlbd_full.languages import english, korean
from tools.datasets.hlbd_full.languages.korean_verb import KoreanVerb, wants
from tools.datasets.hlbd_full.lexicon.actions.all_actions import BY_NAME, for_use
from tools.datasets.hlbd_full.lexicon.actions.verb_phrase import VerbPhrase
from tools.datasets.hlbd_full.lexicon.categories import Member, favourites
from tools.datasets.hlbd_full.lexicon.people import Person, people_of
from tools.datasets.hlbd_full.lexicon.reasons import FEELINGS, Feeling
from tools.datasets.hlbd_full.patterns.utterance import Parts, Sentence, Utterance


def _wish_ja(person: Person, verb: VerbPhrase) -> str:
    """Return the wish in Japanese: one's own 飲みたいです, another's 飲みたがっています."""
    return verb.ja.stem + ("たいです" if person.is_first else "たがっています")


def _wish_ko(person: Person, verb: VerbPhrase) -> str:
    """Return the wish in Korean: one's own 마시고 싶어요, another's 마시고 싶어 해요."""
    return f"{verb.ko.and_} 싶어요" if person.is_first else wants(verb.ko, person.honored)


@dataclass(frozen=True)
class Want(Utterance):
    """妹妹想吃冰淇淋: 妹妹想吃冰淇淋。"""

    person: Person
    verb: VerbPhrase
    varies: ClassVar[str] = "person"
    weight: ClassVar[int] = 5

    @classmethod
    def every(cls) -> Iterator[Self]:
        return (cls(person, verb) for verb in for_use("want") for person in verb.doers)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("Aux", "想"), ("VP", self.verb.zh)

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        one, verb = self.person, self.verb
        want = english.present("want", one.agreement)
        return Sentence(
            f"{one.zh} 想 {verb.zh}",
            english.sentence(f"{one.en} {want} to {verb.english(one.owner)}"),
            f"{one.ja}は{_wish_ja(one, verb)}。",
            f"{one.ko_topic} {_wish_ko(one, verb)}.",
        )

    def rephrased(self) -> Sentence:
        one, verb = self.person, self.verb
        do = english.present("want", one.agreement)
        ko = "하고 싶은" if one.is_first else f"하고 싶어 {'하시는' if one.honored else '하는'}"
        return Sentence(
            f"{one.zh} 想 做 的 事 是 {verb.zh}",
            english.sentence(f"what {one.en} {do} to do is {verb.english(one.owner)}"),
            f"{one.ja}がしたいことは、{verb.ja.dictionary}ことです。",
            f"{one.ko_subject} {ko} 일은 {verb.ko.doing} 것이에요.",
        )


@dataclass(frozen=True)
class Likes(Utterance):
    """妹妹喜欢画画: 妹妹非常喜欢画画。"""

    person: Person
    verb: VerbPhrase
    varies: ClassVar[str] = "person"
    weight: ClassVar[int] = 5

    @classmethod
    def every(cls) -> Iterator[Self]:
        return (cls(person, verb) for verb in for_use("like") for person in verb.doers)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("V", "喜欢"), ("VP", self.verb.zh)

    def phrase(self) -> str:
        return f"喜欢 {self.verb.zh}"

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        one, verb = self.person, self.verb
        like = english.present("love", one.agreement)
        liked = KoreanVerb(f"{verb.ko.doing} 것을 아주", "좋아하").honored(one.honored)
        return Sentence(
            f"{one.zh} 非常 喜欢 {verb.zh}",
            english.sentence(f"{one.en} {like} {english.gerund(verb.english_habit(one.owner))}"),
            f"{one.ja}は{verb.ja.dictionary}のが大好きです。",
            f"{one.ko_topic} {liked.polite}.",
        )

    def rephrased(self) -> Sentence:
        one, verb = self.person, self.verb
        enjoy = english.present("enjoy", one.agreement)
        liked = KoreanVerb(f"{verb.ko.doing} 것을 매우", "좋아하").honored(one.honored)
        return Sentence(
            f"{one.zh} 很 爱 {verb.zh}",
            english.sentence(f"{one.en} really {enjoy} {english.gerund(verb.english_habit(one.owner))}"),
            f"{one.ja}は{verb.ja.dictionary}のがとても好きです。",
            f"{one.ko_topic} {liked.polite}.",
        )


@dataclass(frozen=True)
class Favourite(Utterance):
    """妹妹最喜欢猫: 妹妹最喜欢猫。"""

    person: Person
    thing: Member
    varies: ClassVar[str] = "thing"
    weight: ClassVar[int] = 5

    @classmethod
    def every(cls) -> Iterator[Self]:
        people = people_of("home teacher")
        return (cls(person, thing) for thing in favourites() for person in people)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("VP", f"最 喜欢 {self.thing.zh}")

    def card(self) -> tuple[str, str]:
        return self.thing.char, self.thing.emoji

    def sentence(self) -> Sentence:
        one, thing = self.person, self.thing
        like = english.present("like", one.agreement)
        liked = KoreanVerb(f"{korean.object_(thing.ko)} 가장", "좋아하").honored(one.honored)
        return Sentence(
            f"{one.zh} 最 喜欢 {thing.zh}",
            english.sentence(f"{one.en} {like} {thing.en} best"),
            f"{one.ja}は{thing.ja}が一番好きです。",
            f"{one.ko_topic} {liked.polite}.",
        )

    def rephrased(self) -> Sentence:
        one, thing = self.person, self.thing
        liked = KoreanVerb("가장", "좋아하").honored(one.honored).doing
        return Sentence(
            f"{one.zh} 最 喜欢 的 {thing.category.zh} 是 {thing.zh}",
            english.sentence(f"{thing.en} {thing.are} {one.en_possessive} favorite {thing.category.en}"),
            f"{one.ja}の一番好きな{thing.category.ja}は{thing.ja}です。",
            f"{one.ko_subject} {liked} {korean.topic(thing.category.ko)} {korean.copula(thing.ko)}.",
        )


@dataclass(frozen=True)
class FeelsSoWants(Utterance):
    """弟弟渴了想喝水: 弟弟渴了，想喝水。"""

    person: Person
    feeling: Feeling
    verb: VerbPhrase
    varies: ClassVar[str] = "person"
    weight: ClassVar[int] = 4

    @classmethod
    def every(cls) -> Iterator[Self]:
        for feeling in FEELINGS:
            for wish in feeling.wishes.split():
                for person in BY_NAME[wish].doers:
                    yield cls(person, feeling, BY_NAME[wish])

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("AP", f"{self.feeling.zh} 了"), ("VP", f"想 {self.verb.zh}")

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        one, verb, feeling = self.person, self.verb, self.feeling
        be, want = english.be(one.agreement), english.present("want", one.agreement)
        return Sentence(
            f"{one.zh} {feeling.zh} 了 ， 想 {verb.zh}",
            english.sentence(f"{one.en} {be} {feeling.en} and {want} to {verb.english(one.owner)}"),
            f"{one.ja}は{feeling.ja_before_node}ので、{_wish_ja(one, verb)}。",
            f"{one.ko_topic} {feeling.ko.honored(one.honored).because} {_wish_ko(one, verb)}.",
        )

    def rephrased(self) -> Sentence:
        one, verb, feeling = self.person, self.verb, self.feeling
        be, want = english.be(one.pronoun_agreement), english.present("want", one.agreement)
        ja_wish = verb.ja.stem + ("たい" if one.is_first else "たがっている")
        ko_wish = f"{verb.ko.and_} 싶은" if one.is_first else _wanting(one, verb)
        return Sentence(
            f"{one.zh} 想 {verb.zh} ， 是 因为 {feeling.zh} 了",
            english.sentence(f"{one.en} {want} to {verb.english(one.owner)} because {one.pronoun} {be} {feeling.en}"),
            f"{one.ja}が{ja_wish}のは、{feeling.ja}からです。",
            f"{one.ko_subject} {ko_wish} 것은 {feeling.ko.honored(one.honored).nominal} 때문이에요.",
        )


def _wanting(person: Person, verb: VerbPhrase) -> str:
    """Return the wish before a noun: 마시고 싶어 하는."""
    return wants(verb.ko, person.honored).removesuffix("해요").removesuffix("하세요") + (
        "하시는" if person.honored else "하는"
    )
