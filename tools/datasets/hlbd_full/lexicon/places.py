"""Places where people do things and to which they go."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A place.

    en_at / en_to: "in the park" / "to the park"; en_to is "" for a place that is no destination (on the bus).
    ja, ko: the noun that takes で, 에서 and へ, 에. private: a room at home, no place for people at work.
    who: groups of people (spaced list) whom one meets there.
    """

    zh: str
    char: str
    emoji: str
    en_at: str
    en_to: str
    ja: str
    ko: str
    private: bool
    who: str = "anyone"

    def welcomes(self, groups: frozenset[str]) -> bool:
        """Return whether people of these groups are met here."""
        if self.private and groups & {"role", "visitor"}:
            return False
        return bool(groups & set(self.who.split()))


def _place(zh: str, char: str, emoji: str, en: str, ja: str, ko: str, *, visit: bool = True) -> Place:
    """Build a place; ``en`` is "in the park"; people go "to the park" unless ``visit`` is False."""
    to = f"to {en.partition(' ')[2]}" if visit else ""
    return Place(zh, char, emoji, en, to, ja, ko, private=False)


def _room(zh: str, char: str, emoji: str, en: str, ja: str, ko: str) -> Place:
    return Place(zh, char, emoji, en, "", ja, ko, private=True)


# fmt: off
PLACES: tuple[Place, ...] = (
    _room("家 里", "家", "🏠", "at home", "家", "집"),
    _room("厨房", "厨", "🍳", "in the kitchen", "台所", "부엌"),
    _room("客厅", "客", "🛋️", "in the living room", "リビング", "거실"),
    _room("卧室", "卧", "🛏️", "in the bedroom", "寝室", "침실"),
    _room("书房", "书", "📚", "in the study", "書斎", "서재"),
    _room("浴室", "浴", "🛁", "in the bathroom", "浴室", "욕실"),
    _room("阳台", "阳", "🪴", "on the balcony", "ベランダ", "베란다"),
    _room("院子 里", "院", "🏡", "in the yard", "庭", "마당"),
    Place("宿舍", "宿", "🛏️", "in the dorm", "", "寮", "기숙사", private=True, who="young"),
    _place("公园", "园", "🏞️", "in the park", "公園", "공원"),
    _place("学校", "校", "🏫", "at school", "学校", "학교"),
    _place("教室", "教", "🏫", "in the classroom", "教室", "교실"),
    _place("图书馆", "馆", "📚", "in the library", "図書館", "도서관"),
    _place("操场", "操", "🏃", "on the playground", "運動場", "운동장"),
    _place("体育馆", "体", "🏟️", "in the gym", "体育館", "체육관"),
    _place("游泳池", "池", "🏊", "at the pool", "プール", "수영장"),
    _place("实验室", "验", "🧪", "in the lab", "実験室", "실험실"),
    _place("办公室", "办", "🏢", "in the office", "オフィス", "사무실", visit=False),
    _place("公司", "司", "🏢", "at work", "会社", "회사", visit=False),
    _place("医院", "医", "🏥", "at the hospital", "病院", "병원"),
    _place("商店", "店", "🏪", "at the store", "店", "가게"),
    _place("超市", "超", "🛒", "at the supermarket", "スーパー", "슈퍼마켓"),
    _place("市场", "市", "🛒", "at the market", "市場", "시장"),
    _place("书店", "书", "📚", "at the bookstore", "本屋", "서점"),
    _place("花店", "花", "💐", "at the flower shop", "花屋", "꽃집"),
    _place("面包店", "包", "🥖", "at the bakery", "パン屋", "빵집"),
    _place("饭馆", "饭", "🍽️", "at the restaurant", "レストラン", "식당"),
    _place("咖啡店", "咖", "☕", "at the café", "カフェ", "카페"),
    _place("火车站", "站", "🚉", "at the train station", "駅", "기차역"),
    _place("公交车站", "站", "🚏", "at the bus stop", "バス停", "버스 정류장", visit=False),
    _place("机场", "机", "✈️", "at the airport", "空港", "공항"),
    _place("公交车 上", "车", "🚌", "on the bus", "バスの中", "버스 안", visit=False),
    _place("火车 上", "车", "🚆", "on the train", "電車の中", "기차 안", visit=False),
    _place("银行", "银", "🏦", "at the bank", "銀行", "은행"),
    _place("邮局", "邮", "🏤", "at the post office", "郵便局", "우체국"),
    _place("电影院", "影", "🎬", "at the movie theater", "映画館", "영화관"),
    _place("博物馆", "博", "🏛️", "at the museum", "博物館", "박물관"),
    _place("动物园", "园", "🦁", "at the zoo", "動物園", "동물원"),
    _place("游乐园", "乐", "🎡", "at the amusement park", "遊園地", "놀이공원"),
    _place("理发店", "理", "💈", "at the barbershop", "床屋", "이발소"),
    _place("酒店", "酒", "🏨", "at the hotel", "ホテル", "호텔", visit=False),
    _place("路口", "路", "🚦", "at the intersection", "交差点", "교차로", visit=False),
    _place("海边", "海", "🏖️", "at the beach", "海辺", "바닷가"),
    _place("河边", "河", "🏞️", "by the river", "川辺", "강가"),
    _place("湖边", "湖", "🏞️", "by the lake", "湖のほとり", "호숫가"),
    _place("山 上", "山", "⛰️", "on the mountain", "山", "산"),
    _place("田 里", "田", "🌾", "in the field", "畑", "밭", visit=False),
    _place("果园", "果", "🍎", "in the orchard", "果樹園", "과수원"),
    _place("滑雪场", "雪", "🎿", "at the ski resort", "スキー場", "스키장"),
)
# fmt: on

BY_NAME = {place.zh.replace(" ", ""): place for place in PLACES}


def places(names: str) -> tuple[Place, ...]:
    """Return places by their Chinese names without spaces, given as a spaced list."""
    return tuple(BY_NAME[name] for name in names.split())
