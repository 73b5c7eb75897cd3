"""Reasons: causes with the outings that they stop, feelings with the wishes that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

from tools.datasets.hlbd_full.languages.english import was
from tools.datasets.hlbd_full.languages.japanese import JapaneseVerb
from tools.datasets.hlbd_full.languages.korean_verb import KoreanVerb
from tools.datasets.hlbd_full.lexicon.people import Person


@dataclass(frozen=True)
class Cause:
    """A cause. en: clause with {who} {was}; ja: plain past before ので; personal: it is the person's own state.

    stops: kinds of outings; who: groups of people whom it can happen to.
    """

    zh: str
    char: str
    emoji: str
    en: str
    ja: str
    ko: KoreanVerb
    personal: bool
    stops: frozenset[str]
    who: str

    def english(self, person: Person) -> str:
        """Return the English clause: it rained; he was too busy."""
        return self.en.format(who=person.pronoun, was=was(person.pronoun_agreement))


def _cause(zh: str, char: str, emoji: str, en: str, ja: str, ko: str, stops: str, who: str = "anyone") -> Cause:
    personal = en.startswith("{who}")
    return Cause(zh, char, emoji, en, ja, KoreanVerb.parse(ko), personal, frozenset(stops.split()), who)


# fmt: off
CAUSES: tuple[Cause, ...] = (
    _cause("下 雨", "雨", "🌧️", "it rained", "雨が降った", "비가 오다", "outdoor"),
    _cause("下 雪", "雪", "🌨️", "it snowed", "雪が降った", "눈이 오다", "outdoor warm"),
    _cause("刮 大风", "风", "🌬️", "it was too windy", "風が強かった", "바람이 세게 불다", "outdoor"),
    _cause("天气 太 热", "热", "🥵", "it was too hot", "暑すぎた", "날씨가 너무 덥다", "outdoor"),
    _cause("天气 太 冷", "冷", "🥶", "it was too cold", "寒すぎた", "날씨가 너무 춥다", "outdoor warm"),
    _cause("堵+车", "堵", "🚗", "there was a traffic jam", "道が混んでいた", "길이 막히다", "date"),
    _cause("生+病", "病", "🤒", "{who} {was} sick", "病気だった", "아프다", "outdoor warm date duty leisure"),
    _cause("感冒", "感", "🤧", "{who} had a cold", "風邪を引いた", "감기에 걸리다", "outdoor warm date duty leisure"),
    _cause("太 忙", "忙", "🏃", "{who} {was} too busy", "忙しすぎた", "너무 바쁘다", "outdoor warm leisure",
           "grown role"),
    _cause("太 累", "累", "😫", "{who} {was} too tired", "とても疲れていた", "너무 피곤하다", "outdoor warm leisure"),
    _cause("没有 时间", "时", "⏳", "{who} had no time", "時間がなかった", "시간이 없다", "outdoor warm leisure"),
    _cause("没有 钱", "钱", "💸", "{who} had no money", "お金がなかった", "돈이 없다", "paid", "grown student"),
    _cause("作业 太 多", "作", "📚", "{who} had too much homework", "宿題が多すぎた", "숙제가 너무 많다",
           "outdoor leisure", "student"),
    _cause("要 加+班", "班", "🏢", "{who} had to work overtime", "残業しなければならなかった", "야근을 해야 하다",
           "leisure", "adult worker"),
    _cause("起+床 太 晚", "晚", "⏰", "{who} got up too late", "起きるのが遅すぎた", "너무 늦게 일어나다", "duty date"),
)
# fmt: on


@dataclass(frozen=True)
class Outing:
    """Going somewhere for something. kinds: outdoor, warm, date, duty, leisure, paid (what can stop it)."""

    zh: str
    en: str
    ja: JapaneseVerb
    ko: KoreanVerb
    who: str
    kinds: frozenset[str]


def _outing(zh: str, en: str, ja: str, ko: str, who: str, kinds: str) -> Outing:
    return Outing(zh, en, JapaneseVerb.parse(ja), KoreanVerb.parse(ko), who, frozenset(kinds.split()))


# fmt: off
OUTINGS: tuple[Outing, ...] = (
    _outing("去 公园", "go to the park", "公園に 行く", "공원에 가다", "home", "outdoor"),
    _outing("去 动物园", "go to the zoo", "動物園に 行く", "동물원에 가다", "home", "outdoor paid"),
    _outing("去 海边", "go to the beach", "海辺に 行く", "바닷가에 가다", "home", "outdoor leisure"),
    _outing("去 爬+山", "go hiking", "登山に 行く", "등산하러 가다", "grown", "outdoor leisure"),
    _outing("去 钓+鱼", "go fishing", "釣りに 行く", "낚시하러 가다", "adult elder", "outdoor leisure"),
    _outing("去 跑+步", "go jogging", "ジョギングに 行く", "조깅하러 가다", "grown", "outdoor"),
    _outing("去 散+步", "go for a walk", "散歩に 行く", "산책하러 가다", "home", "outdoor"),
    _outing("去 野餐", "go on a picnic", "ピクニックに 行く", "피크닉하러 가다", "home", "outdoor leisure"),
    _outing("去 踢 足球", "go play soccer", "サッカーをしに 行く", "축구하러 가다", "young child", "outdoor leisure"),
    _outing("去 游+泳", "go swimming", "泳ぎに 行く", "수영하러 가다", "home", "warm leisure paid"),
    _outing("去 看 电影", "go to the movies", "映画を見に 行く", "영화를 보러 가다", "home", "leisure date paid"),
    _outing("去 旅行", "go on a trip", "旅行に 行く", "여행을 가다", "home", "leisure paid"),
    _outing("去 买 东西", "go shopping", "買い物に 行く", "장을 보러 가다", "grown", "leisure paid"),
    _outing("去 滑+雪", "go skiing", "スキーに 行く", "스키를 타러 가다", "young adult", "leisure paid"),
    _outing("去 学校", "go to school", "学校に 行く", "학교에 가다", "student", "duty date"),
    _outing("去 上+班", "go to work", "会社に 行く", "회사에 가다", "adult", "duty date"),
    _outing("参加 聚会", "come to the party", "パーティーに 出る", "파티에 가다", "home worker", "date leisure"),
    _outing("参加 比赛", "take part in the match", "試合に 出る", "경기에 나가다", "student coach", "date duty"),
    _outing("参加 会议", "attend the meeting", "会議に 出る", "회의에 참석하다", "worker", "date duty"),
)
# fmt: on


@dataclass(frozen=True)
class Feeling:
    """A feeling. ja: plain form (退屈だ); wishes: names of actions that a person with this feeling wants to do."""

    zh: str
    en: str
    ja: str
    ko: KoreanVerb
    wishes: str

    @property
    def ja_before_node(self) -> str:
        """Before ので: 疲れた, 退屈な."""
        return self.ja[:-1] + "な" if self.ja.endswith("屈だ") else self.ja


def _feeling(zh: str, en: str, ja: str, ko: str, wishes: str) -> Feeling:
    return Feeling(zh, en, ja, KoreanVerb.parse(ko), wishes)


# fmt: off
FEELINGS: tuple[Feeling, ...] = (
    _feeling("渴", "thirsty", "のどが渇いた", "목이 마르다", "喝水 喝茶 喝果汁 喝可乐 喝牛奶 吃西瓜"),
    _feeling("饿", "hungry", "おなかがすいた", "배가 고프다",
             "吃饭 吃面条 吃饺子 吃披萨 吃汉堡 吃面包 吃火锅 吃寿司 做饭 吃水果"),
    _feeling("累", "tired", "疲れた", "피곤하다", "休息 睡觉 听音乐 洗澡 喝茶 喝咖啡 打车 睡午觉"),
    _feeling("困", "sleepy", "眠い", "졸리다", "睡觉 睡午觉 喝咖啡 休息"),
    _feeling("热", "hot", "暑い", "덥다", "游泳 吃冰淇淋 喝果汁 喝可乐 吃西瓜 洗澡 喝啤酒 喝水"),
    _feeling("冷", "cold", "寒い", "춥다", "喝汤 喝茶 喝咖啡 吃火锅 洗澡 喝牛奶"),
    _feeling("无聊", "bored", "退屈だ", "심심하다",
             "看电影 玩游戏 看电视 看漫画 听音乐 打牌 聊天 看小说 画画 唱歌 散步"),
)
# fmt: on
