"""Patterns in time: what was done and not done, habits, plans, what comes before and after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from tools.datasets.hlbd_full.languages import english, korean
from tools.datasets.hlbd_full.languages.korean_verb import KoreanVerb, softened
from tools.datasets.hlbd_full.lexicon.actions.all_actions import BY_NAME, for_use
from tools.datasets.hlbd_full.lexicon.actions.verb_phrase import VerbPhrase, action
from tools.datasets.hlbd_full.lexicon.adverbs import FUTURE, PAST, RHYTHMS, Moment, Rhythm
from tools.datasets.hlbd_full.lexicon.people import Person
from tools.datasets.hlbd_full.lexicon.places import Place
from tools.datasets.hlbd_full.patterns.utterance import Parts, Sentence, Utterance


@dataclass(frozen=True)
class Did(Utterance):
    """爸爸昨天修自行车: 爸爸昨天修了自行车。"""

    person: Person
    moment: Moment
    verb: VerbPhrase
    varies: ClassVar[str] = "moment"
    weight: ClassVar[int] = 7

    @classmethod
    def every(cls) -> Iterator[Self]:
        for verb in for_use("past"):
            for moment in PAST:
                for person in verb.doers:
                    if verb.memorable(moment):
                        yield cls(person, moment, verb)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("T", self.moment.zh), ("VP", self.verb.zh)

    def phrase(self) -> str:
        return f"{self.moment.zh} {self.verb.zh}"

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        one, verb, when = self.person, self.verb, self.moment
        return Sentence(
            f"{one.zh} {when.zh} {verb.zh_with('了')}",
            english.sentence(f"{one.en} {english.past(verb.english(one.owner))} {when.en}"),
            f"{one.ja}は{when.ja}{verb.ja.mashita}。",
            f"{one.ko_topic} {when.ko} {verb.ko.honored(one.honored).past}.",
        )

    def rephrased(self) -> Sentence:
        one, verb, when = self.person, self.verb, self.moment
        return Sentence(
            f"{one.zh} 是 {when.zh} {verb.zh_with('的')}",
            english.sentence(f"it was {when.en} that {one.en} {english.past(verb.english(one.owner))}"),
            f"{one.ja}が{verb.ja.ta}のは{when.ja_noun}です。",
            f"{one.ko_subject} {verb.ko.honored(one.honored).done} 것은 {korean.copula(when.ko_noun)}.",
        )


@dataclass(frozen=True)
class DidNot(Utterance):
    """弟弟昨天没做作业: 弟弟昨天没有做作业。"""

    person: Person
    moment: Moment
    verb: VerbPhrase
    varies: ClassVar[str] = "moment"
    weight: ClassVar[int] = 5

    @classmethod
    def every(cls) -> Iterator[Self]:
        for verb in for_use("past"):
            for moment in PAST:
                for person in verb.doers:
                    if verb.memorable(moment) and moment.zh != "刚才":
                        yield cls(person, moment, verb)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("T", self.moment.zh), ("Neg", "没"), ("VP", self.verb.zh)

    def phrase(self) -> str:
        return f"没 {self.verb.zh}"

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        one, verb, when = self.person, self.verb, self.moment
        return Sentence(
            f"{one.zh} {when.zh} 没有 {verb.zh}",
            english.sentence(f"{one.en} didn't {verb.english(one.owner)} {when.en}"),
            f"{one.ja}は{when.ja}{verb.ja.masen_deshita}。",
            f"{one.ko_topic} {when.ko} {verb.ko.honored(one.honored).not_past}.",
        )


@dataclass(frozen=True)
class Habitual(Utterance):
    """爷爷每天早上打太极拳: 爷爷每天早上都打太极拳。"""

    person: Person
    rhythm: Rhythm
    verb: VerbPhrase
    varies: ClassVar[str] = "rhythm"
    weight: ClassVar[int] = 6

    @classmethod
    def every(cls) -> Iterator[Self]:
        for verb in for_use("habit"):
            for rhythm in RHYTHMS:
                fits = "any" in (verb.rhythm, rhythm.scale) or verb.rhythm == rhythm.scale
                for person in verb.doers:
                    if fits and verb.suits(rhythm.part):
                        yield cls(person, rhythm, verb)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("T", self.rhythm.zh), ("VP", self.verb.zh)

    def phrase(self) -> str:
        return f"{self.rhythm.zh} {self.verb.zh}"

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        one, verb, often = self.person, self.verb, self.rhythm
        doing = english.present(verb.english_regularly(one.owner), one.agreement)
        en = f"{one.en} {doing} {often.en}" if often.every else f"{one.en} {often.en} {doing}"
        return Sentence(
            f"{one.zh} {often.zh} {'都' if often.every else ''} {verb.zh}",
            english.sentence(en),
            f"{one.ja}は{often.ja}{verb.ja.masu}。",
            f"{one.ko_topic} {often.ko} {verb.ko.honored(one.honored).polite}.",
        )

    def rephrased(self) -> Sentence | None:
        one, verb, often = self.person, self.verb, self.rhythm
        if not often.every:
            return None
        have = english.present("have", one.agreement)
        doing = english.gerund(verb.english_regularly(one.owner))
        ko_have = "습관이 있으세요" if one.honored else "습관이 있어요"
        return Sentence(
            f"{one.zh} 有 {often.zh} {verb.zh} 的 习惯",
            english.sentence(f"{one.en} {have} the habit of {doing} {often.en}"),
            f"{one.ja}には{often.ja}{verb.ja.dictionary}習慣があります。",
            f"{one.ko_topic} {often.ko} {verb.ko.honored(one.honored).doing} {ko_have}.",
        )


@dataclass(frozen=True)
class Errand(Utterance):
    """妈妈明天去超市买菜: 妈妈明天要去超市买菜。"""

    person: Person
    moment: Moment
    place: Place
    verb: VerbPhrase
    varies: ClassVar[str] = "moment"
    weight: ClassVar[int] = 6

    @classmethod
    def every(cls) -> Iterator[Self]:
        for verb in for_use("past"):
            for place in verb.at:
                for moment in FUTURE:
                    for person in verb.doers:
                        if place.en_to and verb.suits(moment.part):
                            yield cls(person, moment, place, verb)

    def parts(self) -> Parts:
        return (
            ("NP", self.person.zh), ("T", self.moment.zh), ("VP", f"去 {self.place.zh} {self.verb.zh}"),
        )  # fmt: skip

    def card(self) -> tuple[str, str]:
        return self.verb.char, self.verb.emoji

    def sentence(self) -> Sentence:
        one, verb, when, place = self.person, self.verb, self.moment, self.place
        go = KoreanVerb(f"{place.ko}에 {verb.ko.in_order_to}", "가").honored(one.honored)
        return Sentence(
            f"{one.zh} {when.zh} 要 去 {place.zh} {verb.zh}",
            english.sentence(f"{one.en} will go {place.en_to} to {verb.english(one.owner)} {when.en}"),
            f"{one.ja}は{when.ja}{place.ja}へ{verb.ja.going}行きます。",
            f"{one.ko_topic} {when.ko} {go.future}.",
        )

    def rephrased(self) -> Sentence:
        one, verb, when, place = self.person, self.verb, self.moment, self.place
        go = KoreanVerb(f"{place.ko}에 {verb.ko.in_order_to}", "가")
        plan = english.present("plan", one.agreement)
        ko_plan = "생각이세요" if one.honored else "생각이에요"
        return Sentence(
            f"{one.zh} 打算 {when.zh} 去 {place.zh} {verb.zh}",
            english.sentence(f"{one.en} {plan} to go {place.en_to} to {verb.english(one.owner)} {when.en}"),
            f"{one.ja}は{when.ja}{place.ja}へ{verb.ja.going}行くつもりです。",
            f"{one.ko_topic} {when.ko} {go.prospective} {ko_plan}.",
        )


EVENTS = {
    "出门": action("出+门", "出", "🚪", "go out", "出かける", "외출하다", who="home"),
    "上班": action("上+班", "班", "💼", "go to work", "仕事に 行く", "출근하다", who="adult"),
    "下班": action("下+班", "班", "🌆", "finish work", "仕事を 終える", "퇴근하다", who="adult"),
    "上学": action("上+学", "学", "🎒", "go to school", "学校へ 行く", "학교에 가다", who="student"),
    "回家": action("回+家", "家", "🏠", "go home", "家に 帰る", "집에 돌아가다", who="home"),
    "起床": action("起+床", "起", "⏰", "get up", "起きる", "일어나다", who="home"),
    "考试": action("考+试", "考", "📝", "take a test|take tests", "試験を 受ける", "시험을 보다", who="student"),
    "运动": action("运动", "运", "🤸", "exercise", "運動を する", "운동을 하다", who="home"),
    "关灯": action("关 灯", "灯", "🌙", "turn off the light", "電気を 消す", "전등을 끄다", who="home"),
    "关窗户": action("关 窗户", "窗", "🪟", "close the windows", "窓を 閉める", "창문을 닫다", who="home"),
}
"""Events that order a day, in addition to the actions of the lexicon."""

BEFORE = """
    洗手 吃饭 | 洗手 做饭 | 洗手 吃水果 | 刷牙 睡觉 | 洗脸 睡觉 | 洗澡 睡觉 | 写日记 睡觉 | 听音乐 睡觉 |
    看书 睡觉 | 关灯 睡觉 | 喝牛奶 睡觉 | 看小说 睡觉 | 关窗户 出门 | 关灯 出门 | 吃早饭 上班 | 吃早饭 上学 |
    刷牙 上学 | 看报纸 上班 | 喝咖啡 上班 | 遛狗 上班 | 跑步 上班 | 喂猫 出门 | 浇花 出门 | 叠被子 上学 |
    复习功课 考试 | 背单词 考试 | 整理房间 出门 | 倒垃圾 上班 | 洗脸 出门 | 整理行李 旅行 | 做作业 看电视 |
    做作业 玩游戏 | 做作业 看漫画 | 买票 看电影 | 买票 看比赛 | 洗头发 睡觉 | 喝水 跑步 | 喝茶 工作 |
    写报告 开会
"""
"""Pairs: the action that comes first, and the one that it comes before."""

AFTER = """
    吃饭 洗碗 | 吃饭 散步 | 吃饭 吃药 | 吃饭 刷牙 | 吃晚饭 看电视 | 吃晚饭 散步 | 吃晚饭 听音乐 |
    吃晚饭 倒垃圾 | 吃午饭 睡午觉 | 吃午饭 休息 | 吃午饭 喝茶 | 起床 喝水 | 起床 刷牙 | 起床 洗脸 | 起床 跑步 |
    起床 叠被子 | 起床 打太极拳 | 起床 浇花 | 起床 喝咖啡 | 运动 洗澡 | 运动 喝水 | 跑步 洗澡 | 游泳 洗头发 |
    下班 买菜 | 下班 做晚饭 | 下班 喝啤酒 | 下班 打网球 | 下班 看电影 | 下班 跑步 | 洗衣服 晒衣服 |
    晒衣服 熨衣服 | 买菜 做饭 | 看电影 回家 | 打篮球 回家 | 看比赛 回家 | 打扫房间 休息 | 扫地 擦桌子 |
    做作业 踢足球 | 做作业 打篮球 | 上课 复习功课 | 钓鱼 做饭 | 爬山 洗澡 |
    切菜 洗手 | 喂猫 洗手 | 看书 写日记 | 遛狗 吃早饭
"""
"""Pairs: the action that comes first, and the one that comes after it."""


def _pairs(table: str) -> list[tuple[VerbPhrase, VerbPhrase]]:
    known = BY_NAME | EVENTS
    rows = (row.split() for row in table.split("|"))
    return [(known[first], known[then]) for first, then in rows]


def _order(person: Person, first: VerbPhrase, then: VerbPhrase) -> Sentence:
    """Return 先…后…, which is the same for before and after."""
    en_first = english.present(first.english_regularly(person.owner), person.agreement)
    ko_first = softened(first.ko, person.honored).and_
    en_then = english.present(then.english_regularly(person.owner), person.pronoun_agreement)
    return Sentence(
        f"{person.zh} 先 {first.zh} ， 后 {then.zh}",
        english.sentence(f"first {person.en} {en_first}, and then {person.pronoun} {en_then}"),
        f"{person.ja}はまず{first.ja.te}、それから{then.ja.masu}。",
        f"{person.ko_topic} 먼저 {ko_first} 나서 {then.ko.honored(person.honored).polite}.",
    )


@dataclass(frozen=True)
class Before(Utterance):
    """弟弟吃饭前洗手: 弟弟吃饭以前洗手。"""

    person: Person
    later: VerbPhrase
    earlier: VerbPhrase
    varies: ClassVar[str] = "person"
    weight: ClassVar[int] = 4

    @classmethod
    def every(cls) -> Iterator[Self]:
        for first, then in _pairs(BEFORE):
            for person in first.doers:
                if person in then.doers:
                    yield cls(person, then, first)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("T", f"{self.later.zh} 前"), ("VP", self.earlier.zh)

    def phrase(self) -> str:
        return f"{self.later.zh} 前 {self.earlier.zh}"

    def card(self) -> tuple[str, str]:
        return self.earlier.char, self.earlier.emoji

    def sentence(self) -> Sentence:
        one, later, earlier = self.person, self.later, self.earlier
        doing = english.present(earlier.english_regularly(one.owner), one.agreement)
        before = english.gerund(later.english_regularly(one.owner))
        return Sentence(
            f"{one.zh} {later.zh} 以前 {earlier.zh}",
            english.sentence(f"{one.en} {doing} before {before}"),
            f"{one.ja}は{later.ja.dictionary}前に{earlier.ja.masu}。",
            f"{one.ko_topic} {later.ko.honored(one.honored).nominal} 전에 {earlier.ko.honored(one.honored).polite}.",
        )

    def rephrased(self) -> Sentence:
        return _order(self.person, self.earlier, self.later)


@dataclass(frozen=True)
class After(Utterance):
    """哥哥做作业后看电视: 哥哥做作业以后看电视。"""

    person: Person
    earlier: VerbPhrase
    later: VerbPhrase
    varies: ClassVar[str] = "person"
    weight: ClassVar[int] = 4

    @classmethod
    def every(cls) -> Iterator[Self]:
        for first, then in _pairs(AFTER):
            for person in first.doers:
                if person in then.doers:
                    yield cls(person, first, then)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("T", f"{self.earlier.zh} 后"), ("VP", self.later.zh)

    def phrase(self) -> str:
        return f"{self.earlier.zh} 后 {self.later.zh}"

    def card(self) -> tuple[str, str]:
        return self.later.char, self.later.emoji

    def sentence(self) -> Sentence:
        one, later, earlier = self.person, self.later, self.earlier
        doing = english.present(later.english_regularly(one.owner), one.agreement)
        after = english.gerund(earlier.english_regularly(one.owner))
        return Sentence(
            f"{one.zh} {earlier.zh} 以后 {later.zh}",
            english.sentence(f"{one.en} {doing} after {after}"),
            f"{one.ja}は{earlier.ja.ta}後で{later.ja.masu}。",
            f"{one.ko_topic} {earlier.ko.honored(one.honored).done} 후에 {later.ko.honored(one.honored).polite}.",
        )

    def rephrased(self) -> Sentence:
        return _order(self.person, self.earlier, self.later)
