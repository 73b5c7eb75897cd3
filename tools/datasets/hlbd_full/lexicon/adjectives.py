"""Qualities: adjectives with the nouns or people that they describe."""

from __future__ import annotations

from dataclasses import dataclass

from tools.datasets.hlbd_full.languages.japanese import JapaneseAdjective
from tools.datasets.hlbd_full.languages.korean_verb import KoreanVerb


@dataclass(frozen=True)
class Adjective:
    """A quality. of: kinds of nouns it fits; uses: ``too`` (太烫了) and ``not`` (不甜) where that is natural."""

    zh: str
    en: str
    ja: JapaneseAdjective
    ko: KoreanVerb
    of: str
    uses: frozenset[str]

    def chinese(self, degree: str) -> str:
        """Return the Chinese quality with a word of degree: 很 甜; 个子 很 高."""
        topic, _, word = self.zh.rpartition(" ") if self.zh.startswith("个子") else ("", "", self.zh)
        return f"{topic} {degree} {word}".strip()


def quality(zh: str, en: str, ja: str, ko: str, of: str = "", uses: str = "") -> Adjective:
    """Build one row of a table of adjectives."""
    return Adjective(zh, en, JapaneseAdjective(ja), KoreanVerb.parse(ko), of, frozenset(uses.split()))


# fmt: off
QUALITIES: tuple[Adjective, ...] = (
    quality(
        "大",
        "big",
        "大きい",
        "크다",
        "fruit mild large vegetable clothes box vehicle sized room building scenery animal parcel",
        "too not",
    ),
    quality(
        "小", "small", "小さい", "작다", "clothes box sized room animal insect vegetable fruit mild small parcel", "too"
    ),
    quality("重", "heavy", "重い", "무겁다", "furniture box volume large parcel", "too not"),
    quality("轻", "light", "軽い", "가볍다", "box handy shoes parcel", "not"),
    quality("长", "long", "長い", "길다", "long length", "too not"),
    quality("短", "short", "短い", "짧다", "long length pen", "too"),
    quality("高", "tall", "高い", "높다", "tall", "too not"),
    quality(
        "贵",
        "expensive",
        "高い",
        "비싸다",
        "fruit mild clothes device gift priced vehicle furniture shop",
        "too not",
    ),
    quality(
        "便宜", "cheap", "安い", "싸다", "fruit mild vegetable clothes device gift priced vehicle shop", "not"
    ),
    quality("干净", "clean", "清潔な", "깨끗하다", "clothes clean room site", "not"),
    quality("脏", "dirty", "汚い", "더럽다", "clothes clean room", "too not"),
    quality("漂亮", "pretty", "きれいな", "예쁘다", "clothes pretty", "not"),
    quality("美丽", "beautiful", "美しい", "아름답다", "beauty scenery"),
    quality("舒服", "comfortable", "快適な", "편안하다", "seat", "not"),
    quality("暖和", "warm", "暖かい", "따뜻하다", "thick room", "not"),
    quality("厚", "thick", "厚い", "두껍다", "thick volume", "too not"),
    quality("薄/báo", "thin", "薄い", "얇다", "thick volume", "too"),
    quality("软", "soft", "柔らかい", "부드럽다", "baked soft", "too not"),
    quality("硬", "hard", "硬い", "딱딱하다", "baked soft seat", "too not"),
    quality("结实", "sturdy", "丈夫な", "튼튼하다", "furniture box shoes", "not"),
    quality("甜", "sweet", "甘い", "달다", "fruit mild sweet juice", "too not"),
    quality("酸", "sour", "酸っぱい", "시다", "fruit sharp juice", "too not"),
    quality("苦", "bitter", "苦い", "쓰다", "bitter medicine", "too not"),
    quality("辣", "spicy", "辛い", "맵다", "dish", "too not"),
    quality("咸", "salty", "しょっぱい", "짜다", "dish", "too not"),
    quality("新鲜", "fresh", "新鮮な", "신선하다", "fruit mild sharp vegetable egg fresh", "not"),
    quality("好吃", "tasty", "おいしい", "맛있다", "fruit mild vegetable baked sweet dish tasty", "not"),
    quality("好喝", "tasty", "おいしい", "맛있다", "drink", "not"),
    quality("烫", "hot", "熱い", "뜨겁다", "hot water", "too not"),
    quality("凉", "cold", "冷たい", "차갑다", "water juice", "too not"),
    quality("有意思", "interesting", "面白い", "재미있다", "text"),
    quality("无聊", "boring", "つまらない", "지루하다", "text dull", "too"),
    quality("难", "difficult", "難しい", "어렵다", "hard", "too not"),
    quality("简单", "easy", "簡単な", "쉽다", "hard", "too not"),
    quality("重要", "important", "大事な", "중요하다", "weighty", "not"),
    quality("有名", "famous", "有名な", "유명하다", "famous fame site", "not"),
    quality("感人", "moving", "感動的な", "감동적이다", "story", ""),
    quality("安静", "quiet", "静かな", "조용하다", "room site", "not"),
    quality("吵", "noisy", "うるさい", "시끄럽다", "noise room site", "too not"),
    quality("热闹", "lively", "にぎやかな", "활기차다", "lively", "not"),
    quality("宽敞", "spacious", "広い", "넓다", "room", "not"),
    quality("宽", "wide", "幅が広い", "폭이 넓다", "wide", "not"),
    quality("窄", "narrow", "狭い", "좁다", "wide", "too not"),
    quality("深", "deep", "深い", "깊다", "deep", "too not"),
    quality("浅", "shallow", "浅い", "얕다", "deep", "too"),
    quality("亮", "bright", "明るい", "밝다", "room lamp", "too not"),
    quality("暗", "dark", "暗い", "어둡다", "room lamp", "too"),
    quality("快", "fast", "速い", "빠르다", "vehicle ride speed", "not"),
    quality("慢", "slow", "遅い", "느리다", "vehicle ride speed", "too"),
    quality("方便", "convenient", "便利な", "편리하다", "handy ride", "not"),
    quality("好用", "easy to use", "使いやすい", "쓰기 편하다", "device handy", "not"),
    quality("安全", "safe", "安全な", "안전하다", "vehicle ride traffic", "not"),
    quality("危险", "dangerous", "危ない", "위험하다", "traffic sharpened fierce", "too"),
    quality("可爱", "cute", "かわいい", "귀엽다", "pet cute", "not"),
    quality("聪明", "smart", "賢い", "똑똑하다", "clever pet", "not"),
    quality("听话", "well-behaved", "おとなしい", "얌전하다", "pet", "not"),
    quality("凶", "fierce", "凶暴な", "사납다", "fierce", "too"),
)
# fmt: on

CHARACTERS: tuple[Adjective, ...] = (
    quality("忙", "busy", "忙しい", "바쁘다", "grown role"),
    quality("个子 高", "tall", "背が高い", "키가 크다", "home role"),
    quality("个子 矮", "short", "背が低い", "키가 작다", "home"),
    quality("聪明", "smart", "頭がいい", "똑똑하다", "home role"),
    quality("善良", "kind", "優しい", "친절하다", "home role"),
    quality("健康", "healthy", "健康な", "건강하다", "home role"),
    quality("年轻", "young", "若い", "젊다", "adult role"),
    quality("勇敢", "brave", "勇敢な", "용감하다", "home police fire reporter"),
    quality("温柔", "gentle", "穏やかな", "다정하다", "home nurse doctor teacher"),
    quality("严格", "strict", "厳しい", "엄격하다", "adult elder teacher coach worker"),
    quality("谦虚", "modest", "謙虚な", "겸손하다", "grown role"),
    quality("活泼", "lively", "活発な", "활발하다", "child young"),
    quality("诚实", "honest", "正直な", "정직하다", "home role"),
    quality("勤劳", "hardworking", "働き者の", "부지런하다", "grown role"),
    quality("可靠", "reliable", "頼もしい", "믿음직하다", "grown role"),
    quality("幽默", "funny", "面白い", "재미있다", "home role"),
    quality("能干", "capable", "有能な", "유능하다", "adult worker role"),
    quality("害羞", "shy", "恥ずかしがり屋の", "수줍음이 많다", "child young"),
    quality("有 耐心", "patient", "我慢強い", "참을성이 많다", "home teacher nurse doctor coach"),
    quality("有名", "famous", "有名な", "유명하다", "painter singer writer scientist chef doctor"),
)
