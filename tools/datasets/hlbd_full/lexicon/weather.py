"""Weather: what falls or blows (下雨), how it feels (冷), what the sky is like (晴天)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tools.datasets.hlbd_full.languages.english import gerund, past
from tools.datasets.hlbd_full.languages.japanese import JapaneseAdjective, JapaneseVerb
from tools.datasets.hlbd_full.languages.korean_verb import KoreanVerb


class Tense(Enum):
    """When the weather is talked about."""

    PAST = "past"
    NOW = "now"
    FUTURE = "future"


@dataclass(frozen=True)
class Day:
    """A day with weather."""

    zh: str
    en: str
    ja: str
    ko: str
    tense: Tense


DAYS: tuple[Day, ...] = (
    Day("昨天", "yesterday", "昨日", "어제", Tense.PAST),
    Day("前天", "the day before yesterday", "おととい", "그저께", Tense.PAST),
    Day("昨天 晚上", "last night", "昨夜", "어젯밤", Tense.PAST),
    Day("今天", "today", "今日", "오늘", Tense.NOW),
    Day("明天", "tomorrow", "明日", "내일", Tense.FUTURE),
    Day("后天", "the day after tomorrow", "あさって", "모레", Tense.FUTURE),
)


@dataclass(frozen=True)
class Weather:
    """Weather in all three tenses.

    zh: past, now, future after city and day; en: past, now, future; ja, ko likewise. happens: it falls or
    strikes there (Korean 에는), else the place itself is so (은). nights: it can be said of a night.
    snow: it needs a city where snow falls.
    """

    zh: str
    char: str
    emoji: str
    chinese: tuple[str, str, str]
    english: tuple[str, str, str]
    japanese: tuple[str, str, str]
    korean: tuple[str, str, str]
    happens: bool
    nights: bool
    snow: bool

    def at(self, tense: Tense, texts: tuple[str, str, str]) -> str:
        """Return the text for a tense."""
        return texts[list(Tense).index(tense)]


def _event(zh: str, char: str, emoji: str, en: str, ja: str, ko: str, *, snow: bool = False) -> Weather:
    """Build weather that happens: ``en`` is "rain"; ``ja`` "雨が 降る", ``ko`` "비가 오다"."""
    verb, korean = JapaneseVerb.parse(ja), KoreanVerb.parse(ko)
    return Weather(
        zh, char, emoji,
        (f"{zh} 了", f"在 {zh}", f"会 {zh}"),
        (f"It {past(en)}", f"It is {gerund(en)}", f"It will {en}"),
        (f"では{verb.mashita}", f"では{verb.te}います", f"では{verb.dictionary}でしょう"),
        (korean.past, f"{korean.and_} 있어요", korean.future),
        happens=True, nights=True, snow=snow,
    )  # fmt: skip


def _feel(zh: str, emoji: str, en: str, ja: str, ko: str) -> Weather:
    """Build weather that is felt: an adjective in every language."""
    adjective, korean = JapaneseAdjective(ja), KoreanVerb.parse(ko)
    return Weather(
        zh, zh[0], emoji,
        (f"很 {zh}", f"很 {zh}", f"会 很 {zh}"),
        (f"It was {en}", f"It is {en}", f"It will be {en}"),
        (f"は{adjective.polite_past}", f"は{adjective.polite}", f"は{adjective.probable}"),
        (korean.past, korean.polite, korean.future),
        happens=False, nights=True, snow=False,
    )  # fmt: skip


def _sky(zh: str, emoji: str, en: str, ja: str, ko: str) -> Weather:
    """Build a state of the sky: a noun in Chinese and Japanese, an adjective in English and Korean."""
    korean = KoreanVerb.parse(ko)
    return Weather(
        zh, zh[0], emoji,
        (f"是 {zh}", f"是 {zh}", f"会 是 {zh}"),
        (f"It was {en}", f"It is {en}", f"It will be {en}"),
        (f"は{ja}でした", f"は{ja}です", f"は{ja}でしょう"),
        (korean.past, korean.polite, korean.future),
        happens=False, nights=False, snow=False,
    )  # fmt: skip


WEATHERS: tuple[Weather, ...] = (
    _event("下 雨", "雨", "🌧️", "rain", "雨が 降る", "비가 오다"),
    _event("下 雪", "雪", "🌨️", "snow", "雪が 降る", "눈이 오다", snow=True),
    _event("下 大雨", "雨", "⛈️", "rain heavily", "大雨が 降る", "비가 많이 오다"),
    _event("下 小雨", "雨", "🌦️", "drizzle", "小雨が 降る", "비가 조금 오다"),
    _event("打+雷", "雷", "🌩️", "thunder", "雷が 鳴る", "천둥이 치다"),
    _feel("冷", "🥶", "cold", "寒い", "춥다"),
    _feel("热", "🥵", "hot", "暑い", "덥다"),
    _feel("暖和", "🌤️", "warm", "暖かい", "따뜻하다"),
    _feel("凉快", "🍃", "cool", "涼しい", "시원하다"),
    _feel("潮湿", "💧", "humid", "湿度が高い", "습하다"),
    _sky("晴天", "☀️", "sunny", "晴れ", "맑다"),
    _sky("阴天", "☁️", "cloudy", "曇り", "흐리다"),
)


@dataclass(frozen=True)
class SkyEvent:
    """An event in the sky, as people report it: 天下雨了."""

    zh: str
    char: str
    emoji: str
    en: str
    ja: str
    ko: str


SKY: tuple[SkyEvent, ...] = (
    SkyEvent("下 雨", "雨", "🌧️", "It is raining.", "雨が降っています。", "비가 와요."),
    SkyEvent("下 雪", "雪", "❄️", "It is snowing.", "雪が降っています。", "눈이 와요."),
    SkyEvent("打+雷", "雷", "🌩️", "It is thundering.", "雷が鳴っています。", "천둥이 쳐요."),
    SkyEvent("晴", "晴", "☀️", "The sky has cleared up.", "空が晴れました。", "하늘이 맑아졌어요."),
    SkyEvent("阴", "阴", "☁️", "The sky has clouded over.", "空が曇りました。", "하늘이 흐려졌어요."),
    SkyEvent("黑", "黑", "🌃", "It has gotten dark.", "暗くなりました。", "어두워졌어요."),
    SkyEvent("亮", "亮", "🌅", "Morning has come.", "朝になりました。", "아침이 됐어요."),
    SkyEvent("冷", "冷", "🥶", "It has gotten cold.", "寒くなりました。", "날씨가 추워졌어요."),
    SkyEvent("热", "热", "🥵", "It has gotten hot.", "暑くなりました。", "날씨가 더워졌어요."),
)
