"""Professions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """A profession; en is the singular without article."""

    zh: str
    char: str
    emoji: str
    en: str
    ja: str
    ko: str


# fmt: off
JOBS: tuple[Job, ...] = (
    Job("医生", "医", "🧑‍⚕️", "doctor", "医者", "의사"),
    Job("老师", "师", "🧑‍🏫", "teacher", "教師", "교사"),
    Job("护士", "护", "👩‍⚕️", "nurse", "看護師", "간호사"),
    Job("警察", "警", "👮", "police officer", "警察官", "경찰관"),
    Job("司机", "司", "🚕", "driver", "運転手", "운전기사"),
    Job("厨师", "厨", "🧑‍🍳", "chef", "シェフ", "요리사"),
    Job("农民", "农", "🧑‍🌾", "farmer", "農家", "농부"),
    Job("画家", "画", "🧑‍🎨", "painter", "画家", "화가"),
    Job("歌手", "歌", "🧑‍🎤", "singer", "歌手", "가수"),
    Job("作家", "作", "✒️", "writer", "作家", "작가"),
    Job("记者", "记", "🎙️", "reporter", "記者", "기자"),
    Job("科学家", "科", "🧑‍🔬", "scientist", "科学者", "과학자"),
    Job("消防员", "消", "🧑‍🚒", "firefighter", "消防士", "소방관"),
    Job("律师", "律", "⚖️", "lawyer", "弁護士", "변호사"),
    Job("工程师", "工", "👷", "engineer", "エンジニア", "엔지니어"),
    Job("演员", "演", "🎭", "actor", "俳優", "배우"),
    Job("程序员", "程", "🧑‍💻", "programmer", "プログラマー", "프로그래머"),
    Job("会计", "会", "🧮", "accountant", "会計士", "회계사"),
    Job("翻译", "译", "🌐", "translator", "翻訳者", "번역가"),
    Job("导游", "导", "🚩", "tour guide", "ツアーガイド", "관광 가이드"),
    Job("飞行员", "飞", "🧑‍✈️", "pilot", "パイロット", "조종사"),
    Job("摄影师", "摄", "📷", "photographer", "カメラマン", "사진작가"),
    Job("建筑师", "建", "🏗️", "architect", "建築家", "건축가"),
    Job("校长", "校", "🏫", "principal", "校長", "교장"),
    Job("教授", "授", "🎓", "professor", "教授", "교수"),
    Job("牙医", "牙", "🦷", "dentist", "歯医者", "치과 의사"),
    Job("售货员", "售", "🛍️", "salesclerk", "店員", "점원"),
    Job("音乐家", "乐", "🎼", "musician", "音楽家", "음악가"),
    Job("军人", "军", "🎖️", "soldier", "軍人", "군인"),
    Job("公务员", "公", "🏛️", "civil servant", "公務員", "공무원"),
    Job("运动员", "运", "🏅", "athlete", "スポーツ選手", "운동선수"),
    Job("兽医", "兽", "🐾", "vet", "獣医", "수의사"),
    Job("理发师", "理", "💈", "barber", "理容師", "이발사"),
)
# fmt: on
