"""Patterns about things: where they are and belong, what they are, whose and what colour, given and worn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from tools.datasets.hlbd_full.languages import english, korean
from tools.datasets.hlbd_full.languages.korean_verb import progressive
from tools.datasets.hlbd_full.languages.numerals import counted, english_number, hanzi_number, native_korean
from tools.datasets.hlbd_full.lexicon.categories import MEMBERS, Member
from tools.datasets.hlbd_full.lexicon.colors import COLORS, Color
from tools.datasets.hlbd_full.lexicon.garments import GARMENTS, Garment
from tools.datasets.hlbd_full.lexicon.nouns import ANIMALS, Noun, Number, nouns
from tools.datasets.hlbd_full.lexicon.people import Person, named, people_of
from tools.datasets.hlbd_full.lexicon.spots import SPOTS, Spot, spots
from tools.datasets.hlbd_full.patterns.utterance import Parts, Sentence, Utterance


@dataclass(frozen=True)
class Exists(Utterance):
    """桌子上有两本书: 桌子上有两本书。"""

    spot: Spot
    number: int
    noun: Noun
    varies: ClassVar[str] = "number"
    weight: ClassVar[int] = 7

    @classmethod
    def every(cls) -> Iterator[Self]:
        for spot in SPOTS:
            for noun in nouns(spot.holds):
                if noun.number is Number.ONE:
                    most = min(spot.most, 3) if noun.kinds & {"large", "pet", "furniture"} else spot.most
                    yield from (cls(spot, number, noun) for number in range(1, most + 1))

    def parts(self) -> Parts:
        return ("NP", self.spot.zh), ("VP", f"有 {self._many()}")

    def phrase(self) -> str:
        return self._many()

    def card(self) -> tuple[str, str]:
        return self.noun.char, self.noun.emoji

    def sentence(self) -> Sentence:
        spot, noun = self.spot, self.noun
        are = "is" if self.number == 1 else "are"
        there = "います" if noun in ANIMALS else "あります"
        return Sentence(
            f"{spot.zh} 有 {self._many()}",
            english.sentence(f"there {are} {self._english()} {spot.en}"),
            f"{spot.ja}に{noun.ja}が{self._japanese()}{there}。",
            f"{spot.ko}에 {self._korean()} 있어요.",
        )

    def rephrased(self) -> Sentence | None:
        spot, noun = self.spot, self.noun
        if not spot.surface or noun in ANIMALS:
            return None
        are = "is" if self.number == 1 else "are"
        return Sentence(
            f"{spot.zh} 放-着 {self._many()}",
            english.sentence(f"{self._english()} {are} lying {spot.en}"),
            f"{spot.ja}に{noun.ja}が{self._japanese()}置いてあります。",
            f"{spot.ko}에 {self._korean()} 놓여 있어요.",
        )

    def _many(self) -> str:
        return f"{counted(self.number)} {self.noun.measure} {self.noun.zh}"

    def _english(self) -> str:
        if self.number == 1:
            return self.noun.one()
        return f"{english_number(self.number)} {english.plural(self.noun.en)}"

    def _japanese(self) -> str:
        return f"{hanzi_number(self.number)}{self.noun.ja_counter}"

    def _korean(self) -> str:
        return f"{korean.subject(self.noun.ko)} {native_korean(self.number)} {self.noun.ko_counter}"


PUT_ON = spots("桌子上 书桌上 沙发上 床上 椅子上 书架上 冰箱里 书包里 盒子里 抽屉里 篮子里")


@dataclass(frozen=True)
class Put(Utterance):
    """把书放在桌子上: 请把书放在桌子上。"""

    noun: Noun
    spot: Spot
    varies: ClassVar[str] = "spot"
    weight: ClassVar[int] = 4

    @classmethod
    def every(cls) -> Iterator[Self]:
        for spot in PUT_ON:
            for noun in nouns(spot.holds):
                if noun not in ANIMALS:
                    yield cls(noun, spot)

    def parts(self) -> Parts:
        return ("PP", f"把 {self.noun.zh}"), ("VP", f"放 在 {self.spot.zh}")

    def card(self) -> tuple[str, str]:
        return self.noun.char, self.noun.emoji

    def sentence(self) -> Sentence:
        noun, spot = self.noun, self.spot
        return Sentence(
            f"请 把 {noun.zh} 放 在 {spot.zh}",
            english.sentence(f"please put the {noun.en} {spot.en}"),
            f"{noun.ja}を{spot.ja}に{self._ja_put()}ください。",
            f"{korean.object_(noun.ko)} {spot.ko}에 {self._ko_put()} 주세요.",
        )

    def rephrased(self) -> Sentence:
        noun, spot = self.noun, self.spot
        return Sentence(
            f"你 能 把 {noun.zh} 放 在 {spot.zh} 吗",
            english.sentence(f"can you put the {noun.en} {spot.en}", "?"),
            f"{noun.ja}を{spot.ja}に{self._ja_put()}くれますか。",
            f"{korean.object_(noun.ko)} {spot.ko}에 {self._ko_put()} 줄 수 있어요?",
            "？",
        )

    def _ja_put(self) -> str:
        """Return the verb of putting: 入れて into a container, 置いて onto a surface."""
        return "置いて" if self.spot.surface else "入れて"

    def _ko_put(self) -> str:
        return "놓아" if self.spot.surface else "넣어"


@dataclass(frozen=True)
class IsKind(Utterance):
    """猫是动物: 猫是一种动物。"""

    member: Member
    varies: ClassVar[str] = "member"
    weight: ClassVar[int] = 4

    @classmethod
    def every(cls) -> Iterator[Self]:
        return (cls(member) for member in MEMBERS if member.category.zh != "季节")

    def parts(self) -> Parts:
        return ("NP", self.member.zh), ("VP", f"是 {self.member.category.zh}")

    def card(self) -> tuple[str, str]:
        return self.member.char, self.member.emoji

    def sentence(self) -> Sentence:
        member, category = self.member, self.member.category
        are = "is" if member.one == member.en or member.one[:2] in ("a ", "an") else "are"
        what = english.with_article(category.en) if category.en != "means of transport" else "a means of transport"
        return Sentence(
            f"{member.zh} 是 一 种/zhǒng {category.zh}",
            english.sentence(f"{member.one} {are} {what}"),
            f"{member.ja}は{category.ja}です。",
            f"{korean.topic(member.ko)} {korean.copula(category.ko)}.",
        )


CHILDREN_HAVE = ("书包", "玩具", "球")
"""Things that only children and students own and are given."""


def _fits_age(person: Person, noun: Noun) -> bool:
    return noun.zh not in CHILDREN_HAVE or bool(person.groups & {"child", "student"})


OWNERS = named("我 爸爸 妈妈 爷爷 奶奶 哥哥 姐姐 弟弟 妹妹 叔叔 阿姨 儿子 女儿 小明 小红 朋友 同学 小李 邻居 老师")
OWNED = nouns("自行车 书包 雨伞 杯子 帽子 手套 围巾 手机 汽车 鞋子 外套 毛衣 衬衫 本子 钢笔 椅子 相机 行李 手表 枕头")


@dataclass(frozen=True)
class Owned(Utterance):
    """哥哥的自行车是蓝色的: 哥哥的自行车是蓝色的。"""

    person: Person
    noun: Noun
    color: Color
    varies: ClassVar[str] = "color"
    weight: ClassVar[int] = 5

    @classmethod
    def every(cls) -> Iterator[Self]:
        for person in OWNERS:
            for noun in OWNED:
                if not (noun.zh == "汽车" and "child" in person.groups) and _fits_age(person, noun):
                    yield from (cls(person, noun, color) for color in COLORS)

    def parts(self) -> Parts:
        return ("NP", f"{self.person.zh} 的 {self.noun.zh}"), ("VP", f"是 {self.color.zh} 的")

    def phrase(self) -> str:
        return self.parts()[0][1]

    def card(self) -> tuple[str, str]:
        return self.noun.char, self.noun.emoji

    def sentence(self) -> Sentence:
        one, noun, color = self.person, self.noun, self.color
        return Sentence(
            f"{one.zh} 的 {noun.zh} 是 {color.zh} 的",
            english.sentence(f"{one.en_possessive} {noun.en} {noun.are} {color.en}"),
            f"{one.ja}の{noun.ja}は{color.ja.polite}。",
            f"{one.ko_possessive} {korean.topic(noun.ko)} {korean.copula(color.ko)}.",
        )

    def rephrased(self) -> Sentence:
        one, noun, color = self.person, self.noun, self.color
        have = english.present("have", one.agreement)
        holding = "가지고 계세요" if one.honored else "가지고 있어요"
        return Sentence(
            f"{one.zh} 有 一 {noun.measure} {color.zh} 的 {noun.zh}",
            english.sentence(f"{one.en} {have} {noun.one(color.en)}"),
            f"{one.ja}は{color.ja.attributive}{noun.ja}を持っています。",
            f"{one.ko_topic} {color.ko} {korean.object_(noun.ko)} {holding}.",
        )


@dataclass(frozen=True)
class Wears(Utterance):
    """姐姐穿着红色毛衣: 姐姐穿着一件红色的毛衣。"""

    person: Person
    color: Color
    garment: Garment
    varies: ClassVar[str] = "color"
    weight: ClassVar[int] = 6

    @classmethod
    def every(cls) -> Iterator[Self]:
        for garment in GARMENTS:
            for person in people_of(garment.who):
                if person.agreement is not english.Agreement.PLURAL:
                    yield from (cls(person, color, garment) for color in garment.colors)

    def parts(self) -> Parts:
        garment = self.garment
        return ("NP", self.person.zh), ("V", f"{garment.zh_verb}-着"), ("NP", f"{self.color.zh} {garment.zh}")

    def card(self) -> tuple[str, str]:
        return self.garment.noun.char, self.garment.noun.emoji

    def sentence(self) -> Sentence:
        one, color, garment = self.person, self.color, self.garment
        noun = garment.noun
        return Sentence(
            f"{one.zh} {garment.zh_verb}-着 一 {noun.measure} {color.zh} 的 {noun.zh}",
            english.sentence(f"{one.en} {english.be(one.agreement)} wearing {noun.one(color.en)}"),
            f"{one.ja}は{color.ja.attributive}{noun.ja}を{garment.ja.te}います。",
            f"{one.ko_topic} {color.ko} {korean.object_(noun.ko)} {progressive(garment.ko, one.honored)}.",
        )

    def rephrased(self) -> Sentence | None:
        one, color, garment = self.person, self.color, self.garment
        noun = garment.noun
        if one.is_first:
            return None
        who = "분은" if one.honored else "사람은"
        ending = korean.copula_honored(one.ko) if one.honored else korean.copula(one.ko)
        wearing = progressive(garment.ko, one.honored).removesuffix("있어요").removesuffix("계세요")
        return Sentence(
            f"{garment.zh_verb} {color.zh} {noun.zh} 的 人 是 {one.zh}",
            english.sentence(f"the person in {noun.one(color.en)} is {one.en}"),
            f"{color.ja.attributive}{noun.ja}を{garment.ja.te}いる人は{one.ja}です。",
            f"{color.ko} {korean.object_(noun.ko)} {wearing}{'계신' if one.honored else '있는'} {who} {ending}.",
        )


GIVERS = named("我 爸爸 妈妈 爷爷 奶奶 哥哥 姐姐 弟弟 妹妹 叔叔 阿姨 小明 小红 朋友 老师 同学")
GIFTS = nouns("手表 雨伞 书包 玩具 花 钢笔 书 词典 帽子 手套 围巾 毛衣 相机 蛋糕 自行车 球 巧克力")
RECEIVERS_ENGLISH = {"我": "me", "朋友": "a friend", "同学": "a classmate"}


@dataclass(frozen=True)
class Gave(Utterance):
    """爸爸送妹妹一本书: 爸爸送了妹妹一本书。"""

    giver: Person
    receiver: Person
    gift: Noun
    varies: ClassVar[str] = "gift"
    weight: ClassVar[int] = 5

    @classmethod
    def every(cls) -> Iterator[Self]:
        for giver in GIVERS:
            for receiver in GIVERS:
                couple = {giver.zh, receiver.zh}
                if len(couple) == 2 and couple not in ({"爷爷", "奶奶"}, {"朋友", "同学"}):
                    yield from (cls(giver, receiver, gift) for gift in GIFTS if _fits_age(receiver, gift))

    def parts(self) -> Parts:
        return ("NP", self.giver.zh), ("VP", f"送 {self.receiver.zh} {self._present()}")

    def phrase(self) -> str:
        return self._present()

    def card(self) -> tuple[str, str]:
        return self.gift.char, self.gift.emoji

    def sentence(self) -> Sentence:
        giver, receiver, gift = self.giver, self.receiver, self.gift
        whom = RECEIVERS_ENGLISH.get(receiver.zh, receiver.en)
        ja_gave = "くれました" if receiver.is_first else "あげました"
        return Sentence(
            f"{giver.zh} 送-了 {receiver.zh} {self._present()}",
            english.sentence(f"{giver.en} gave {whom} {gift.one()}"),
            f"{giver.ja}は{receiver.ja}に{gift.ja}を{ja_gave}。",
            f"{giver.ko_topic} {self._ko_to()} {korean.object_(gift.ko)} {self._ko_gave()}.",
        )

    def rephrased(self) -> Sentence | None:
        giver, receiver, gift = self.giver, self.receiver, self.gift
        if giver.is_first or giver.zh in RECEIVERS_ENGLISH:
            return None
        from_whom = f"{giver.ko}께" if giver.honored else f"{giver.ko}에게서"
        return Sentence(
            f"{receiver.zh} 收-下-了 {giver.zh} 送 的 {self._present()}",
            english.sentence(f"{receiver.en} got {gift.one()} from {giver.en}"),
            f"{receiver.ja}は{giver.ja}から{gift.ja}をもらいました。",
            f"{receiver.ko_topic} {from_whom} {korean.object_(gift.ko)} "
            f"{'받으셨어요' if receiver.honored else '받았어요'}.",
        )

    def _present(self) -> str:
        return f"一 {self.gift.measure} {self.gift.zh}"

    def _ko_to(self) -> str:
        return f"{self.receiver.ko}께" if self.receiver.honored else f"{self.receiver.ko}에게"

    def _ko_gave(self) -> str:
        """Return the verb of giving: 드렸어요 to an honored receiver, 주셨어요 from an honored giver."""
        if self.giver.honored:
            return "주셨어요"
        return "드렸어요" if self.receiver.honored else "줬어요"
