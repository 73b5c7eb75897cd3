"""Facts for comparisons: things of one kind, ordered by a measure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tools.datasets.hlbd_full.languages.japanese import JapaneseAdjective
from tools.datasets.hlbd_full.languages.korean_verb import KoreanVerb
from tools.datasets.hlbd_full.lexicon.nouns import BY_NAME, Number


@dataclass(frozen=True)
class Compared:
    """A thing on a scale. en: in general (cats); are: its verb; size: its value on the scale."""

    zh: str
    char: str
    emoji: str
    en: str
    are: str
    ja: str
    ko: str
    size: float


@dataclass(frozen=True)
class Contrary:
    """One direction of a scale: bigger, or smaller."""

    zh: str
    en: str
    ja: JapaneseAdjective
    ko: KoreanVerb


def _end(zh: str, en: str, ja: str, ko: str) -> Contrary:
    return Contrary(zh, en, JapaneseAdjective(ja), KoreanVerb.parse(ko))


@dataclass(frozen=True)
class Scale:
    """Things with their sizes; two are compared when one has at least ``ratio`` times the other's size."""

    more: Contrary
    less: Contrary
    ratio: float
    things: tuple[Compared, ...]

    def pairs(self) -> Iterator[tuple[Compared, Compared, Contrary]]:
        """Yield every true comparison: (subject, standard, the quality that the subject has more of)."""
        for one in self.things:
            for other in self.things:
                if one.size >= self.ratio * other.size:
                    yield one, other, self.more
                elif other.size >= self.ratio * one.size:
                    yield one, other, self.less


def _things(rows: str) -> tuple[Compared, ...]:
    """Parse ``name size`` pairs of nouns of the lexicon."""
    found = []
    for row in rows.split("|"):
        name, size = row.split()
        noun = BY_NAME[name]
        are = "is" if noun.number is Number.MASS else "are"
        found.append(Compared(noun.zh, noun.char, noun.emoji, noun.general, are, noun.ja, noun.ko, float(size)))
    return tuple(found)


# fmt: off
SCALES: tuple[Scale, ...] = (
    # Adult body mass in kg, usual figures; twice as much is bigger beyond doubt.
    Scale(_end("大", "big", "大きい", "크다"), _end("小", "small", "小さい", "작다"), 2.0, _things(
        "蚂蚁 0.000005 | 蜜蜂 0.0001 | 蜗牛 0.01 | 老鼠 0.03 | 兔子 2 | 猫 4.5 | 鸡 2.5 | 狐狸 6 | 羊 60 | 狼 45 | "
        "猪 150 | 熊猫 110 | 老虎 200 | 狮子 190 | 马 500 | 牛 700 | 长颈鹿 1100 | 大象 5000 | "
        "鲸鱼 80000 | 猴子 8 | 企鹅 20 | 海豚 200")),
    # Top speed in km/h.
    Scale(_end("快", "fast", "速い", "빠르다"), _end("慢", "slow", "遅い", "느리다"), 1.4, _things(
        "蜗牛 0.05 | 乌龟 0.5 | 老鼠 10 | 猪 17 | 兔子 45 | 马 70")),
    Scale(_end("快", "fast", "速い", "빠르다"), _end("慢", "slow", "遅い", "느리다"), 1.8, _things(
        "自行车 18 | 公交车 45 | 汽车 100 | 火车 200 | 飞机 850")),
    # Usual price in yuan.
    Scale(_end("贵", "expensive", "高い", "비싸다"), _end("便宜", "cheap", "安い", "싸다"), 3.0, _things(
        "橡皮 1 | 铅笔 2 | 书 40 | 雨伞 50 | 椅子 150 | 手表 600 | 自行车 800 | 手机 3000 | 冰箱 3500 | 电脑 6000 | "
        "钢琴 25000 | 汽车 120000 | 房子 2000000 | 飞机 400000000")),
    # Weight in grams.
    Scale(_end("大", "big", "大きい", "크다"), _end("小", "small", "小さい", "작다"), 2.5, _things(
        "樱桃 8 | 草莓 20 | 猕猴桃 90 | 苹果 220 | 芒果 300 | 菠萝 1500 | 西瓜 6000 | 鸡蛋 55 | 桃子 200 | 橙子 200")),
    Scale(_end("重", "heavy", "重い", "무겁다"), _end("轻", "light", "軽い", "가볍다"), 3.0, _things(
        "铅笔 6 | 手机 190 | 书 600 | 雨伞 500 | 椅子 6000 | 桌子 30000 | 冰箱 80000 | 钢琴 250000 | "
        "汽车 1500000 | 自行车 14000 | 电脑 2000 | 报纸 100 | 沙发 60000")),
)
# fmt: on
