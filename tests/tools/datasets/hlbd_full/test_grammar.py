"""The grammar behind the eight-level data: each language's rules, and the committed sentences re-checked by others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.datasets.hlbd_full.languages import english, korean
from tools.datasets.hlbd_full.languages.chinese import after_verb, hanzi
from tools.datasets.hlbd_full.languages.english import Agreement
from tools.datasets.hlbd_full.languages.japanese import JapaneseAdjective, JapaneseVerb
from tools.datasets.hlbd_full.languages.korean_verb import KoreanVerb
from tools.datasets.hlbd_full.languages.numerals import (
    counted,
    english_number,
    hanzi_number,
    native_korean,
    sino_korean,
)
from tools.datasets.hlbd_full.languages.pinyin import pinyin, word_pinyin

DATA = Path(__file__).resolve().parents[4] / "data"

Row = dict[str, Any]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    found: list[Row] = []
    for name in ("HLBD_Full_V2.json", "HLBD_Full_V2_Heldout.json"):
        found += json.loads((DATA / name).read_text(encoding="utf-8"))["samples"]
    return found


def _closed(syllable: str) -> bool:
    """Return whether a syllable block ends in a consonant, by Hangul arithmetic of its own."""
    return (ord(syllable) - 0xAC00) % 28 != 0


# Korean


@pytest.mark.parametrize(
    ("verb", "polite", "past", "honored", "before_noun", "future"),
    [
        ("가다", "가요", "갔어요", "가세요", "가는", "갈 거예요"),
        ("보다", "봐요", "봤어요", "보세요", "보는", "볼 거예요"),
        ("마시다", "마셔요", "마셨어요", "드세요", "마시는", "마실 거예요"),
        ("배우다", "배워요", "배웠어요", "배우세요", "배우는", "배울 거예요"),
        ("쉬다", "쉬어요", "쉬었어요", "쉬세요", "쉬는", "쉴 거예요"),
        ("먹다", "먹어요", "먹었어요", "드세요", "먹는", "먹을 거예요"),
        ("앉다", "앉아요", "앉았어요", "앉으세요", "앉는", "앉을 거예요"),
        ("하다", "해요", "했어요", "하세요", "하는", "할 거예요"),
        ("듣다", "들어요", "들었어요", "들으세요", "듣는", "들을 거예요"),
        ("닫다", "닫아요", "닫았어요", "닫으세요", "닫는", "닫을 거예요"),
        ("굽다", "구워요", "구웠어요", "구우세요", "굽는", "구울 거예요"),
        ("입다", "입어요", "입었어요", "입으세요", "입는", "입을 거예요"),
        ("젓다", "저어요", "저었어요", "저으세요", "젓는", "저을 거예요"),
        ("씻다", "씻어요", "씻었어요", "씻으세요", "씻는", "씻을 거예요"),
        ("부르다", "불러요", "불렀어요", "부르세요", "부르는", "부를 거예요"),
        ("나르다", "날라요", "날랐어요", "나르세요", "나르는", "나를 거예요"),
        ("따르다", "따라요", "따랐어요", "따르세요", "따르는", "따를 거예요"),
        ("쓰다", "써요", "썼어요", "쓰세요", "쓰는", "쓸 거예요"),
        ("만들다", "만들어요", "만들었어요", "만드세요", "만드는", "만들 거예요"),
        ("자다", "자요", "잤어요", "주무세요", "자는", "잘 거예요"),
        ("보내다", "보내요", "보냈어요", "보내세요", "보내는", "보낼 거예요"),
        ("쬐다", "쫴요", "쬈어요", "쬐세요", "쬐는", "쬘 거예요"),
    ],
)
def test_korean_verbs_conjugate_by_their_class(
    verb: str, polite: str, past: str, honored: str, before_noun: str, future: str
) -> None:
    parsed = KoreanVerb.parse(verb)
    assert (parsed.polite, parsed.past, parsed.honored().polite) == (polite, past, honored)
    assert (parsed.doing, parsed.future) == (before_noun, future)


@pytest.mark.parametrize(
    ("adjective", "polite", "before_noun"),
    [
        ("크다", "커요", "큰"), ("바쁘다", "바빠요", "바쁜"), ("예쁘다", "예뻐요", "예쁜"), ("맵다", "매워요", "매운"),
        ("좁다", "좁아요", "좁은"), ("넓다", "넓어요", "넓은"), ("얇다", "얇아요", "얇은"), ("달다", "달아요", "단"),
        ("빠르다", "빨라요", "빠른"), ("맛있다", "맛있어요", "맛있는"), ("시다", "셔요", "신"),
        ("감동적이다", "감동적이에요", "감동적인"), ("느리다", "느려요", "느린"),
    ],
)  # fmt: skip
def test_korean_adjectives_conjugate_by_their_class(adjective: str, polite: str, before_noun: str) -> None:
    parsed = KoreanVerb.parse(adjective)
    assert (parsed.polite, parsed.done) == (polite, before_noun)


def test_korean_negation_stands_before_short_verbs_and_behind_compounds() -> None:
    assert KoreanVerb.parse("책을 읽다").not_past == "책을 안 읽었어요"
    assert KoreanVerb.parse("요리를 하다").not_ == "요리를 안 해요"
    assert KoreanVerb.parse("영어를 공부하다").not_ == "영어를 공부하지 않아요"
    assert KoreanVerb.parse("영어를 공부하다").honored().not_past == "영어를 공부하지 않으셨어요"
    assert KoreanVerb.parse("회의에 참석하다").cannot_past == "회의에 참석하지 못했어요"
    assert KoreanVerb.parse("공원에 가다").honored().cannot_past == "공원에 못 가셨어요"


@given(st.integers(0xAC00, 0xD7A3).map(chr))
def test_every_syllable_comes_apart_and_together_and_takes_the_fitting_particles(syllable: str) -> None:
    assert korean.compose(*korean.decompose(syllable)) == syllable
    closed = _closed(syllable)
    assert korean.topic(syllable)[-1] == ("은" if closed else "는")
    assert korean.object_(syllable)[-1] == ("을" if closed else "를")
    assert korean.and_(syllable)[-1] == ("과" if closed else "와")
    assert korean.copula(syllable).removeprefix(syllable) == ("이에요" if closed else "예요")


BEFORE_NOUNS = ("거예요", "줄", "수", "적이", "것은", "것이", "것이에요", "후에", "사람은", "생각이에요")
"""Nouns that a verb in -은 or -을 stands before (읽을 거예요, 앉은 후에): there the syllable is no particle."""


def test_every_korean_particle_in_the_data_agrees_with_the_syllable_before_it(rows: list[Row]) -> None:
    rules = {"은": True, "을": True, "를": False, "과": True, "와": False, "이에요": True, "예요": False, "가": False}
    checked = dict.fromkeys(rules, 0)
    for row in rows:
        words = re.findall(r"[가-힣]+", row["level_8"]["韩文"])
        for word, following in zip(words, [*words[1:], ""], strict=True):
            for particle, closed in rules.items():
                stem = word.removesuffix(particle)
                verb = particle in ("은", "을") and following in BEFORE_NOUNS
                if stem in ("", word) or verb or word == "치과":
                    continue
                checked[particle] += 1
                assert _closed(stem[-1]) == closed, (word, row)
    assert all(count > 40 for count in checked.values()), checked


def test_topics_and_subjects_agree_in_korean(rows: list[Row]) -> None:
    topics = 0
    for row in rows:
        first = row["level_8"]["韩文"].split()[0]
        if first.endswith(("는", "은")) and len(first) > 1:
            topics += 1
            assert _closed(first[-2]) == (first[-1] == "은"), row
    assert topics > 2000


HONORED = ("할머니는", "할아버지는", "선생님은", "왕 선생님은", "부모님은")
PLAIN = (
    "저는",
    "우리는",
    "형은",
    "누나는",
    "남동생은",
    "여동생은",
    "아빠는",
    "엄마는",
    "삼촌은",
    "이모는",
    "친구는",
    "의사는",
)


def test_only_those_who_are_looked_up_to_get_honorific_verbs(rows: list[Row]) -> None:
    honored, plain = 0, 0
    for row in rows:
        line = (
            row["level_8"]["韩文"].replace("마셨", "마시었").replace("마셔", "마시어")
        )  # 마시다 is spelled like an honorific and is none
        if line.startswith(HONORED):
            honored += 1
            assert re.search(r"세요\.|셨어요\.|실 거예요\.|셔야 해요\.|생각이세요\.", line), row
        elif line.startswith(PLAIN):
            plain += 1
            assert not re.search(r"세요\.|셨어요\.|실 거예요\.|셔야 해요\.", line), row
    assert honored > 150
    assert plain > 1000


def test_korean_numbers_are_native_before_counters_and_chinese_for_minutes() -> None:
    assert [native_korean(value) for value in (1, 2, 4, 12, 20, 21, 45)] == [
        "한", "두", "네", "열두", "스무", "스물한", "마흔다섯",
    ]  # fmt: skip
    assert [sino_korean(value) for value in (10, 15, 20, 55)] == ["십", "십오", "이십", "오십오"]


# Japanese


@pytest.mark.parametrize(
    ("verb", "masu", "te", "nai", "potential"),
    [
        ("洗う", "洗います", "洗って", "洗わない", "洗える"), ("書く", "書きます", "書いて", "書かない", "書ける"),
        ("泳ぐ", "泳ぎます", "泳いで", "泳がない", "泳げる"), ("話す", "話します", "話して", "話さない", "話せる"),
        ("待つ", "待ちます", "待って", "待たない", "待てる"), ("遊ぶ", "遊びます", "遊んで", "遊ばない", "遊べる"),
        ("読む", "読みます", "読んで", "読まない", "読める"), ("乗る", "乗ります", "乗って", "乗らない", "乗れる"),
        ("かぶる", "かぶります", "かぶって", "かぶらない", "かぶれる"),
        ("食べる", "食べます", "食べて", "食べない", "食べられる"),
        ("見る", "見ます", "見て", "見ない", "見られる"), ("着る", "着ます", "着て", "着ない", "着られる"),
        ("切る", "切ります", "切って", "切らない", "切れる"),
        ("勉強する", "勉強します", "勉強して", "勉強しない", "勉強できる"),
        ("行く", "行きます", "行って", "行かない", "行ける"),
    ],
)  # fmt: skip
def test_japanese_verbs_conjugate_by_their_class(verb: str, masu: str, te: str, nai: str, potential: str) -> None:
    parsed = JapaneseVerb.parse(verb)
    assert (parsed.masu, parsed.te, parsed.nai, parsed.potential.dictionary) == (masu, te, nai, potential)
    assert parsed.ta == te[:-1] + {"て": "た", "で": "だ"}[te[-1]]


def test_what_one_can_do_takes_ga_in_japanese() -> None:
    assert JapaneseVerb.parse("料理を する").potential.masu == "料理ができます"
    assert JapaneseVerb.parse("ピアノを 弾く").potential.masu == "ピアノが弾けます"
    assert JapaneseVerb.parse("自転車に 乗る").potential.masu == "自転車に乗れます"


def test_going_for_a_walk_drops_suru_in_japanese_but_soccer_does_not() -> None:
    assert JapaneseVerb.parse("散歩を する").going == "散歩に"
    assert JapaneseVerb.parse("サッカーを する").going == "サッカーをしに"
    assert JapaneseVerb.parse("寿司を 食べる").going == "寿司を食べに"


def test_japanese_adjectives_inflect_by_their_kind() -> None:
    sweet, quiet = JapaneseAdjective("甘い"), JapaneseAdjective("静かな")
    assert (sweet.polite, sweet.polite_negative, sweet.excessive) == ("甘いです", "甘くないです", "甘すぎます")
    assert (quiet.polite, quiet.polite_negative, quiet.excessive) == ("静かです", "静かではありません", "静かすぎます")
    assert JapaneseAdjective("頭がいい").polite_negative == "頭がよくないです"
    assert JapaneseAdjective("寒い").polite_past == "寒かったです"


def test_every_japanese_sentence_is_polite_to_its_end(rows: list[Row]) -> None:
    polite = re.compile(r"(です|ます|ません|でした|ました|ください|でしょう)(か|よ)?。$")
    for row in rows:
        assert polite.search(row["level_7"]["日文"]), row


def test_only_ones_own_wish_is_tai_in_japanese(rows: list[Row]) -> None:
    own, others = 0, 0
    for row in rows:
        line = row["level_7"]["日文"]
        if re.search("(?<!冷)たいです。$", line):
            own += 1
            assert line.startswith(("私は", "私たちは")), row
        if line.endswith("たがっています。"):
            others += 1
            assert not line.startswith("私"), row
    assert own > 5
    assert others > 100


def test_living_things_are_iru_and_things_are_aru_in_japanese(rows: list[Row]) -> None:
    animal = re.compile(
        r"[猫犬鳥魚牛馬羊豚鶏熊猿象蛇亀狼蝶]が|(ウサギ|アヒル|トラ|ライオン|パンダ|キリン|キツネ|ペンギン|ネズミ)が"
    )
    seen = 0
    for row in rows:
        if match := re.fullmatch(r"(.+に)(.+が[一二三四五六].+)(います|あります)。", row["level_7"]["日文"]):
            seen += 1
            assert (match[3] == "います") == bool(animal.search(match[2])), row
    assert seen > 100


# English


@pytest.mark.parametrize(
    ("verb", "third", "gerund", "past", "participle"),
    [
        ("wash", "washes", "washing", "washed", "washed"), ("study", "studies", "studying", "studied", "studied"),
        ("play", "plays", "playing", "played", "played"), ("swim", "swims", "swimming", "swam", "swum"),
        ("shop", "shops", "shopping", "shopped", "shopped"), ("water", "waters", "watering", "watered", "watered"),
        ("fix", "fixes", "fixing", "fixed", "fixed"), ("go", "goes", "going", "went", "gone"),
        ("have", "has", "having", "had", "had"), ("write", "writes", "writing", "wrote", "written"),
        ("bake", "bakes", "baking", "baked", "baked"), ("ski", "skis", "skiing", "skied", "skied"),
        ("knit", "knits", "knitting", "knitted", "knitted"), ("visit", "visits", "visiting", "visited", "visited"),
        ("row", "rows", "rowing", "rowed", "rowed"), ("buy", "buys", "buying", "bought", "bought"),
    ],
)  # fmt: skip
def test_english_verbs_inflect(verb: str, third: str, gerund: str, past: str, participle: str) -> None:
    assert (english.third_person(verb), english.gerund(verb)) == (third, gerund)
    assert (english.past(verb), english.participle(verb)) == (past, participle)


def test_english_nouns_and_adjectives_inflect() -> None:
    assert [english.plural(noun) for noun in ("cherry", "box", "knife", "mouse", "sheep", "toy", "mango", "piano")] == [
        "cherries", "boxes", "knives", "mice", "sheep", "toys", "mangoes", "pianos",
    ]  # fmt: skip
    assert [english.with_article(noun) for noun in ("egg", "umbrella", "university", "hour", "pear")] == [
        "an egg", "an umbrella", "a university", "an hour", "a pear",
    ]  # fmt: skip
    assert [english.comparative(word) for word in ("big", "heavy", "fast", "expensive")] == [
        "bigger", "heavier", "faster", "more expensive",
    ]  # fmt: skip


def test_a_and_an_follow_the_sound_in_the_data(rows: list[Row]) -> None:
    for row in rows:
        for article, word in re.findall(r"(?<!')\b([Aa]n?) (\w+)", row["level_5"]["英文"]):
            vowel = word[0].lower() in "aeiou" and not word.startswith(("uni", "used", "one", "Euro"))
            assert (article.lower() == "an") == vowel, row


def test_english_subjects_and_verbs_agree_in_the_data(rows: list[Row]) -> None:
    one = r"(?:My (?:big|little) (?:brother|sister)|My \w+|Mom|Dad|Grandpa|Grandma|Xiaoming|Xiaohong|Xiao Li|The \w+)"
    many = r"(?:I|We|My parents|The children)"
    wrong_one = re.compile(
        rf"^(?!My parents|The children|My \w+ \w+'s){one} (?:want|love|like|have|do|don't|are|were|am)\b"
    )
    wrong_many = re.compile(rf"^{many} (?:wants|loves|likes|has|does|doesn't|is|was)\b")
    right = re.compile(
        rf"^(?:{one} (?:wants|loves|likes|has|doesn't|is)|{many} (?:want|love|like|have|don't|are|am))\b"
    )
    agreed = 0
    for row in rows:
        line = row["level_5"]["英文"]
        assert not wrong_many.search(line), row
        assert not wrong_one.search(line), row
        agreed += right.search(line) is not None
        assert not re.search(r"\bI (are|is)\b|\bwe (am|is)\b|\bthey (is|was|takes|has)\b", line, re.IGNORECASE), row
    assert agreed > 1500


def test_the_present_tense_follows_the_subject() -> None:
    assert english.present("go home", Agreement.THIRD) == "goes home"
    assert english.present("go home", Agreement.PLURAL) == english.present("go home", Agreement.FIRST) == "go home"


def test_english_sentences_begin_large_and_end_once(rows: list[Row]) -> None:
    for row in rows:
        line = row["level_5"]["英文"]
        assert line[0].isupper(), row
        assert re.search(r"[^.?][.?]$", line), row
        assert "  " not in line, row


def test_nothing_belongs_to_the_wrong_person(rows: list[Row]) -> None:
    own = re.compile(
        r"^(I|We|Dad|Mom|Grandpa|Grandma) .*\b(wash|brush|do|take|clean|tid)\w*(?: up)? (my|our|his|her|their|your) "
    )
    whose = {"I": "my", "We": "our", "Dad": "his", "Mom": "her", "Grandpa": "his", "Grandma": "her"}
    checked = 0
    for row in rows:
        if match := own.search(row["level_5"]["英文"]):
            checked += 1
            assert match[3] == whose[match[1]], row
    assert checked > 10


# Chinese


def test_particles_step_into_separable_verbs() -> None:
    assert hanzi(after_verb("跑+步", "了")) == "跑了步"
    assert hanzi(after_verb("洗 衣服", "了")) == "洗了衣服"
    assert hanzi(after_verb("理+发/fà", "了")) == "理了发"
    assert hanzi(after_verb("休息", "了")) == "休息了"


def test_pinyin_is_spelled_as_the_standard_says() -> None:
    assert pinyin("天 下 雨 了") == "tiān xià yǔ le"
    assert pinyin("妹妹 高兴 地 唱+歌") == "mèimei gāoxìng de chànggē"
    assert pinyin(after_verb("理+发/fà", "了")) == "lǐle fà"
    assert pinyin("王 老师 在 北京") == "Wáng lǎoshī zài Běijīng"
    assert pinyin("女儿 ， 西安") == "nǚ'ér Xī'ān"


def test_a_word_that_nobody_can_read_is_refused() -> None:
    with pytest.raises(ValueError, match="no pinyin"):
        word_pinyin("abc")


def test_numbers_are_written_out() -> None:
    assert [hanzi_number(value) for value in (2, 10, 12, 20, 45)] == ["二", "十", "十二", "二十", "四十五"]
    assert counted(2) == "两"
    assert [english_number(value) for value in (13, 20, 45)] == ["thirteen", "twenty", "forty-five"]


def test_measure_words_of_two_are_liang(rows: list[Row]) -> None:
    for row in rows:
        assert not re.search(r"[有现是]二[个只本张把条件支块辆台头匹]", row["level_6"]["中文"]), row
