"""Towns: cities, the buildings and grounds of a town, and where one of these lies from another."""

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
    """A spatial relation: 旁边, next to, 隣, 옆."""

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


@dataclass(frozen=True)
class City:
    """A city. snow: it snows there in an ordinary winter."""

    zh: str
    char: str
    emoji: str
    en: str
    ja: str
    ko: str
    snow: bool


# fmt: off
CITIES: tuple[City, ...] = (
    City("北京", "京", "🏯", "Beijing", "北京", "베이징", True),
    City("上海", "海", "🌃", "Shanghai", "上海", "상하이", True),
    City("广州", "广", "🏙️", "Guangzhou", "広州", "광저우", False),
    City("西安", "安", "🏯", "Xi'an", "西安", "시안", True),
    City("成都", "都", "🐼", "Chengdu", "成都", "청두", False),
    City("哈尔滨", "哈", "⛄", "Harbin", "ハルビン", "하얼빈", True),
    City("杭州", "杭", "🏞️", "Hangzhou", "杭州", "항저우", True),
    City("南京", "南", "🏯", "Nanjing", "南京", "난징", True),
    City("香港", "港", "🌃", "Hong Kong", "香港", "홍콩", False),
    City("台北", "台", "🏙️", "Taipei", "台北", "타이베이", False),
    City("东京", "东", "🗼", "Tokyo", "東京", "도쿄", True),
    City("大阪", "阪", "🏯", "Osaka", "大阪", "오사카", True),
    City("首尔", "首", "🏙️", "Seoul", "ソウル", "서울", True),
    City("釜山", "釜", "🌊", "Busan", "釜山", "부산", False),
    City("纽约", "纽", "🗽", "New York", "ニューヨーク", "뉴욕", True),
    City("伦敦", "伦", "🎡", "London", "ロンドン", "런던", True),
    City("巴黎", "黎", "🗼", "Paris", "パリ", "파리", True),
    City("莫斯科", "莫", "🏰", "Moscow", "モスクワ", "모스크바", True),
    City("罗马", "罗", "🏛️", "Rome", "ローマ", "로마", False),
    City("悉尼", "悉", "🌉", "Sydney", "シドニー", "시드니", False),
)
# fmt: on
