"""Feelings, and the wishes that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

from tools.datasets.hlbd_full.korean_verb import KoreanVerb


@dataclass(frozen=True)
class Feeling:
    """How somebody feels. ja: plain form (退屈だ); wishes: names of actions that one then wants to do."""

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
