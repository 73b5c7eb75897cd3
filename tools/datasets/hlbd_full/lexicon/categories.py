"""Categories and their members: a cat is an animal, red is a colour, basketball is a sport."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tools.datasets.hlbd_full.lexicon.colors import COLORS
from tools.datasets.hlbd_full.lexicon.nouns import ANIMALS, BY_NAME, FRUIT, VEGETABLES, Noun, Number


@dataclass(frozen=True)
class Category:
    """A category; en is the singular."""

    zh: str
    en: str
    ja: str
    ko: str
    liked: bool


@dataclass(frozen=True)
class Member:
    """A member of a category. en: the kind as a whole (cats); one: with article (a cat); are: is or are for en."""

    category: Category
    zh: str
    char: str
    emoji: str
    en: str
    one: str
    are: str
    ja: str
    ko: str


ANIMAL = Category("动物", "animal", "動物", "동물", True)
FRUITS = Category("水果", "fruit", "果物", "과일", True)
VEGETABLE = Category("蔬菜", "vegetable", "野菜", "채소", True)
COLOR = Category("颜色", "color", "色", "색", True)
SEASON = Category("季节", "season", "季節", "계절", True)
SPORT = Category("运动", "sport", "スポーツ", "스포츠", True)
DRINK = Category("饮料", "drink", "飲み物", "음료", True)
INSTRUMENT = Category("乐器", "musical instrument", "楽器", "악기", False)
VEHICLE = Category("交通 工具", "means of transport", "乗り物", "교통수단", False)
FURNITURE = Category("家具", "piece of furniture", "家具", "가구", False)
APPLIANCE = Category("电器", "electrical appliance", "電化製品", "가전제품", False)


def _of(category: Category, nouns: tuple[Noun, ...]) -> Iterator[Member]:
    for noun in nouns:
        are = "is" if noun.number is Number.MASS else "are"
        yield Member(category, noun.zh, noun.char, noun.emoji, noun.general, noun.one(), are, noun.ja, noun.ko)


def _named(category: Category, rows: str) -> Iterator[Member]:
    """Yield uncountable members; columns: Chinese, character, emoji, English, Japanese, Korean."""
    for row in rows.strip().splitlines():
        zh, char, emoji, en, ja, ko = (column.strip() for column in row.split("|"))
        yield Member(category, zh, char, emoji, en, en, "is", ja, ko)


def _nouns(names: str) -> tuple[Noun, ...]:
    return tuple(BY_NAME[name] for name in names.split())


MEMBERS: tuple[Member, ...] = (
    *_of(ANIMAL, ANIMALS),
    *_of(FRUITS, FRUIT),
    *_of(VEGETABLE, VEGETABLES),
    *(Member(COLOR, c.zh, c.char, c.emoji, c.en, c.en, "is", c.ja_noun, c.ko) for c in COLORS),
    *_named(SEASON, """
        春天 | 春 | 🌸 | spring | 春 | 봄
        夏天 | 夏 | ☀️ | summer | 夏 | 여름
        秋天 | 秋 | 🍁 | fall | 秋 | 가을
        冬天 | 冬 | ⛄ | winter | 冬 | 겨울
    """),
    *_named(SPORT, """
        篮球 | 篮 | 🏀 | basketball | バスケットボール | 농구
        足球 | 足 | ⚽ | soccer | サッカー | 축구
        乒乓球 | 乒 | 🏓 | table tennis | 卓球 | 탁구
        羽毛球 | 羽 | 🏸 | badminton | バドミントン | 배드민턴
        网球 | 网 | 🎾 | tennis | テニス | 테니스
        排球 | 排 | 🏐 | volleyball | バレーボール | 배구
        棒球 | 棒 | ⚾ | baseball | 野球 | 야구
        游泳 | 泳 | 🏊 | swimming | 水泳 | 수영
        滑雪 | 滑 | ⛷️ | skiing | スキー | 스키
    """),
    *_of(DRINK, _nouns("茶 咖啡 牛奶 果汁")),
    *_named(DRINK, """
        可乐 | 乐 | 🥤 | cola | コーラ | 콜라
        啤酒 | 啤 | 🍺 | beer | ビール | 맥주
        豆浆 | 浆 | 🥛 | soy milk | 豆乳 | 두유
    """),
    *_named(INSTRUMENT, """
        钢琴 | 琴 | 🎹 | the piano | ピアノ | 피아노
        吉他 | 吉 | 🎸 | the guitar | ギター | 기타
        小提琴 | 提 | 🎻 | the violin | バイオリン | 바이올린
        笛子 | 笛 | 🎶 | the flute | 笛 | 피리
        鼓 | 鼓 | 🥁 | the drum | 太鼓 | 북
        二胡 | 胡 | 🎻 | the erhu | 二胡 | 얼후
        琵琶 | 琶 | 🪕 | the pipa | 琵琶 | 비파
    """),
    *_of(VEHICLE, _nouns("汽车 自行车 公交车 火车 飞机 出租车 卡车 摩托车")),
    *_of(FURNITURE, _nouns("桌子 椅子 床 沙发 书架")),
    *_of(APPLIANCE, _nouns("冰箱 洗衣机 空调 电视 电脑 台灯")),
)  # fmt: skip


def favourites() -> list[Member]:
    """Return members that a person can like best: not the ant or the mouse."""
    disliked = {"蚂蚁", "老鼠", "蜗牛", "啤酒", "蛇"}
    return [member for member in MEMBERS if member.category.liked and member.zh not in disliked]
