"""Patterns about the world: weather, places, animals, professions, age, the clock, causes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from tools.datasets.hlbd_full.languages import chinese, english, korean
from tools.datasets.hlbd_full.languages.korean_verb import progressive
from tools.datasets.hlbd_full.languages.numerals import english_number, hanzi_number, native_korean, sino_korean
from tools.datasets.hlbd_full.lexicon.animal_acts import ACTS, Act
from tools.datasets.hlbd_full.lexicon.nouns import BY_NAME as NOUN
from tools.datasets.hlbd_full.lexicon.nouns import Noun
from tools.datasets.hlbd_full.lexicon.people import JOBS, Job, Person, named, people_of
from tools.datasets.hlbd_full.lexicon.reasons import CAUSES, OUTINGS, Cause, Outing
from tools.datasets.hlbd_full.lexicon.spots import BY_NAME as SPOT
from tools.datasets.hlbd_full.lexicon.spots import Spot
from tools.datasets.hlbd_full.lexicon.towns import CITIES, LANDMARKS, RELATIONS, City, Landmark, Relation
from tools.datasets.hlbd_full.lexicon.weather import DAYS, SKY, WEATHERS, Day, SkyEvent, Weather
from tools.datasets.hlbd_full.patterns.utterance import Parts, Sentence, Utterance


@dataclass(frozen=True)
class Sky(Utterance):
    """下雨: 天下雨了。"""

    event: SkyEvent
    varies: ClassVar[str] = "event"

    @classmethod
    def every(cls) -> Iterator[Self]:
        return (cls(event) for event in SKY)

    def parts(self) -> Parts:
        return ("NP", "天"), ("VP", self.event.zh)

    def concept(self) -> str:
        """Return 下雨 alone, but 天黑 with its subject, without which it would be too short."""
        text = chinese.hanzi(self.event.zh)
        return text if len(text) > 1 else f"天{text}"

    def phrase(self) -> str:
        return self.concept()

    def card(self) -> tuple[str, str]:
        return self.event.char, self.event.emoji

    def sentence(self) -> Sentence:
        event = self.event
        return Sentence(f"天 {event.zh} 了", event.en, event.ja, event.ko)


@dataclass(frozen=True)
class CityWeather(Utterance):
    """北京今天下雨: 北京今天在下雨。"""

    city: City
    day: Day
    weather: Weather
    varies: ClassVar[str] = "weather"
    weight: ClassVar[int] = 5

    @classmethod
    def every(cls) -> Iterator[Self]:
        for city in CITIES:
            for day in DAYS:
                for weather in WEATHERS:
                    at_night = day.zh.endswith("晚上")
                    if (weather.nights or not at_night) and (city.snow or not weather.snow):
                        yield cls(city, day, weather)

    def parts(self) -> Parts:
        return ("NP", self.city.zh), ("T", self.day.zh), ("VP", self.weather.zh)

    def phrase(self) -> str:
        return f"{self.day.zh} {self.weather.zh}"

    def card(self) -> tuple[str, str]:
        return self.weather.char, self.weather.emoji

    def sentence(self) -> Sentence:
        city, day, weather = self.city, self.day, self.weather
        zh, en, ja, ko = (
            weather.at(day.tense, texts)
            for texts in (weather.chinese, weather.english, weather.japanese, weather.korean)
        )
        where = f"{city.ko}에는" if weather.happens else korean.topic(city.ko)
        return Sentence(
            f"{city.zh} {day.zh} {zh}", f"{en} in {city.en} {day.en}.", f"{day.ja}、{city.ja}{ja}。",
            f"{day.ko} {where} {ko}.",
        )  # fmt: skip


@dataclass(frozen=True)
class Beside(Utterance):
    """银行在邮局旁边: 银行就在邮局旁边。"""

    one: Landmark
    other: Landmark
    relation: Relation
    varies: ClassVar[str] = "relation"
    weight: ClassVar[int] = 5

    @classmethod
    def every(cls) -> Iterator[Self]:
        for one in LANDMARKS:
            for other in LANDMARKS:
                if one != other:
                    yield from (cls(one, other, relation) for relation in RELATIONS)

    def parts(self) -> Parts:
        return ("NP", self.one.zh), ("PP", f"在 {self.other.zh} {self.relation.zh}")

    def card(self) -> tuple[str, str]:
        return self.one.char, self.one.emoji

    def sentence(self) -> Sentence:
        one, other, relation = self.one, self.other, self.relation
        return Sentence(
            f"{one.zh} 在 {other.zh} {relation.zh}",
            english.sentence(f"the {one.en} is {relation.en} the {other.en}"),
            f"{one.ja}は{other.ja}の{relation.ja}にあります。",
            f"{korean.topic(one.ko)} {other.ko} {relation.ko}에 있어요.",
        )


@dataclass(frozen=True)
class AnimalAt(Utterance):
    """猫在沙发上睡觉: 一只猫正在沙发上睡觉。"""

    animal: Noun
    spot: Spot
    act: Act
    varies: ClassVar[str] = "animal"
    weight: ClassVar[int] = 4

    @classmethod
    def every(cls) -> Iterator[Self]:
        for act in ACTS:
            for spot in act.spots.split():
                for animal in act.animals.split():
                    if animal in SPOT[spot].holds.split():
                        yield cls(NOUN[animal], SPOT[spot], act)

    def parts(self) -> Parts:
        return ("NP", self.animal.zh), ("PP", f"在 {self.spot.zh}"), ("VP", self.act.zh)

    def phrase(self) -> str:
        return f"在 {self.spot.zh} {self.act.zh}"

    def card(self) -> tuple[str, str]:
        return self.animal.char, self.animal.emoji

    def sentence(self) -> Sentence:
        animal, spot, act = self.animal, self.spot, self.act
        return Sentence(
            f"一 {animal.measure} {animal.zh} 正 在 {spot.zh} {act.zh}",
            english.sentence(f"{animal.one()} is {english.gerund(act.en)} {spot.en}"),
            f"一{animal.ja_counter}の{animal.ja}が{spot.ja}で{act.ja.te}います。",
            f"{animal.ko} 한 {korean.subject(animal.ko_counter)} {spot.ko}에서 {progressive(act.ko, False)}.",
        )

    def rephrased(self) -> Sentence:
        animal, spot, act = self.animal, self.spot, self.act
        return Sentence(
            f"在 {spot.zh} {act.zh} 的 动物 是 {animal.zh}",
            english.sentence(f"the animal {english.gerund(act.en)} {spot.en} is {animal.one()}"),
            f"{spot.ja}で{act.ja.te}いる動物は{animal.ja}です。",
            f"{spot.ko}에서 {act.ko.and_} 있는 동물은 {korean.copula(animal.ko)}.",
        )


WORKERS = named("爸爸 妈妈 爷爷 奶奶 哥哥 姐姐 叔叔 阿姨 表哥 丈夫 妻子 儿子 女儿 邻居 朋友 小李 室友")


@dataclass(frozen=True)
class HasJob(Utterance):
    """叔叔是医生: 叔叔是一名医生。"""

    person: Person
    job: Job
    varies: ClassVar[str] = "job"
    weight: ClassVar[int] = 5

    @classmethod
    def every(cls) -> Iterator[Self]:
        return (cls(person, job) for person in WORKERS for job in JOBS)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("VP", f"是 {self.job.zh}")

    def card(self) -> tuple[str, str]:
        return self.job.char, self.job.emoji

    def sentence(self) -> Sentence:
        one, job = self.person, self.job
        ending = korean.copula_honored if one.honored else korean.copula
        return Sentence(
            f"{one.zh} 是 一 名 {job.zh}",
            english.sentence(f"{one.en} is {english.with_article(job.en)}"),
            f"{one.ja}は{job.ja}です。",
            f"{one.ko_topic} {ending(job.ko)}.",
        )

    def rephrased(self) -> Sentence:
        one, job = self.person, self.job
        return Sentence(
            f"{one.zh} 的 工作 是 {job.zh}",
            english.sentence(f"{one.en} works as {english.with_article(job.en)}"),
            f"{one.ja}の仕事は{job.ja}です。",
            f"{one.ko_possessive} 직업은 {korean.copula(job.ko)}.",
        )


AGES = (
    (named("弟弟 妹妹 儿子 女儿 小明 小红"), range(3, 16)),
    (named("哥哥 姐姐 表哥"), range(16, 30)),
    (named("爸爸 妈妈 叔叔 阿姨 丈夫 妻子 小李"), range(30, 60)),
)
"""People, and how old they may be."""


@dataclass(frozen=True)
class Aged(Utterance):
    """弟弟八岁: 弟弟今年八岁。"""

    person: Person
    years: int
    varies: ClassVar[str] = "years"
    weight: ClassVar[int] = 3

    @classmethod
    def every(cls) -> Iterator[Self]:
        return (cls(person, years) for people, ages in AGES for person in people for years in ages)

    def parts(self) -> Parts:
        return ("NP", self.person.zh), ("VP", f"{hanzi_number(self.years)} 岁")

    def card(self) -> tuple[str, str]:
        return "岁", "🎂"

    def sentence(self) -> Sentence:
        one, years = self.person, self.years
        return Sentence(
            f"{one.zh} 今年 {hanzi_number(years)} 岁",
            english.sentence(f"{one.en} is {english_number(years)} years old"),
            f"{one.ja}は今年{hanzi_number(years)}歳です。",
            f"{one.ko_topic} 올해 {native_korean(years)} 살이에요.",
        )


@dataclass(frozen=True)
class Clock(Utterance):
    """下午三点二十分: 现在是下午三点二十分。"""

    hour: int  # 6 to 23
    minute: int
    varies: ClassVar[str] = "minute"
    weight: ClassVar[int] = 2

    @classmethod
    def every(cls) -> Iterator[Self]:
        return (cls(hour, minute) for hour in range(6, 24) for minute in (0, *range(10, 60, 5)))

    def parts(self) -> Parts:
        return ("T", self._day_part()[0]), ("NP", self._chinese())

    def card(self) -> tuple[str, str]:
        half = self.minute == 30
        face = (self.hour - 1) % 12
        return "点", chr((0x1F55C if half else 0x1F550) + face)

    def sentence(self) -> Sentence:
        zh, en, ja, ko = self._day_part()
        minute_en = "o'clock" if not self.minute else english_number(self.minute)
        minute_ja = "" if not self.minute else "半" if self.minute == 30 else f"{hanzi_number(self.minute)}分"
        minute_ko = "" if not self.minute else " 반" if self.minute == 30 else f" {sino_korean(self.minute)} 분"
        return Sentence(
            f"现在 是 {zh} {self._chinese()}",
            english.sentence(f"it is {english_number(self._hour())} {minute_en} {en}"),
            f"今は{ja}{hanzi_number(self._hour())}時{minute_ja}です。",
            f"지금은 {ko} {native_korean(self._hour())} 시{minute_ko}{'예요' if minute_ko == '' else '이에요'}.",
        )

    def _hour(self) -> int:
        return (self.hour - 1) % 12 + 1

    def _chinese(self) -> str:
        minutes = {0: "", 30: "半", 15: "一 刻", 45: "三 刻"}.get(self.minute)
        text = f"{hanzi_number(self.minute)} 分" if minutes is None else minutes
        return f"{'两' if self._hour() == 2 else hanzi_number(self._hour())} 点 {text}".strip()

    def _day_part(self) -> tuple[str, str, str, str]:
        for until, names in (
            (9, ("早上", "in the morning", "朝の", "아침")),
            (12, ("上午", "in the morning", "午前", "오전")),
            (13, ("中午", "in the afternoon", "昼の", "낮")),
            (18, ("下午", "in the afternoon", "午後", "오후")),
            (21, ("晚上", "in the evening", "夜の", "저녁")),
        ):
            if self.hour < until:
                return names
        return "晚上", "at night", "夜の", "밤"


@dataclass(frozen=True)
class Prevented(Utterance):
    """爸爸因为下雨没能去公园: 因为下雨，所以爸爸没能去公园。"""

    person: Person
    cause: Cause
    outing: Outing
    varies: ClassVar[str] = "cause"
    weight: ClassVar[int] = 5

    @classmethod
    def every(cls) -> Iterator[Self]:
        for cause in CAUSES:
            for outing in OUTINGS:
                for person in people_of(outing.who):
                    if cause.stops & outing.kinds and person.groups & frozenset(cause.who.split()):
                        yield cls(person, cause, outing)

    def parts(self) -> Parts:
        return (
            ("NP", self.person.zh), ("PP", f"因为 {self.cause.zh}"), ("VP", f"没 能 {self.outing.zh}"),
        )  # fmt: skip

    def card(self) -> tuple[str, str]:
        return self.cause.char, self.cause.emoji

    def sentence(self) -> Sentence:
        one, cause, outing = self.person, self.cause, self.outing
        because = cause.english(one)
        ko_because = cause.ko.honored(one.honored and cause.personal).because
        could = outing.ko.honored(one.honored).cannot_past
        zh = (
            f"{one.zh} 因为 {cause.zh} ， 所以 没 能 {outing.zh}"
            if cause.personal
            else f"因为 {cause.zh} ， 所以 {one.zh} 没 能 {outing.zh}"
        )
        ja = (
            f"{one.ja}は{cause.ja}ので、{outing.ja.potential.masen_deshita}。"
            if cause.personal
            else f"{cause.ja}ので、{one.ja}は{outing.ja.potential.masen_deshita}。"
        )
        return Sentence(
            zh,
            english.sentence(f"{one.en} couldn't {outing.en} because {because}"),
            ja,
            f"{one.ko_topic} {ko_because} {could}.",
        )

    def rephrased(self) -> Sentence | None:
        one, cause, outing = self.person, self.cause, self.outing
        cannot = outing.ja.potential.nai[:-1] + "かった"
        ko_because = cause.ko.honored(one.honored and cause.personal).nominal_past
        could = outing.ko.honored(one.honored).cannot_done
        subject = english.sentence(f"because {cause.english(one)}, {one.en} couldn't {outing.en}")
        return Sentence(
            f"{one.zh} 没 能 {outing.zh} ， 是 因为 {cause.zh}",
            subject,
            f"{one.ja}が{cannot}のは、{cause.ja}からです。",
            f"{one.ko_subject} {could} 것은 {ko_because} 때문이에요.",
        )
