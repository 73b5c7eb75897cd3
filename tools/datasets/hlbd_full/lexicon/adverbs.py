"""Adverbs: manners, moments of the past and future, and rhythms."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Moment:
    """A time of the past or future. part: morning, afternoon, evening, or "" when any part of the day fits.
    near: so near that everyday acts (having breakfast) are worth telling.

    ja / ko stand in a sentence (週末に, 주말에); ja_noun / ko_noun are the bare words (週末, 주말).
    """

    zh: str
    en: str
    ja: str
    ko: str
    ja_noun: str
    ko_noun: str
    part: str
    near: bool = True


@dataclass(frozen=True)
class Rhythm:
    """A frequency. every: a regular habit that Chinese closes with 都; else an adverb before the verb (often).

    scale: day, week or any.
    """

    zh: str
    en: str
    ja: str
    ko: str
    part: str
    every: bool
    scale: str


def _moment(zh: str, en: str, ja: str, ko: str, part: str = "", *, near: bool = True) -> Moment:
    return Moment(zh, en, ja, ko, ja.rstrip("に、"), ko.removesuffix("에"), part, near)


PAST: tuple[Moment, ...] = (
    _moment("昨天", "yesterday", "昨日", "어제"),
    _moment("昨天 晚上", "last night", "昨夜", "어젯밤에", "evening"),
    _moment("昨天 下午", "yesterday afternoon", "昨日の午後、", "어제 오후에", "afternoon"),
    _moment("前天", "the day before yesterday", "おととい", "그저께"),
    _moment("今天 早上", "this morning", "今朝", "오늘 아침에", "morning"),
    _moment("上 个 星期六", "last Saturday", "先週の土曜日に", "지난 토요일에", near=False),
    _moment("上 个 星期天", "last Sunday", "先週の日曜日に", "지난 일요일에", near=False),
    _moment("上 个 周末", "last weekend", "先週末に", "지난 주말에", near=False),
    _moment("刚才", "a moment ago", "さっき", "조금 전에"),
)

FUTURE: tuple[Moment, ...] = (
    _moment("明天", "tomorrow", "明日", "내일"),
    _moment("明天 早上", "tomorrow morning", "明日の朝、", "내일 아침에", "morning"),
    _moment("明天 下午", "tomorrow afternoon", "明日の午後、", "내일 오후에", "afternoon"),
    _moment("明天 晚上", "tomorrow evening", "明日の夜、", "내일 저녁에", "evening"),
    _moment("后天", "the day after tomorrow", "あさって", "모레"),
    _moment("这 个 周末", "this weekend", "今週末に", "이번 주말에"),
    _moment("下 个 星期六", "next Saturday", "来週の土曜日に", "다음 주 토요일에"),
    _moment("下 个 星期天", "next Sunday", "来週の日曜日に", "다음 주 일요일에"),
)

RHYTHMS: tuple[Rhythm, ...] = (
    Rhythm("每 天", "every day", "毎日", "매일", "", True, "day"),
    Rhythm("每 天 早上", "every morning", "毎朝", "매일 아침", "morning", True, "day"),
    Rhythm("每 天 下午", "every afternoon", "毎日午後に", "매일 오후", "afternoon", True, "day"),
    Rhythm("每 天 晚上", "every evening", "毎晩", "매일 저녁", "evening", True, "day"),
    Rhythm("每 个 周末", "every weekend", "毎週末", "주말마다", "", True, "week"),
    Rhythm("每 个 星期六", "every Saturday", "毎週土曜日に", "토요일마다", "", True, "week"),
    Rhythm("每 个 星期天", "every Sunday", "毎週日曜日に", "일요일마다", "", True, "week"),
    Rhythm("经常", "often", "よく", "자주", "", False, "any"),
    Rhythm("有时候", "sometimes", "時々", "때때로", "", False, "any"),
)


@dataclass(frozen=True)
class Manner:
    """An adverb of manner.

    request / describe: Chinese before the verb in "please …" (慢慢) and in "is …ing" with 地 (慢慢 地); "" where
    the language does not use it that way. English stands after the verb phrase.
    """

    zh: str
    request: str
    describe: str
    en: str
    ja: str
    ko: str


MANNERS: tuple[Manner, ...] = (
    Manner("慢慢", "慢慢", "慢慢 地", "slowly", "ゆっくり", "천천히"),
    Manner("快点", "快点", "", "quickly", "早く", "빨리"),
    Manner("认真", "认真", "认真 地", "diligently", "真面目に", "열심히"),
    Manner("仔细", "仔细", "仔细 地", "with great care", "丁寧に", "꼼꼼히"),
    Manner("安静", "安静", "安静 地", "quietly", "静かに", "조용히"),
    Manner("小心", "小心", "小心 地", "carefully", "慎重に", "조심해서"),
    Manner("高兴", "", "高兴 地", "happily", "楽しそうに", "즐겁게"),
    Manner("大声", "大声", "大声 地", "loudly", "大きな声で", "큰 소리로"),
    Manner("轻轻", "轻轻", "轻轻 地", "gently", "そっと", "살살"),
    Manner("努力", "努力", "努力 地", "hard", "一生懸命", "부지런히"),
    Manner("耐心", "耐心", "耐心 地", "patiently", "根気よく", "참을성 있게"),
    Manner("熟练", "", "熟练 地", "skillfully", "上手に", "능숙하게"),
    Manner("偷偷", "", "偷偷 地", "secretly", "こっそり", "몰래"),
    Manner("舒服", "", "舒服 地", "comfortably", "気持ちよさそうに", "편안하게"),
    Manner("专心", "专心", "专心 地", "with full attention", "集中して", "집중해서"),
    Manner("一起", "一起", "", "together", "一緒に", "같이"),
    Manner("马上", "马上", "", "right away", "すぐに", "바로"),
    Manner("按时", "按时", "", "on time", "時間どおりに", "제시간에"),
    Manner("早点", "早点", "", "early", "早めに", "일찍"),
    Manner("每天", "每 天", "", "every day", "毎日", "매일"),
    Manner("自己", "自己", "", "by yourself", "自分で", "혼자서"),
    Manner("先", "先", "", "first", "先に", "먼저"),
    Manner("好好", "好好", "", "properly", "きちんと", "제대로"),
)

BY_NAME = {manner.zh: manner for manner in MANNERS}


def manners(names: str) -> tuple[Manner, ...]:
    """Return manners by their Chinese names, given as a spaced list."""
    return tuple(BY_NAME[name] for name in names.split())
