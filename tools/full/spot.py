"""Spots: where things lie and animals are (on the table, in the box, under the tree)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spot:
    """A spot. surface: things lie on it; holds: names of nouns that one finds there (spaced list)."""

    zh: str
    en: str
    ja: str
    ko: str
    surface: bool
    holds: str


DESK = "书 词典 小说 杂志 报纸 信 地图 铅笔 钢笔 橡皮 尺子 本子 台灯 手机 电脑 相机 手表 杯子 钥匙 照片 礼物"
TABLE = (
    "苹果 香蕉 橙子 西瓜 桃子 柠檬 芒果 菠萝 蛋糕 饼干 鸡蛋 杯子 盘子 勺子 刀 书 杂志 报纸 花 手机 钥匙 礼物"
)

SPOTS: tuple[Spot, ...] = (
    Spot("桌子 上", "on the table", "テーブルの上", "탁자 위", True, TABLE),
    Spot("书桌 上", "on the desk", "机の上", "책상 위", True, DESK),
    Spot(
        "沙发 上",
        "on the sofa",
        "ソファーの上",
        "소파 위",
        True,
        "书 杂志 报纸 手机 帽子 枕头 玩具 外套 毛衣 球 猫 狗",
    ),
    Spot(
        "床 上",
        "on the bed",
        "ベッドの上",
        "침대 위",
        True,
        "书 小说 手机 枕头 玩具 毛衣 衬衫 裙子 被子 猫 本子",
    ),
    Spot("椅子 上", "on the chair", "椅子の上", "의자 위", True, "书 杂志 报纸 帽子 书包 外套 毛衣 围巾 猫"),
    Spot("书架 上", "on the bookshelf", "本棚", "책장", True, "书 词典 小说 杂志 照片 地图 相机 本子"),
    Spot("地上", "on the floor", "床の上", "바닥", True, "书 玩具 球 箱子 铅笔 橡皮 书包 帽子 钥匙"),
    Spot(
        "冰箱 里",
        "in the refrigerator",
        "冷蔵庫の中",
        "냉장고 안",
        False,
        "苹果 橙子 西瓜 桃子 柠檬 西红柿 黄瓜 胡萝卜 白菜 鸡蛋 蛋糕 茄子 鱼",
    ),
    Spot(
        "书包 里",
        "in the school bag",
        "かばんの中",
        "가방 안",
        False,
        "书 词典 小说 本子 铅笔 钢笔 橡皮 尺子 苹果 香蕉 手机 钥匙 雨伞",
    ),
    Spot(
        "盒子 里",
        "in the box",
        "箱の中",
        "상자 안",
        False,
        "苹果 橙子 桃子 饼干 鸡蛋 玩具 铅笔 钥匙 手表 照片 信 勺子 球",
    ),
    Spot(
        "抽屉 里",
        "in the drawer",
        "引き出しの中",
        "서랍 안",
        False,
        "铅笔 钢笔 橡皮 尺子 本子 照片 信 钥匙 手表 地图 勺子 刀",
    ),
    Spot(
        "篮子 里",
        "in the basket",
        "かごの中",
        "바구니 안",
        False,
        "苹果 橙子 桃子 芒果 鸡蛋 西红柿 土豆 胡萝卜 黄瓜 洋葱 球 草莓 樱桃",
    ),
    Spot("桌子 下面", "under the table", "テーブルの下", "탁자 밑", False, "球 箱子 猫 狗 书包 玩具"),
    Spot("树 下", "under the tree", "木の下", "나무 아래", False, "自行车 狗 猫 兔子 马 牛 羊 猴子"),
    Spot("树 上", "in the tree", "木の上", "나무 위", False, "鸟 猴子 猫 蝴蝶"),
    Spot("院子 里", "in the yard", "庭", "마당", False, "狗 猫 鸡 鸭子 兔子 自行车 树 椅子 桌子 蝴蝶 鸟"),
    Spot("草地 上", "on the grass", "草原", "풀밭", False, "马 牛 羊 兔子 狗 蝴蝶 自行车"),
    Spot("农场 里", "on the farm", "農場", "농장", False, "马 牛 羊 猪 鸡 鸭子 卡车"),
    Spot("河 里", "in the river", "川", "강", False, "鱼 鸭子"),
    Spot("湖 里", "in the lake", "湖", "호수", False, "鱼 鸭子"),
    Spot(
        "动物园 里",
        "at the zoo",
        "動物園",
        "동물원",
        False,
        "老虎 狮子 大象 熊猫 猴子 长颈鹿 蛇 狐狸 狼 熊 企鹅",
    ),
    Spot("教室 里", "in the classroom", "教室", "교실", False, "桌子 椅子 电脑 电视 书架 地图 空调"),
    Spot("房间 里", "in the room", "部屋", "방", False, "床 桌子 椅子 沙发 书架 电脑 电视 箱子 台灯 猫 狗"),
    Spot("客厅 里", "in the living room", "リビング", "거실", False, "沙发 椅子 桌子 电视 空调 钢琴 猫 狗"),
    Spot("屋顶 上", "on the roof", "屋根の上", "지붕 위", False, "鸟 猫"),
    Spot("墙 上", "on the wall", "壁", "벽", False, "照片 地图 镜子"),
)

BY_NAME = {spot.zh.replace(" ", ""): spot for spot in SPOTS}
