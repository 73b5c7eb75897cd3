"""The people. One's own family is named as one speaks of it to others (Japanese 母, not お母さん)."""

from __future__ import annotations

from tools.datasets.hlbd_full.person import Person, person

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
    """People by their Chinese names, given as a spaced list."""
    return [BY_NAME[name] for name in names.split()]


def people_of(groups: str) -> list[Person]:
    """Everybody who is in one of the groups (a spaced list), in the order of the table."""
    wanted = frozenset(groups.split())
    return [one for one in PEOPLE if one.groups & wanted]
