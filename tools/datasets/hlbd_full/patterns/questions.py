"""Patterns of questions: can you, do you like, did you."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from tools.datasets.hlbd_full.languages import english
from tools.datasets.hlbd_full.lexicon.actions.all_actions import for_use
from tools.datasets.hlbd_full.lexicon.actions.verb_phrase import VerbPhrase
from tools.datasets.hlbd_full.lexicon.adverbs import PAST, Moment
from tools.datasets.hlbd_full.lexicon.people import YOU
from tools.datasets.hlbd_full.patterns.utterance import Parts, Sentence, Utterance


@dataclass(frozen=True)
class AskCan(Utterance):
    """你会游泳吗: 你会游泳吗？"""

    verb: VerbPhrase
    varies: ClassVar[str] = "verb"

    @classmethod
    def every(cls) -> Iterator[Self]:
        return (cls(verb) for verb in for_use("skill"))

    def parts(self) -> Parts:
        return ("NP", "你"), ("Aux", "会"), ("VP", self.verb.zh), ("Q", "吗")

    def phrase(self) -> str:
        return f"会 {self.verb.zh}"

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        return Sentence(
            f"你 会 {self.verb.zh} 吗",
            english.sentence(f"can you {self.verb.english_regularly(YOU)}", "?"),
            f"{self.verb.ja.potential.masu}か。",
            f"{self.verb.ko.prospective} 줄 아세요?",
            "？",
        )


@dataclass(frozen=True)
class AskLike(Utterance):
    """你喜欢画画吗: 你喜欢画画吗？"""

    verb: VerbPhrase
    varies: ClassVar[str] = "verb"
    weight: ClassVar[int] = 2

    @classmethod
    def every(cls) -> Iterator[Self]:
        return (cls(verb) for verb in for_use("like"))

    def parts(self) -> Parts:
        return ("NP", "你"), ("V", "喜欢"), ("VP", self.verb.zh), ("Q", "吗")

    def phrase(self) -> str:
        return f"喜欢 {self.verb.zh}"

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        return Sentence(
            f"你 喜欢 {self.verb.zh} 吗",
            english.sentence(f"do you like {english.gerund(self.verb.english_habit(YOU))}", "?"),
            f"{self.verb.ja.dictionary}のは好きですか。",
            f"{self.verb.ko.doing} 것을 좋아하세요?",
            "？",
        )

    def rephrased(self) -> Sentence:
        return Sentence(
            f"你 喜 不 喜欢 {self.verb.zh}",
            english.sentence(f"do you enjoy {english.gerund(self.verb.english_habit(YOU))}", "?"),
            f"{self.verb.ja.dictionary}ことが好きですか。",
            f"{self.verb.ko.doing} 거 좋아하세요?",
            "？",
        )


@dataclass(frozen=True)
class AskDid(Utterance):
    """你昨天看电影了吗: 你昨天看电影了吗？"""

    moment: Moment
    verb: VerbPhrase
    varies: ClassVar[str] = "moment"
    weight: ClassVar[int] = 3

    @classmethod
    def every(cls) -> Iterator[Self]:
        me = frozenset({"adult", "young", "child", "student", "home", "anyone", "grown"})
        for verb in for_use("past"):
            for moment in PAST:
                if me & set(verb.who.split()) and verb.memorable(moment):
                    yield cls(moment, verb)

    def parts(self) -> Parts:
        return ("NP", "你"), ("T", self.moment.zh), ("VP", f"{self.verb.zh} 了"), ("Q", "吗")

    def phrase(self) -> str:
        return f"{self.moment.zh} {self.verb.zh}"

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        return Sentence(
            f"你 {self.moment.zh} {self.verb.zh} 了 吗",
            english.sentence(f"did you {self.verb.english(YOU)} {self.moment.en}", "?"),
            f"{self.moment.ja}{self.verb.ja.mashita}か。",
            f"{self.moment.ko} {self.verb.ko.honored().past}?",
            "？",
        )
