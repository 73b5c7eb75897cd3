"""The acts of animals, and the places for them."""

from __future__ import annotations

from dataclasses import dataclass

from tools.datasets.hlbd_full.languages.japanese import JapaneseVerb
from tools.datasets.hlbd_full.languages.korean_verb import KoreanVerb


@dataclass(frozen=True)
class Act:
    """Something animals do. animals, spots: Chinese names (spaced lists)."""

    zh: str
    en: str
    ja: JapaneseVerb
    ko: KoreanVerb
    animals: str
    spots: str


def _act(zh: str, en: str, ja: str, ko: str, animals: str, spots: str) -> Act:
    return Act(zh, en, JapaneseVerb.parse(ja), KoreanVerb.parse(ko), animals, spots)


# fmt: off
ACTS: tuple[Act, ...] = (
    _act("睡+觉", "sleep", "寝る", "자다", "猫 狗 兔子 牛 马 羊 猪 狮子 老虎 熊 熊猫 狐狸 蛇 狼",
         "沙发上 床上 椅子上 桌子下面 院子里 树下 草地上 屋顶上 客厅里 房间里 农场里 动物园里"),
    _act("跑", "run", "走る", "뛰다", "狗 马 兔子 猫", "院子里 草地上 农场里"),
    _act("吃 草", "eat grass", "草を 食べる", "풀을 먹다", "马 牛 羊 兔子", "草地上 树下 农场里 院子里"),
    _act("喝 水", "drink water", "水を 飲む", "물을 마시다", "狗 猫 鸡 鸭子 马 牛 羊 猪 老虎 狮子 大象 猴子 长颈鹿 熊",
         "院子里 农场里 动物园里 客厅里"),
    _act("玩", "play", "遊ぶ", "놀다", "猫 狗 兔子 猴子 熊猫 熊 企鹅",
         "院子里 草地上 客厅里 房间里 树下 动物园里 床上"),
    _act("游+泳", "swim", "泳ぐ", "헤엄치다", "鱼 鸭子", "河里 湖里"),
    _act("晒 太阳", "bask in the sun", "日向ぼっこを する", "햇볕을 쬐다", "猫 狗 狮子 老虎 蛇 牛 企鹅",
         "屋顶上 院子里 草地上 农场里 动物园里"),
    _act("找 食物", "look for food", "餌を 探す", "먹이를 찾다", "鸡 鸟 鸭子 猴子 狐狸 熊 猪 兔子 狼 企鹅",
         "院子里 农场里 动物园里 树上 草地上"),
    _act("休息", "rest", "休む", "쉬다", "牛 马 羊 狗 鸟 大象 长颈鹿 猫 老虎 狮子 猴子 蝴蝶",
         "树下 草地上 农场里 动物园里 树上 院子里 屋顶上"),
    _act("唱+歌", "sing", "さえずる", "노래하다", "鸟", "树上 屋顶上 院子里"),
    _act("吃 竹子", "eat bamboo", "竹を 食べる", "대나무를 먹다", "熊猫", "动物园里"),
    _act("吃 香蕉", "eat a banana", "バナナを 食べる", "바나나를 먹다", "猴子 大象", "动物园里 树上 树下"),
    _act("爬 树", "climb a tree", "木に 登る", "나무에 오르다", "猫 猴子 熊 熊猫", "院子里 动物园里"),
)
# fmt: on
