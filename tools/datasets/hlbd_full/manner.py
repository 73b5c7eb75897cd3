"""How something is done."""

from __future__ import annotations

from dataclasses import dataclass


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
    """Manners by their Chinese names, given as a spaced list."""
    return tuple(BY_NAME[name] for name in names.split())
