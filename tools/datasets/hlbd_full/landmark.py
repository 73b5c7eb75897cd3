"""Buildings and grounds of a town, and where one lies from the other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Landmark:
    """A place by which people find their way; en is without article."""

    zh: str
    char: str
    emoji: str
    en: str
    ja: str
    ko: str


@dataclass(frozen=True)
class Relation:
    """Where something lies from another: 旁边, next to, 隣, 옆."""

    zh: str
    en: str
    ja: str
    ko: str


LANDMARKS: tuple[Landmark, ...] = (
    Landmark("银行", "银", "🏦", "bank", "銀行", "은행"),
    Landmark("邮局", "邮", "🏤", "post office", "郵便局", "우체국"),
    Landmark("医院", "医", "🏥", "hospital", "病院", "병원"),
    Landmark("学校", "校", "🏫", "school", "学校", "학교"),
    Landmark("超市", "超", "🛒", "supermarket", "スーパー", "슈퍼마켓"),
    Landmark("公园", "园", "🏞️", "park", "公園", "공원"),
    Landmark("书店", "书", "📚", "bookstore", "本屋", "서점"),
    Landmark("图书馆", "馆", "📚", "library", "図書館", "도서관"),
    Landmark("饭馆", "饭", "🍽️", "restaurant", "レストラン", "식당"),
    Landmark("咖啡店", "咖", "☕", "café", "カフェ", "카페"),
    Landmark("酒店", "酒", "🏨", "hotel", "ホテル", "호텔"),
    Landmark("电影院", "影", "🎬", "movie theater", "映画館", "영화관"),
    Landmark("火车站", "站", "🚉", "train station", "駅", "기차역"),
    Landmark("博物馆", "博", "🏛️", "museum", "博物館", "박물관"),
    Landmark("花店", "花", "💐", "flower shop", "花屋", "꽃집"),
    Landmark("面包店", "包", "🥖", "bakery", "パン屋", "빵집"),
    Landmark("体育馆", "体", "🏟️", "gym", "体育館", "체육관"),
    Landmark("警察局", "警", "🚓", "police station", "警察署", "경찰서"),
    Landmark("药店", "药", "💊", "pharmacy", "薬局", "약국"),
    Landmark("市场", "市", "🛍️", "market", "市場", "시장"),
)

RELATIONS: tuple[Relation, ...] = (
    Relation("旁边", "next to", "隣", "옆"),
    Relation("对面", "across from", "向かい", "맞은편"),
    Relation("前面", "in front of", "前", "앞"),
    Relation("后面", "behind", "後ろ", "뒤"),
    Relation("附近", "near", "近く", "근처"),
)
