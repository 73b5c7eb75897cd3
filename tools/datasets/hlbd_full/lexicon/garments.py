"""Clothes: each language has its own verbs of wearing for the upper body, legs, head and hands."""

from __future__ import annotations

from dataclasses import dataclass

from tools.datasets.hlbd_full.languages.japanese import JapaneseVerb
from tools.datasets.hlbd_full.languages.korean_verb import KoreanVerb
from tools.datasets.hlbd_full.lexicon.colors import COLORS, Color
from tools.datasets.hlbd_full.lexicon.nouns import BY_NAME, Noun, noun


@dataclass(frozen=True)
class Garment:
    """A piece of clothing with its verbs: 穿, 戴, 围, 系 / 着る, はく, かぶる / 입다, 신다, 쓰다."""

    noun: Noun
    zh_verb: str
    ja: JapaneseVerb
    ko: KoreanVerb
    who: str
    colors: tuple[Color, ...]

    @property
    def zh(self) -> str:
        """The garment's Chinese name."""
        return self.noun.zh


def _garment(name: str | Noun, zh_verb: str, ja: str, ko: str, who: str = "home", colors: str = "") -> Garment:
    one = BY_NAME[name] if isinstance(name, str) else name
    chosen = tuple(color for color in COLORS if not colors or color.zh[0] in colors)
    return Garment(one, zh_verb, JapaneseVerb("", ja), KoreanVerb("", ko[:-1]), who, chosen)


_DRESS = noun("连衣裙 | 裙 | 👗 | dress | one | ワンピース | 원피스 | 条 | 枚 | 벌 | clothes")
_SUIT = noun("西装 | 装 | 🤵 | suit | one | スーツ | 양복 | 套 | 着 | 벌 | clothes")
_TIE = noun("领带 | 领 | 👔 | tie | one | ネクタイ | 넥타이 | 条 | 本 | 개 | clothes")
_GLASSES = noun("眼镜 | 镜 | 👓 | glasses | pair | 眼鏡 | 안경 | 副 | 本 | 개 | clothes")
_SNEAKERS = noun("运动鞋 | 鞋 | 👟 | sneakers | pair | スニーカー | 운동화 | 双 | 足 | 켤레 | clothes")
_RAINCOAT = noun("雨衣 | 衣 | 🧥 | raincoat | one | レインコート | 비옷 | 件 | 着 | 벌 | clothes")
_MASK = noun("口罩 | 罩 | 😷 | mask | one | マスク | 마스크 | 个 | 枚 | 개 | clothes")

GARMENTS: tuple[Garment, ...] = (
    _garment("毛衣", "穿", "着る", "입다"),
    _garment("衬衫", "穿", "着る", "입다"),
    _garment("外套", "穿", "着る", "입다"),
    _garment("裙子", "穿", "はく", "입다", "female"),
    _garment("裤子", "穿", "はく", "입다", colors="蓝白黑灰棕"),
    _garment("鞋子", "穿", "はく", "신다"),
    _garment("袜子", "穿", "はく", "신다"),
    _garment("帽子", "戴", "かぶる", "쓰다"),
    _garment("手套", "戴", "はめる", "끼다"),
    _garment("围巾", "围", "巻く", "두르다"),
    _garment(_DRESS, "穿", "着る", "입다", "female"),
    _garment(_SUIT, "穿", "着る", "입다", "adult elder", "蓝黑灰白"),
    _garment(_TIE, "系/jì", "締める", "매다", "parent worker", "红蓝绿黑灰紫"),
    _garment(_GLASSES, "戴", "かける", "쓰다", colors="红黑棕蓝"),
    _garment(_SNEAKERS, "穿", "はく", "신다"),
    _garment(_RAINCOAT, "穿", "着る", "입다", colors="黄蓝红绿粉"),
    _garment(_MASK, "戴", "する", "쓰다", colors="白黑蓝粉"),
)
