"""Things and animals, with the measure word or counter that each language counts them by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tools.datasets.hlbd_full.languages import english


class Number(Enum):
    """The treatment of a noun in English: an apple, these pants, milk."""

    ONE = "one"
    PAIR = "pair"
    MASS = "mass"


@dataclass(frozen=True)
class Noun:
    """A thing or an animal.

    measure: Chinese measure word; ja_counter, ko_counter: counters (本が二冊, 책이 두 권).
    kinds: its properties, for choosing adjectives and places that fit.
    """

    zh: str
    char: str
    emoji: str
    en: str
    number: Number
    ja: str
    ko: str
    measure: str
    ja_counter: str
    ko_counter: str
    kinds: frozenset[str]

    @property
    def this(self) -> str:
        """this apple, these pants."""
        return f"{'these' if self.number is Number.PAIR else 'this'} {self.en}"

    @property
    def are(self) -> str:
        """is or are."""
        return "are" if self.number is Number.PAIR else "is"

    def one(self, adjective: str = "") -> str:
        """Return one of it, with article: a red apple, red pants, fresh milk."""
        named = f"{adjective} {self.en}".strip()
        return english.with_article(named) if self.number is Number.ONE else named

    @property
    def general(self) -> str:
        """The kind as a whole: apples, pants, milk."""
        return english.plural(self.en) if self.number is Number.ONE else self.en


def noun(row: str) -> Noun:
    """Parse one row of a table: eleven columns separated by ``|`` (see the tables).

    Raises:
        ValueError: a row with a column too many or too few.
    """
    columns = [column.strip() for column in row.split("|")]
    zh, char, emoji, en, number, ja, ko, measure, ja_counter, ko_counter, kinds = columns
    return Noun(zh, char, emoji, en, Number(number), ja, ko, measure, ja_counter, ko_counter, frozenset(kinds.split()))


def table(text: str) -> tuple[Noun, ...]:
    """Parse a table with one noun a line."""
    return tuple(noun(line) for line in text.strip().splitlines())


FRUIT = table("""
    苹果 | 果 | 🍎 | apple | one | りんご | 사과 | 个 | 個 | 개 | fruit
    香蕉 | 蕉 | 🍌 | banana | one | バナナ | 바나나 | 根 | 本 | 개 | mild
    橙子 | 橙 | 🍊 | orange | one | オレンジ | 오렌지 | 个 | 個 | 개 | fruit
    西瓜 | 瓜 | 🍉 | watermelon | one | スイカ | 수박 | 个 | 個 | 통 | mild large
    草莓 | 莓 | 🍓 | strawberry | one | いちご | 딸기 | 颗 | 個 | 개 | fruit
    桃子 | 桃 | 🍑 | peach | one | 桃 | 복숭아 | 个 | 個 | 개 | fruit
    柠檬 | 柠 | 🍋 | lemon | one | レモン | 레몬 | 个 | 個 | 개 | sharp
    芒果 | 芒 | 🥭 | mango | one | マンゴー | 망고 | 个 | 個 | 개 | fruit
    菠萝 | 菠 | 🍍 | pineapple | one | パイナップル | 파인애플 | 个 | 個 | 개 | fruit large
    樱桃 | 樱 | 🍒 | cherry | one | さくらんぼ | 체리 | 颗 | 個 | 개 | fruit
    葡萄 | 葡 | 🍇 | grapes | pair | ぶどう | 포도 | 串 | 房 | 송이 | fruit
    猕猴桃 | 猕 | 🥝 | kiwi | one | キウイ | 키위 | 个 | 個 | 개 | fruit
""")

VEGETABLES = table("""
    西红柿 | 柿 | 🍅 | tomato | one | トマト | 토마토 | 个 | 個 | 개 | vegetable
    黄瓜 | 瓜 | 🥒 | cucumber | one | きゅうり | 오이 | 根 | 本 | 개 | vegetable
    土豆 | 豆 | 🥔 | potato | one | じゃがいも | 감자 | 个 | 個 | 개 | vegetable
    胡萝卜 | 萝 | 🥕 | carrot | one | にんじん | 당근 | 根 | 本 | 개 | vegetable
    白菜 | 菜 | 🥬 | Chinese cabbage | mass | 白菜 | 배추 | 棵 | 株 | 포기 | vegetable
    洋葱 | 葱 | 🧅 | onion | one | 玉ねぎ | 양파 | 个 | 個 | 개 | vegetable
    茄子 | 茄 | 🍆 | eggplant | one | ナス | 가지 | 个 | 本 | 개 | vegetable
""")

FOOD = table("""
    面包 | 包 | 🍞 | bread | mass | パン | 빵 | 个 | 個 | 개 | baked
    蛋糕 | 糕 | 🍰 | cake | one | ケーキ | 케이크 | 块 | 切れ | 조각 | baked sweet
    饼干 | 饼 | 🍪 | cookie | one | クッキー | 쿠키 | 块 | 枚 | 개 | baked sweet
    巧克力 | 巧 | 🍫 | chocolate | mass | チョコレート | 초콜릿 | 块 | 個 | 개 | sweet
    米饭 | 饭 | 🍚 | rice | mass | ご飯 | 밥 | 碗 | 杯 | 그릇 | tasty
    面条 | 面 | 🍜 | noodles | pair | 麺 | 국수 | 碗 | 杯 | 그릇 | dish
    饺子 | 饺 | 🥟 | dumpling | one | 餃子 | 만두 | 个 | 個 | 개 | tasty
    汤 | 汤 | 🍲 | soup | mass | スープ | 국 | 碗 | 杯 | 그릇 | dish hot
    菜 | 菜 | 🥘 | dish | one | 料理 | 요리 | 道 | 品 | 가지 | dish
    鸡蛋 | 蛋 | 🥚 | egg | one | 卵 | 계란 | 个 | 個 | 개 | egg
    牛奶 | 奶 | 🥛 | milk | mass | 牛乳 | 우유 | 瓶 | 本 | 병 | drink fresh
    茶 | 茶 | 🍵 | tea | mass | お茶 | 차 | 杯 | 杯 | 잔 | drink hot bitter
    咖啡 | 咖 | ☕ | coffee | mass | コーヒー | 커피 | 杯 | 杯 | 잔 | drink hot bitter
    果汁 | 汁 | 🧃 | juice | mass | ジュース | 주스 | 瓶 | 本 | 병 | drink juice
    水 | 水 | 💧 | water | mass | 水 | 물 | 杯 | 杯 | 잔 | water
    药 | 药 | 💊 | medicine | mass | 薬 | 약 | 片 | 錠 | 알 | medicine
""")

CLOTHES = table("""
    毛衣 | 衣 | 🧶 | sweater | one | セーター | 스웨터 | 件 | 枚 | 벌 | clothes thick
    衬衫 | 衫 | 👔 | shirt | one | シャツ | 셔츠 | 件 | 枚 | 벌 | clothes
    外套 | 套 | 🧥 | coat | one | コート | 코트 | 件 | 着 | 벌 | clothes thick long
    裙子 | 裙 | 👗 | skirt | one | スカート | 치마 | 条 | 枚 | 벌 | clothes long
    裤子 | 裤 | 👖 | pants | pair | ズボン | 바지 | 条 | 本 | 벌 | clothes long
    鞋子 | 鞋 | 👟 | shoes | pair | 靴 | 신발 | 双 | 足 | 켤레 | clothes shoes
    袜子 | 袜 | 🧦 | socks | pair | 靴下 | 양말 | 双 | 足 | 켤레 | clothes thick
    帽子 | 帽 | 👒 | hat | one | 帽子 | 모자 | 顶 | 個 | 개 | clothes
    手套 | 套 | 🧤 | gloves | pair | 手袋 | 장갑 | 副 | 組 | 켤레 | clothes thick
    围巾 | 巾 | 🧣 | scarf | one | マフラー | 목도리 | 条 | 本 | 개 | clothes thick long
    被子 | 被 | 🛏️ | quilt | one | 布団 | 이불 | 床 | 枚 | 채 | thick clean
""")

THINGS = table("""
    桌子 | 桌 | 🪑 | table | one | テーブル | 탁자 | 张 | 台 | 개 | furniture
    椅子 | 椅 | 🪑 | chair | one | 椅子 | 의자 | 把 | 脚 | 개 | furniture seat
    床 | 床 | 🛏️ | bed | one | ベッド | 침대 | 张 | 台 | 개 | furniture seat
    沙发 | 沙 | 🛋️ | sofa | one | ソファー | 소파 | 张 | 台 | 개 | furniture seat
    书架 | 架 | 📚 | bookshelf | one | 本棚 | 책장 | 个 | 台 | 개 | furniture
    冰箱 | 箱 | 🧊 | refrigerator | one | 冷蔵庫 | 냉장고 | 台 | 台 | 대 | furniture device
    洗衣机 | 机 | 🧺 | washing machine | one | 洗濯機 | 세탁기 | 台 | 台 | 대 | device noise
    空调 | 空 | ❄️ | air conditioner | one | エアコン | 에어컨 | 台 | 台 | 대 | device noise
    电视 | 视 | 📺 | TV | one | テレビ | 텔레비전 | 台 | 台 | 대 | device
    手机 | 机 | 📱 | cell phone | one | 携帯 | 휴대폰 | 部 | 台 | 대 | device handy
    电脑 | 脑 | 💻 | computer | one | パソコン | 컴퓨터 | 台 | 台 | 대 | device handy speed
    相机 | 相 | 📷 | camera | one | カメラ | 카메라 | 台 | 台 | 대 | device handy
    手表 | 表 | ⌚ | watch | one | 腕時計 | 손목시계 | 块 | 個 | 개 | pretty gift priced
    台灯 | 灯 | 💡 | desk lamp | one | 電気スタンド | 스탠드 | 盏 | 台 | 개 | lamp
    枕头 | 枕 | 🛌 | pillow | one | 枕 | 베개 | 个 | 個 | 개 | soft clean
    镜子 | 镜 | 🪞 | mirror | one | 鏡 | 거울 | 面 | 枚 | 개 | clean sized
    箱子 | 箱 | 📦 | box | one | 箱 | 상자 | 个 | 個 | 개 | box
    行李 | 李 | 🧳 | luggage | mass | 荷物 | 짐 | 件 | 個 | 개 | box
    杯子 | 杯 | 🥤 | cup | one | コップ | 컵 | 个 | 個 | 개 | clean pretty small
    盘子 | 盘 | 🍽️ | plate | one | お皿 | 접시 | 个 | 枚 | 개 | clean small
    刀 | 刀 | 🔪 | knife | one | ナイフ | 칼 | 把 | 本 | 자루 | sharpened
    勺子 | 勺 | 🥄 | spoon | one | スプーン | 숟가락 | 把 | 本 | 개 | clean small
    筷子 | 筷 | 🥢 | chopsticks | pair | 箸 | 젓가락 | 双 | 膳 | 벌 | clean long
    钥匙 | 匙 | 🔑 | key | one | 鍵 | 열쇠 | 把 | 本 | 개 | small
    雨伞 | 伞 | ☂️ | umbrella | one | 傘 | 우산 | 把 | 本 | 개 | pretty gift sized
    书包 | 包 | 🎒 | school bag | one | かばん | 가방 | 个 | 個 | 개 | box pretty gift
    玩具 | 玩 | 🧸 | toy | one | おもちゃ | 장난감 | 个 | 個 | 개 | pretty gift small
    花 | 花 | 🌹 | flower | one | 花 | 꽃 | 朵 | 本 | 송이 | pretty gift small beauty
    铅笔 | 笔 | ✏️ | pencil | one | 鉛筆 | 연필 | 支 | 本 | 자루 | small pen
    钢笔 | 笔 | 🖋️ | fountain pen | one | 万年筆 | 만년필 | 支 | 本 | 자루 | small pen handy gift
    橡皮 | 橡 | ✏️ | eraser | one | 消しゴム | 지우개 | 块 | 個 | 개 | small
    尺子 | 尺 | 📏 | ruler | one | 定規 | 자 | 把 | 本 | 개 | small long
    本子 | 本 | 📓 | notebook | one | ノート | 공책 | 个 | 冊 | 권 | small paper
    地图 | 图 | 🗺️ | map | one | 地図 | 지도 | 张 | 枚 | 장 | paper sized
    照片 | 照 | 🖼️ | photo | one | 写真 | 사진 | 张 | 枚 | 장 | pretty small famous
    球 | 球 | ⚽ | ball | one | ボール | 공 | 个 | 個 | 개 | sized small
    钢琴 | 琴 | 🎹 | piano | one | ピアノ | 피아노 | 架 | 台 | 대 | furniture
    礼物 | 礼 | 🎁 | present | one | プレゼント | 선물 | 份 | 個 | 개 | parcel small
""")

TEXTS = table("""
    书 | 书 | 📖 | book | one | 本 | 책 | 本 | 冊 | 권 | text paper small gift volume
    词典 | 典 | 📘 | dictionary | one | 辞書 | 사전 | 本 | 冊 | 권 | paper small gift volume handy
    小说 | 说 | 📕 | novel | one | 小説 | 소설 | 本 | 冊 | 권 | text story famous volume
    杂志 | 志 | 📔 | magazine | one | 雑誌 | 잡지 | 本 | 冊 | 권 | text volume small
    报纸 | 报 | 📰 | newspaper | one | 新聞 | 신문 | 张 | 部 | 부 | paper small
    信 | 信 | ✉️ | letter | one | 手紙 | 편지 | 封 | 通 | 통 | weighty small length
    电影 | 影 | 🎬 | movie | one | 映画 | 영화 | 部 | 本 | 편 | text story famous length
    故事 | 故 | 📖 | story | one | 話 | 이야기 | 个 | 話 | 편 | text story length
    歌 | 歌 | 🎵 | song | one | 歌 | 노래 | 首 | 曲 | 곡 | story famous hard length
    游戏 | 戏 | 🎮 | game | one | ゲーム | 게임 | 个 | 本 | 개 | text hard
    问题 | 问 | ❓ | question | one | 問題 | 문제 | 个 | 問 | 개 | hard weighty
    考试 | 考 | 📝 | exam | one | 試験 | 시험 | 次 | 回 | 번 | hard weighty
    习惯 | 习 | 🔁 | habit | one | 習慣 | 습관 | 个 | 個 | 개 | weighty
    会议 | 议 | 📊 | meeting | one | 会議 | 회의 | 次 | 回 | 번 | weighty length dull
    课 | 课 | 🏫 | lesson | one | 授業 | 수업 | 节 | 時間 | 시간 | text hard weighty
    比赛 | 赛 | 🏆 | match | one | 試合 | 경기 | 场 | 試合 | 경기 | text weighty
""")

VEHICLES = table("""
    汽车 | 车 | 🚗 | car | one | 車 | 자동차 | 辆 | 台 | 대 | vehicle fuel
    自行车 | 自 | 🚲 | bicycle | one | 自転車 | 자전거 | 辆 | 台 | 대 | vehicle
    公交车 | 公 | 🚌 | bus | one | バス | 버스 | 辆 | 台 | 대 | ride fuel
    火车 | 火 | 🚆 | train | one | 電車 | 기차 | 列 | 本 | 대 | ride fuel
    飞机 | 飞 | ✈️ | airplane | one | 飛行機 | 비행기 | 架 | 機 | 대 | ride fuel
    出租车 | 租 | 🚕 | taxi | one | タクシー | 택시 | 辆 | 台 | 대 | ride fuel
    卡车 | 卡 | 🚚 | truck | one | トラック | 트럭 | 辆 | 台 | 대 | vehicle fuel
    摩托车 | 摩 | 🏍️ | motorcycle | one | バイク | 오토바이 | 辆 | 台 | 대 | vehicle fuel
""")

SITES = table("""
    房间 | 房 | 🛏️ | room | one | 部屋 | 방 | 个 | 部屋 | 개 | room
    房子 | 房 | 🏠 | house | one | 家 | 집 | 座 | 軒 | 채 | room building
    教室 | 教 | 🏫 | classroom | one | 教室 | 교실 | 间 | 室 | 개 | room
    办公室 | 办 | 🏢 | office | one | オフィス | 사무실 | 间 | 室 | 개 | room
    饭馆 | 馆 | 🍽️ | restaurant | one | レストラン | 식당 | 家 | 軒 | 곳 | site shop
    咖啡店 | 咖 | ☕ | café | one | カフェ | 카페 | 家 | 軒 | 곳 | site shop
    酒店 | 酒 | 🏨 | hotel | one | ホテル | 호텔 | 家 | 軒 | 곳 | site building shop
    商店 | 店 | 🏪 | store | one | 店 | 가게 | 家 | 軒 | 곳 | shop
    图书馆 | 馆 | 📚 | library | one | 図書館 | 도서관 | 个 | 館 | 곳 | site building
    公园 | 园 | 🏞️ | park | one | 公園 | 공원 | 个 | か所 | 곳 | site
    学校 | 校 | 🏫 | school | one | 学校 | 학교 | 所 | 校 | 곳 | building fame hall
    医院 | 医 | 🏥 | hospital | one | 病院 | 병원 | 家 | 軒 | 곳 | building fame hall
    城市 | 城 | 🏙️ | city | one | 街 | 도시 | 座 | か所 | 곳 | site lively
    市场 | 市 | 🛒 | market | one | 市場 | 시장 | 个 | か所 | 곳 | lively
    楼 | 楼 | 🏢 | building | one | 建物 | 건물 | 座 | 棟 | 채 | building tall
    塔 | 塔 | 🗼 | tower | one | 塔 | 탑 | 座 | 基 | 개 | tall fame
    山 | 山 | ⛰️ | mountain | one | 山 | 산 | 座 | 山 | 개 | tall fame scenery
    河 | 河 | 🏞️ | river | one | 川 | 강 | 条 | 本 | 개 | deep wide length scenery
    湖 | 湖 | 🏞️ | lake | one | 湖 | 호수 | 个 | か所 | 개 | deep scenery
    路 | 路 | 🛣️ | road | one | 道 | 길 | 条 | 本 | 개 | wide length traffic
    桥 | 桥 | 🌉 | bridge | one | 橋 | 다리 | 座 | 本 | 개 | wide length fame traffic
    树 | 树 | 🌳 | tree | one | 木 | 나무 | 棵 | 本 | 그루 | tall
""")

ANIMALS = table("""
    猫 | 猫 | 🐱 | cat | one | 猫 | 고양이 | 只 | 匹 | 마리 | pet animal
    狗 | 狗 | 🐶 | dog | one | 犬 | 개 | 只 | 匹 | 마리 | pet animal clever fierce
    兔子 | 兔 | 🐰 | rabbit | one | ウサギ | 토끼 | 只 | 羽 | 마리 | pet animal
    鸟 | 鸟 | 🐦 | bird | one | 鳥 | 새 | 只 | 羽 | 마리 | animal cute
    鱼 | 鱼 | 🐟 | fish | one | 魚 | 물고기 | 条 | 匹 | 마리 | fresh
    马 | 马 | 🐴 | horse | one | 馬 | 말 | 匹 | 頭 | 마리 | animal clever
    牛 | 牛 | 🐮 | cow | one | 牛 | 소 | 头 | 頭 | 마리 | animal
    羊 | 羊 | 🐑 | sheep | one | 羊 | 양 | 只 | 匹 | 마리 | animal cute
    猪 | 猪 | 🐷 | pig | one | 豚 | 돼지 | 头 | 頭 | 마리 | animal clever
    鸡 | 鸡 | 🐔 | chicken | one | 鶏 | 닭 | 只 | 羽 | 마리 | animal
    鸭子 | 鸭 | 🦆 | duck | one | アヒル | 오리 | 只 | 羽 | 마리 | animal cute
    老虎 | 虎 | 🐯 | tiger | one | トラ | 호랑이 | 只 | 頭 | 마리 | animal fierce wild
    狮子 | 狮 | 🦁 | lion | one | ライオン | 사자 | 头 | 頭 | 마리 | animal fierce wild
    大象 | 象 | 🐘 | elephant | one | 象 | 코끼리 | 头 | 頭 | 마리 | animal clever wild
    熊猫 | 熊 | 🐼 | panda | one | パンダ | 판다 | 只 | 頭 | 마리 | animal cute wild
    猴子 | 猴 | 🐵 | monkey | one | 猿 | 원숭이 | 只 | 匹 | 마리 | animal clever wild cute
    长颈鹿 | 鹿 | 🦒 | giraffe | one | キリン | 기린 | 只 | 頭 | 마리 | animal wild
    老鼠 | 鼠 | 🐭 | mouse | one | ネズミ | 쥐 | 只 | 匹 | 마리 | animal
    蛇 | 蛇 | 🐍 | snake | one | 蛇 | 뱀 | 条 | 匹 | 마리 | fierce wild
    乌龟 | 龟 | 🐢 | turtle | one | 亀 | 거북이 | 只 | 匹 | 마리 | animal cute
    狐狸 | 狐 | 🦊 | fox | one | キツネ | 여우 | 只 | 匹 | 마리 | clever wild animal
    狼 | 狼 | 🐺 | wolf | one | 狼 | 늑대 | 只 | 匹 | 마리 | fierce wild
    熊 | 熊 | 🐻 | bear | one | 熊 | 곰 | 头 | 頭 | 마리 | fierce wild animal
    企鹅 | 鹅 | 🐧 | penguin | one | ペンギン | 펭귄 | 只 | 羽 | 마리 | cute wild
    鲸鱼 | 鲸 | 🐋 | whale | one | クジラ | 고래 | 头 | 頭 | 마리 | clever wild
    海豚 | 豚 | 🐬 | dolphin | one | イルカ | 돌고래 | 只 | 頭 | 마리 | clever cute wild
    蚂蚁 | 蚁 | 🐜 | ant | one | アリ | 개미 | 只 | 匹 | 마리 | insect
    蜜蜂 | 蜂 | 🐝 | bee | one | ミツバチ | 꿀벌 | 只 | 匹 | 마리 | insect
    蝴蝶 | 蝶 | 🦋 | butterfly | one | 蝶 | 나비 | 只 | 匹 | 마리 | insect pretty
    蜗牛 | 蜗 | 🐌 | snail | one | カタツムリ | 달팽이 | 只 | 匹 | 마리 | insect
""")

NOUNS: tuple[Noun, ...] = FRUIT + VEGETABLES + FOOD + CLOTHES + THINGS + TEXTS + VEHICLES + SITES + ANIMALS

BY_NAME = {one.zh: one for one in NOUNS}


def nouns_of(kinds: str) -> list[Noun]:
    """Return every noun of one of the kinds (a spaced list), in the order of the tables."""
    wanted = frozenset(kinds.split())
    return [one for one in NOUNS if one.kinds & wanted]


def nouns(names: str) -> tuple[Noun, ...]:
    """Return nouns by their Chinese names, given as a spaced list."""
    return tuple(BY_NAME[name] for name in names.split())
