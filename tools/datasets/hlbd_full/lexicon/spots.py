"""Spots: where things lie and animals are (on the table, in the box, under the tree)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spot:
    """A spot.

    surface: things lie on it. most: how many of a kind there is room for. holds: names of nouns that one finds there.
    """

    zh: str
    en: str
    ja: str
    ko: str
    surface: bool
    most: int
    holds: str


def _table(text: str) -> tuple[Spot, ...]:
    """Parse rows of two lines: Chinese | English | Japanese | Korean | surface or space | most, then names of nouns."""
    lines = [line.strip() for line in text.strip().splitlines()]
    spots = []
    for head, holds in zip(lines[::2], lines[1::2], strict=True):
        zh, en, ja, ko, kind, most = (column.strip() for column in head.split("|"))
        spots.append(Spot(zh, en, ja, ko, kind == "surface", int(most), holds))
    return tuple(spots)


SPOTS = _table("""
    桌子 上 | on the table | テーブルの上 | 탁자 위 | surface | 6
        苹果 香蕉 橙子 西瓜 桃子 柠檬 芒果 菠萝 蛋糕 饼干 鸡蛋 杯子 盘子 勺子 刀 书 杂志 报纸 花 手机 钥匙 礼物
    书桌 上 | on the desk | 机の上 | 책상 위 | surface | 5
        书 词典 小说 杂志 报纸 信 地图 铅笔 钢笔 橡皮 尺子 本子 台灯 手机 电脑 相机 手表 杯子 钥匙 照片 礼物
    沙发 上 | on the sofa | ソファーの上 | 소파 위 | surface | 4
        书 杂志 报纸 手机 帽子 枕头 玩具 外套 毛衣 球 猫 狗
    床 上 | on the bed | ベッドの上 | 침대 위 | surface | 4
        书 小说 手机 枕头 玩具 毛衣 衬衫 裙子 被子 猫 本子
    椅子 上 | on the chair | 椅子の上 | 의자 위 | surface | 2
        书 杂志 报纸 帽子 书包 外套 毛衣 围巾 猫
    书架 上 | on the bookshelf | 本棚 | 책장 | surface | 6
        书 词典 小说 杂志 照片 地图 相机 本子
    地上 | on the floor | 床の上 | 바닥 | surface | 6
        书 玩具 球 箱子 铅笔 橡皮 书包 帽子 钥匙
    冰箱 里 | in the refrigerator | 冷蔵庫の中 | 냉장고 안 | space | 6
        苹果 橙子 西瓜 桃子 柠檬 西红柿 黄瓜 胡萝卜 鸡蛋 蛋糕 茄子
    书包 里 | in the school bag | かばんの中 | 가방 안 | space | 5
        书 词典 小说 本子 铅笔 钢笔 橡皮 尺子 苹果 香蕉 手机 钥匙 雨伞
    盒子 里 | in the box | 箱の中 | 상자 안 | space | 6
        苹果 橙子 桃子 饼干 鸡蛋 玩具 铅笔 钥匙 手表 照片 信 勺子 球
    抽屉 里 | in the drawer | 引き出しの中 | 서랍 안 | space | 6
        铅笔 钢笔 橡皮 尺子 本子 照片 信 钥匙 手表 地图 勺子 刀
    篮子 里 | in the basket | かごの中 | 바구니 안 | space | 6
        苹果 橙子 桃子 芒果 鸡蛋 西红柿 土豆 胡萝卜 黄瓜 洋葱 球 草莓 樱桃
    桌子 下面 | under the table | テーブルの下 | 탁자 밑 | space | 3
        球 箱子 猫 狗 书包 玩具
    树 下 | under the tree | 木の下 | 나무 아래 | space | 6
        自行车 狗 猫 兔子 马 牛 羊 猴子
    树 上 | in the tree | 木の上 | 나무 위 | space | 6
        鸟 猴子 猫 蝴蝶
    院子 里 | in the yard | 庭 | 마당 | space | 6
        狗 猫 鸡 鸭子 兔子 自行车 树 椅子 桌子 蝴蝶 鸟
    草地 上 | in the meadow | 草原 | 풀밭 | space | 6
        马 牛 羊 兔子 狗 蝴蝶
    农场 里 | on the farm | 農場 | 농장 | space | 6
        马 牛 羊 猪 鸡 鸭子 卡车
    河 里 | in the river | 川 | 강 | space | 6
        鱼 鸭子
    湖 里 | in the lake | 湖 | 호수 | space | 6
        鱼 鸭子
    动物园 里 | at the zoo | 動物園 | 동물원 | space | 6
        老虎 狮子 大象 熊猫 猴子 长颈鹿 蛇 狐狸 狼 熊 企鹅
    教室 里 | in the classroom | 教室 | 교실 | space | 6
        桌子 椅子 电脑 电视 书架 地图 空调
    房间 里 | in the room | 部屋 | 방 | space | 3
        床 桌子 椅子 沙发 书架 电脑 电视 箱子 台灯 猫 狗
    客厅 里 | in the living room | リビング | 거실 | space | 3
        沙发 椅子 桌子 电视 空调 钢琴 猫 狗
    屋顶 上 | on the roof | 屋根の上 | 지붕 위 | space | 4
        鸟 猫
    墙 上 | on the wall | 壁 | 벽 | space | 4
        照片 地图 镜子
""")

BY_NAME = {spot.zh.replace(" ", ""): spot for spot in SPOTS}


def spots(names: str) -> list[Spot]:
    """Return spots by their Chinese names without spaces, given as a spaced list."""
    return [BY_NAME[name] for name in names.split()]
