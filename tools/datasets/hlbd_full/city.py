"""Cities and their weather."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class City:
    """A city. snow: it snows there in an ordinary winter."""

    zh: str
    char: str
    emoji: str
    en: str
    ja: str
    ko: str
    snow: bool


# fmt: off
CITIES: tuple[City, ...] = (
    City("北京", "京", "🏯", "Beijing", "北京", "베이징", True),
    City("上海", "海", "🌃", "Shanghai", "上海", "상하이", True),
    City("广州", "广", "🏙️", "Guangzhou", "広州", "광저우", False),
    City("西安", "安", "🏯", "Xi'an", "西安", "시안", True),
    City("成都", "都", "🐼", "Chengdu", "成都", "청두", False),
    City("哈尔滨", "哈", "⛄", "Harbin", "ハルビン", "하얼빈", True),
    City("杭州", "杭", "🏞️", "Hangzhou", "杭州", "항저우", True),
    City("南京", "南", "🏯", "Nanjing", "南京", "난징", True),
    City("香港", "港", "🌃", "Hong Kong", "香港", "홍콩", False),
    City("台北", "台", "🏙️", "Taipei", "台北", "타이베이", False),
    City("东京", "东", "🗼", "Tokyo", "東京", "도쿄", True),
    City("大阪", "阪", "🏯", "Osaka", "大阪", "오사카", True),
    City("首尔", "首", "🏙️", "Seoul", "ソウル", "서울", True),
    City("釜山", "釜", "🌊", "Busan", "釜山", "부산", False),
    City("纽约", "纽", "🗽", "New York", "ニューヨーク", "뉴욕", True),
    City("伦敦", "伦", "🎡", "London", "ロンドン", "런던", True),
    City("巴黎", "黎", "🗼", "Paris", "パリ", "파리", True),
    City("莫斯科", "莫", "🏰", "Moscow", "モスクワ", "모스크바", True),
    City("罗马", "罗", "🏛️", "Rome", "ローマ", "로마", False),
    City("悉尼", "悉", "🌉", "Sydney", "シドニー", "시드니", False),
)
# fmt: on
