"""People: the subjects of sentences, how four languages treat them, and their professions."""

from __future__ import annotations

from dataclasses import dataclass

from tools.datasets.hlbd_full.languages import korean
from tools.datasets.hlbd_full.languages.english import Agreement, plural, possessive


@dataclass(frozen=True)
class Owner:
    """Whose, in an English phrase: ``{poss} hands`` -> "her hands"; ``{poss:face}`` -> "her face", "our faces"."""

    word: str
    many: bool

    def __format__(self, thing: str) -> str:
        if not thing:
            return self.word
        return f"{self.word} {plural(thing) if self.many else thing}"


YOU = Owner("your", many=False)


@dataclass(frozen=True)
class Person:
    """Somebody who can be a subject.

    groups: kinds of person, for choosing fitting actions: ``adult elder young child`` are people at home, ``role``
    people known by their work (together with the work's own group), ``visitor``s are not met in the rooms of the
    house; every person is ``anyone``.
    honored: Korean raises the verb (어른: grandparents, teachers).
    """

    zh: str
    en: str
    ja: str
    ko: str
    char: str
    emoji: str
    possessive: str  # his, her, their, my, our
    pronoun: str  # he, she, they, I, we
    agreement: Agreement
    groups: frozenset[str]
    honored: bool

    @property
    def is_first(self) -> bool:
        """I or we: wishes are one's own (飲みたい), not seen from outside (飲みたがる)."""
        return self.pronoun in ("I", "we")

    @property
    def owner(self) -> Owner:
        """The owner of the person's own things: her hands, our faces."""
        return Owner(self.possessive, many=self.agreement is Agreement.PLURAL)

    @property
    def pronoun_agreement(self) -> Agreement:
        """The agreement of the verb with the pronoun: the teacher is, but they are."""
        return Agreement.PLURAL if self.pronoun == "they" else self.agreement

    @property
    def ko_topic(self) -> str:
        """저는, 형은, 누나는."""
        return korean.topic(self.ko)

    @property
    def ko_subject(self) -> str:
        """제가, 형이, 누나가, 할머니께서."""
        return self.ko + "께서" if self.honored else korean.subject(self.ko)

    @property
    def ko_possessive(self) -> str:
        """제, 우리, 형의."""
        return {"저": "제", "우리": "우리"}.get(self.ko, self.ko + "의")

    @property
    def en_possessive(self) -> str:
        """my, our, Dad's, my parents'."""
        return self.possessive if self.is_first else possessive(self.en)


PRONOUNS = {"my": "I", "our": "we", "his": "he", "her": "she", "their": "they"}


def person(
    zh: str,
    char: str,
    emoji: str,
    en: str,
    poss: str,
    ja: str,
    ko: str,
    groups: str,
    *,
    many: bool = False,
    honored: bool = False,
) -> Person:
    """Build one row of the table of people; ``groups`` is a spaced list, ``many`` marks a plural subject."""
    kinds = set(groups.split()) | {"anyone"}
    if "role" not in kinds:
        kinds.add("home")
    if kinds & {"adult", "elder", "young"}:
        kinds.add("grown")
    agreement = Agreement.PLURAL if many else Agreement.FIRST if en == "I" else Agreement.THIRD
    return Person(zh, en, ja, ko, char, emoji, poss, PRONOUNS[poss], agreement, frozenset(kinds), honored)


# fmt: off
PEOPLE: tuple[Person, ...] = (
    person("我", "我", "🙋", "I", "my", "私", "저", "adult young student"),
    person("我们", "们", "👫", "we", "our", "私たち", "우리", "young student", many=True),
    person("爸爸", "爸", "👨", "Dad", "his", "父", "아빠", "adult parent"),
    person("妈妈", "妈", "👩", "Mom", "her", "母", "엄마", "adult parent female"),
    person("爷爷", "爷", "👴", "Grandpa", "his", "祖父", "할아버지", "elder", honored=True),
    person("奶奶", "奶", "👵", "Grandma", "her", "祖母", "할머니", "elder female", honored=True),
    person("哥哥", "哥", "👦", "my big brother", "his", "兄", "형", "young student sibling"),
    person("姐姐", "姐", "👧", "my big sister", "her", "姉", "누나", "young student sibling female"),
    person("弟弟", "弟", "👦", "my little brother", "his", "弟", "남동생", "child student sibling"),
    person("妹妹", "妹", "👧", "my little sister", "her", "妹", "여동생", "child student sibling female"),
    person("叔叔", "叔", "🧔", "my uncle", "his", "おじ", "삼촌", "adult"),
    person("阿姨", "姨", "👱", "my aunt", "her", "おば", "이모", "adult female"),
    person("表哥", "哥", "🧑", "my cousin", "his", "いとこ", "사촌 형", "young student"),
    person(
        "爸爸 妈妈", "爸", "👪", "my parents", "their", "両親", "부모님", "adult", many=True, honored=True
    ),
    person("丈夫", "夫", "🤵", "my husband", "his", "夫", "남편", "adult"),
    person("妻子", "妻", "👰", "my wife", "her", "妻", "아내", "adult female"),
    person("儿子", "儿", "👦", "my son", "his", "息子", "아들", "child student"),
    person("女儿", "女", "👧", "my daughter", "her", "娘", "딸", "child student female"),
    person("孩子-们", "孩", "🧒", "the children", "their", "子どもたち", "아이들", "child", many=True),
    person("小明", "明", "👦", "Xiaoming", "his", "シャオミンさん", "샤오밍", "child student"),
    person("小红", "红", "👧", "Xiaohong", "her", "シャオホンさん", "샤오훙", "child student female"),
    person("同学", "学", "🧑‍🎓", "my classmate", "their", "クラスメート", "반 친구", "young student visitor"),
    person("朋友", "友", "🤝", "my friend", "their", "友達", "친구", "young"),
    person("室友", "友", "🧑‍🤝‍🧑", "my roommate", "their", "ルームメート", "룸메이트", "young student"),
    person("邻居", "邻", "🏘️", "my neighbor", "their", "隣の人", "옆집 사람", "adult visitor"),
    person("同事", "同", "🧑‍💼", "my coworker", "their", "同僚", "동료", "adult worker visitor"),
    person("小李", "李", "🧑", "Xiao Li", "his", "李さん", "샤오리", "adult worker visitor"),
    person("经理", "经", "💼", "the manager", "their", "マネージャー", "매니저", "role worker"),
    person("秘书", "书", "📋", "the secretary", "their", "秘書", "비서", "role worker"),
    person("老师", "师", "🧑‍🏫", "the teacher", "their", "先生", "선생님", "role teacher", honored=True),
    person("王 老师", "王", "👩‍🏫", "Ms. Wang", "her", "王先生", "왕 선생님", "role teacher", honored=True),
    person("学生", "学", "🎓", "the student", "their", "学生", "학생", "role student"),
    person("医生", "医", "🧑‍⚕️", "the doctor", "their", "医者", "의사", "role doctor"),
    person("护士", "护", "👩‍⚕️", "the nurse", "their", "看護師", "간호사", "role nurse"),
    person("警察", "警", "👮", "the police officer", "their", "警察官", "경찰관", "role police"),
    person("司机", "司", "🚕", "the driver", "their", "運転手", "운전기사", "role driver"),
    person("厨师", "厨", "🧑‍🍳", "the chef", "their", "シェフ", "요리사", "role chef"),
    person("服务员", "员", "🤵", "the waiter", "his", "ウェイター", "웨이터", "role waiter"),
    person("农民", "农", "🧑‍🌾", "the farmer", "their", "農家の人", "농부", "role farmer"),
    person("画家", "画", "🧑‍🎨", "the painter", "their", "画家", "화가", "role painter"),
    person("歌手", "歌", "🧑‍🎤", "the singer", "their", "歌手", "가수", "role singer"),
    person("作家", "作", "✒️", "the writer", "their", "作家", "작가", "role writer"),
    person("记者", "记", "🎙️", "the reporter", "their", "記者", "기자", "role reporter"),
    person("科学家", "科", "🧑‍🔬", "the scientist", "their", "科学者", "과학자", "role scientist"),
    person("消防员", "消", "🧑‍🚒", "the firefighter", "their", "消防士", "소방관", "role fire"),
    person("邮递员", "邮", "📮", "the mail carrier", "their", "郵便配達員", "집배원", "role mail"),
    person("教练", "教", "🏅", "the coach", "their", "コーチ", "코치", "role coach"),
)
# fmt: on

BY_NAME = {one.zh: one for one in PEOPLE}


def named(names: str) -> list[Person]:
    """Return people by their Chinese names, given as a spaced list."""
    return [BY_NAME[name] for name in names.split()]


def people_of(groups: str) -> list[Person]:
    """Return all people in one of the groups (a spaced list), in the order of the table."""
    wanted = frozenset(groups.split())
    return [one for one in PEOPLE if one.groups & wanted]


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
