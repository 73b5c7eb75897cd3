"""Patterns of what is being done: requests, actions in progress, manner, company, skill of doing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from tools.datasets.hlbd_full.languages import chinese, english, korean
from tools.datasets.hlbd_full.languages.japanese import JapaneseVerb
from tools.datasets.hlbd_full.languages.korean_verb import KoreanVerb, progressive, progressive_doing
from tools.datasets.hlbd_full.lexicon.actions.all_actions import ACTIONS, BY_NAME, for_use
from tools.datasets.hlbd_full.lexicon.actions.verb_phrase import VerbPhrase, action
from tools.datasets.hlbd_full.lexicon.adverbs import Manner
from tools.datasets.hlbd_full.lexicon.people import PEOPLE, YOU, Person, named
from tools.datasets.hlbd_full.lexicon.places import Place
from tools.datasets.hlbd_full.patterns.utterance import Parts, Sentence, Utterance


@dataclass(frozen=True)
class Request(Utterance):
    """慢慢洗衣服: 请慢慢洗衣服。"""

    manner: Manner
    verb: VerbPhrase
    varies: ClassVar[str] = "manner"
    weight: ClassVar[int] = 6

    @classmethod
    def every(cls) -> Iterator[Self]:
        return (cls(manner, verb) for verb in ACTIONS for manner in verb.ask)

    def parts(self) -> Parts:
        return ("Adv", self.manner.request), ("VP", self.verb.zh)

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        return Sentence(
            f"请 {self.manner.request} {self.verb.zh}",
            english.sentence(f"please {self._english()}"),
            f"{self.manner.ja}{self.verb.ja.te}ください。",
            f"{self.manner.ko} {self.verb.ko.honored().polite}.",
        )

    def rephrased(self) -> Sentence | None:
        if self.manner.zh == "一起":  # 你 is one person
            return None
        return Sentence(
            f"你 最 好 {self.manner.request} {self.verb.zh}",
            english.sentence(f"you had better {self._english()}"),
            f"{self.manner.ja}{self.verb.ja.ta}ほうがいいです。",
            f"{self.manner.ko} {self.verb.ko.doing} 것이 좋아요.",
        )

    def _english(self) -> str:
        if self.manner.zh == "每天":
            return f"{self.verb.english_regularly(YOU)} {self.manner.en}"
        return f"{self.verb.en_request.format(poss=YOU)} {self.manner.en}"


@dataclass(frozen=True)
class Doing(Utterance):
    """妈妈在厨房做饭: 妈妈正在厨房做饭。"""

    person: Person
    place: Place
    verb: VerbPhrase
    varies: ClassVar[str] = "person"
    weight: ClassVar[int] = 8

    @classmethod
    def every(cls) -> Iterator[Self]:
        for verb in ACTIONS:
            for place in verb.at:
                for person in verb.doers:
                    if place.welcomes(person.groups):
                        yield cls(person, place, verb)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("PP", f"在 {self.place.zh}"), ("VP", self.verb.zh)

    def phrase(self) -> str:
        return f"在 {self.place.zh} {self.verb.zh}"

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        one, verb = self.person, self.verb
        doing = english.gerund(verb.english(one.owner))
        return Sentence(
            f"{one.zh} 正 在 {self.place.zh} {verb.zh}",
            english.sentence(f"{one.en} {english.be(one.agreement)} {doing} {self.place.en_at}"),
            f"{one.ja}は{self.place.ja}で{verb.ja.te}います。",
            f"{one.ko_topic} {self.place.ko}에서 {progressive(verb.ko, one.honored)}.",
        )

    def rephrased(self) -> Sentence | None:
        one, verb = self.person, self.verb
        if one.is_first or one.agreement is english.Agreement.PLURAL:
            return None
        who, ending = ("분", korean.copula_honored) if one.honored else ("사람", korean.copula)
        doing = english.gerund(verb.english(one.owner))
        return Sentence(
            f"在 {self.place.zh} {verb.zh} 的 人 是 {one.zh}",
            english.sentence(f"the one {doing} {self.place.en_at} is {one.en}"),
            f"{self.place.ja}で{verb.ja.te}いるのは{one.ja}です。",
            f"{self.place.ko}에서 {progressive_doing(verb.ko, one.honored)} {korean.topic(who)} {ending(one.ko)}.",
        )


@dataclass(frozen=True)
class DoingSomehow(Utterance):
    """妹妹高兴地唱歌: 妹妹正在高兴地唱歌。"""

    person: Person
    manner: Manner
    verb: VerbPhrase
    varies: ClassVar[str] = "manner"
    weight: ClassVar[int] = 6

    @classmethod
    def every(cls) -> Iterator[Self]:
        for verb in ACTIONS:
            for manner in verb.how:
                for person in verb.doers:
                    yield cls(person, manner, verb)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("Adv", self.manner.describe), ("VP", self.verb.zh)

    def phrase(self) -> str:
        return f"{self.manner.describe} {self.verb.zh}"

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        one, verb, manner = self.person, self.verb, self.manner
        doing = english.gerund(verb.english(one.owner))
        return Sentence(
            f"{one.zh} 正在 {manner.describe} {verb.zh}",
            english.sentence(f"{one.en} {english.be(one.agreement)} {doing} {manner.en}"),
            f"{one.ja}は{manner.ja}{verb.ja.te}います。",
            f"{one.ko_topic} {manner.ko} {progressive(verb.ko, one.honored)}.",
        )

    def rephrased(self) -> Sentence | None:
        one, verb, manner = self.person, self.verb, self.manner
        if one.is_first:
            return None
        doing = english.gerund(verb.english(one.owner))
        return Sentence(
            f"你 看 ， {one.zh} {manner.describe} {verb.zh} 呢",
            english.sentence(f"look, {one.en} {english.be(one.agreement)} {doing} {manner.en}"),
            f"ほら、{one.ja}が{manner.ja}{verb.ja.te}いますよ。",
            f"보세요, {one.ko_subject} {manner.ko} {progressive(verb.ko, one.honored)}.",
        )


COMPANIONS = {
    "朋友": "a friend", "同学": "a classmate", "爸爸": "Dad", "妈妈": "Mom", "爷爷": "Grandpa", "奶奶": "Grandma",
    "哥哥": "my big brother", "姐姐": "my big sister", "弟弟": "my little brother", "妹妹": "my little sister",
}  # fmt: skip
"""Who comes along, in English behind "with"."""

HOSTS = named("我 爸爸 妈妈 爷爷 奶奶 哥哥 姐姐 弟弟 妹妹 叔叔 阿姨 表哥 儿子 女儿 小明 小红")


@dataclass(frozen=True)
class Together(Utterance):
    """哥哥和朋友一起打篮球: 哥哥在和朋友一起打篮球呢。"""

    person: Person
    companion: Person
    verb: VerbPhrase
    varies: ClassVar[str] = "companion"
    weight: ClassVar[int] = 5

    @classmethod
    def every(cls) -> Iterator[Self]:
        for verb in for_use("with"):
            doers = verb.doers
            for person in HOSTS:
                for companion in named(" ".join(COMPANIONS)):
                    if person in doers and companion in doers and person != companion:
                        yield cls(person, companion, verb)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("PP", f"和 {self.companion.zh}"), ("VP", f"一起 {self.verb.zh}")

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        one, verb = self.person, self.verb
        doing = english.gerund(verb.english(one.owner))
        return Sentence(
            f"{one.zh} 在 和 {self.companion.zh} 一起 {verb.zh} 呢",
            english.sentence(f"{one.en} {english.be(one.agreement)} {doing} with {COMPANIONS[self.companion.zh]}"),
            f"{one.ja}は{self.companion.ja}と一緒に{verb.ja.te}います。",
            f"{one.ko_topic} {korean.and_(self.companion.ko)} 함께 {progressive(verb.ko, one.honored)}.",
        )


@dataclass(frozen=True)
class Grade:
    """A degree of skill: Chinese after 得, Japanese and Korean as adverbs.

    ja_judged: where Japanese rather judges the doing (歌うのが上手です).
    """

    zh: str
    en: str
    ja: str
    ko: str
    ja_judged: str = ""


GRADES = {
    grade.zh: grade
    for grade in (
        Grade("好", "very well", "上手に", "잘", "上手です"),
        Grade("快", "very fast", "速く", "빨리", "速いです"),
        Grade("慢", "very slowly", "ゆっくり", "천천히", "遅いです"),
        Grade("流利", "very fluently", "流暢に", "유창하게"),
        Grade("漂亮", "very beautifully", "きれいに", "예쁘게"),
        Grade("早", "very early", "早く", "일찍", "早いです"),
        Grade("晚", "very late", "遅く", "늦게", "遅いです"),
        Grade("认真", "very diligently", "真面目に", "성실하게"),
        Grade("清楚", "very clearly", "はっきり", "또박또박"),
    )
}

GRADED = {
    "唱歌": "好", "跳舞": "好", "跑步": "快 慢", "游泳": "好 快 慢", "做饭": "好 快", "写字": "快 慢 漂亮 认真",
    "开车": "好 快 慢", "吃饭": "快 慢", "说汉语": "好 流利", "说英语": "好 流利", "说日语": "好 流利",
    "说法语": "好 流利", "弹钢琴": "好", "弹吉他": "好", "拉小提琴": "好", "画画": "好 快", "打篮球": "好",
    "踢足球": "好", "打乒乓球": "好", "打网球": "好", "打羽毛球": "好", "滑雪": "好", "下围棋": "好",
    "吹笛子": "好", "睡觉": "早 晚", "起床": "早 晚", "说话": "快 慢 清楚", "走路": "快 慢",
    "看书": "快 慢 认真", "做作业": "快 慢 认真",
}  # fmt: skip
"""Action -> how it can be done."""

RUN = action("跑+步", "跑", "🏃", "run", "走る", "달리다", who="grown teacher coach")
"""Judged by speed 跑步 is running; as an exercise it is jogging."""

ENGLISH_GRADED = {"睡觉": "go to bed", "看书": "read", "写字": "write", "做作业": "do {poss} homework"}
"""Where English does not say the general form: reads fast, not reads books fast."""


@dataclass(frozen=True)
class Skilled(Utterance):
    """姐姐唱歌唱得好: 姐姐唱歌唱得很好。"""

    person: Person
    verb: VerbPhrase
    grade: Grade
    varies: ClassVar[str] = "person"
    weight: ClassVar[int] = 4

    @classmethod
    def every(cls) -> Iterator[Self]:
        for name, grades in GRADED.items():
            verb = RUN if name == "跑步" else BY_NAME[name]
            doers = verb.doers or [one for one in PEOPLE if "home" in one.groups]
            for person in doers:
                for grade in grades.split():
                    yield cls(person, verb, GRADES[grade])

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("VP", self.verb.zh), ("Comp", self._result(""))

    def phrase(self) -> str:
        return f"{self.verb.zh} {self._result('')}"

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        one, verb, grade = self.person, self.verb, self.grade
        en = ENGLISH_GRADED.get(chinese.hanzi(verb.zh), verb.en_habit).format(poss=one.owner)
        judged = f"{verb.ja.dictionary}のがとても{grade.ja_judged}"
        otherwise = f"{verb.ja.complement}とても{grade.ja}{JapaneseVerb('', verb.ja.verb).masu}"
        return Sentence(
            f"{one.zh} {verb.zh} {self._result('很')}",
            english.sentence(f"{one.en} {english.present(en, one.agreement)} {grade.en}"),
            f"{one.ja}は{judged if grade.ja_judged else otherwise}。",
            f"{one.ko_topic} {_graded(verb.ko.honored(one.honored), grade.ko)}.",
        )

    def _result(self, very: str) -> str:
        verb = self.verb.zh.replace("+", " ").partition(" ")[0]
        return " ".join(f"{verb} 得 {very} {self.grade.zh}".split())


def _graded(predicate: KoreanVerb, adverb: str) -> str:
    """Put the adverb between complement and verb: 노래를 아주 잘 불러요; 잘하다 is one word."""
    verb = KoreanVerb("", predicate.stem).polite
    joint = "" if adverb == "잘" and predicate.stem in ("하", "하시") else " "
    return f"{predicate.complement} 아주 {adverb}{joint}{verb}".strip()
