"""The committed eight-level files: complete, unique, read aloud right, and nothing held out has leaked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from tools import generate_hlbd_full
from tools.datasets.hlbd_full import dataset
from tools.datasets.hlbd_full.space import in_contrast, is_new_fact, space

ROOT = Path(__file__).resolve().parents[4]
TRAINING = ROOT / "data" / "HLBD_Full_V2.json"
HELD_OUT = ROOT / "data" / "HLBD_Full_V2_Heldout.json"
GENERATOR = ROOT / "tools" / "generate_hlbd_full.py"

KEYS = {
    "level_1": ["字卡", "emoji"], "level_2": ["短语"], "level_3": ["数学"], "level_4": ["拼音"], "level_5": ["英文"],
    "level_6": ["中文"], "level_7": ["日文"], "level_8": ["韩文"],
}  # fmt: skip
SPOKEN = ("level_5", "level_6", "level_7", "level_8")

Row = dict[str, Any]


@pytest.fixture(scope="module")
def training() -> list[Row]:
    return _samples(TRAINING)


@pytest.fixture(scope="module")
def held_out() -> list[Row]:
    return _samples(HELD_OUT)


@pytest.fixture(scope="module")
def everything(training: list[Row], held_out: list[Row]) -> list[Row]:
    return training + held_out


@pytest.fixture(scope="module")
def built() -> dataset.Dataset:
    return dataset.build()


def _samples(path: Path) -> list[Row]:
    rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))["samples"]
    return rows


def _line(row: Row, level: str) -> str:
    line: str = row[level][KEYS[level][0]]
    return line


def _han(text: str) -> list[str]:
    return re.findall(r"[\u4e00-\u9fff]", text)


def test_the_files_count_what_they_hold(training: list[Row], held_out: list[Row]) -> None:
    for path, rows in ((TRAINING, training), (HELD_OUT, held_out)):
        assert json.loads(path.read_text(encoding="utf-8"))["metadata"]["total_samples"] == len(rows)
    assert len(training) == 5000
    assert 380 <= len(held_out) <= 420


def test_every_row_has_eight_levels_each_one_short_line(everything: list[Row]) -> None:
    for row in everything:
        assert {key for key in row if key.startswith("level_")} == set(KEYS)
        for level, keys in KEYS.items():
            assert list(row[level]) == keys, row["concept"]
            for line in row[level].values():
                assert line == line.strip(), row["concept"]
                assert 0 < len(line) <= 60, line
                assert line.isprintable() or level == "level_1", line


def test_concepts_are_unique_and_every_language_tells_them_apart(training: list[Row], held_out: list[Row]) -> None:
    new = [row for row in held_out if row["kind"] != "paraphrase"]
    for pick in (lambda row: row["concept"], *(lambda row, level=level: _line(row, level) for level in SPOKEN)):
        twice = [text for text, times in Counter(map(pick, training + new)).items() if times > 1]
        assert twice == []


def test_character_and_phrase_are_part_of_the_concept(everything: list[Row]) -> None:
    for row in everything:
        assert row["level_1"]["字卡"] in row["concept"], row
        assert _line(row, "level_2") in row["concept"], row


def test_the_syntax_spells_the_concept_out(everything: list[Row]) -> None:
    for row in everything:
        match = re.fullmatch(r"S = (.+?) \((.+)\)", _line(row, "level_3"))
        assert match is not None, row
        parts = [part.split(": ") for part in match[2].split(", ")]
        assert [label for label, _ in parts] == match[1].split(" + "), row
        spelled = "".join(words for _, words in parts)
        assert spelled.endswith(row["concept"]), (
            row
        )  # 天 + 下雨 is the one pattern whose concept leaves its subject out


def test_every_emoji_is_an_emoji(everything: list[Row]) -> None:
    pictures = "\u2600-\u27bf\u2b50\u231a\u231b\u23e9-\u23fa\U0001f300-\U0001faff\U0001f0cf"
    one = f"[{pictures}]\ufe0f?"
    emoji = re.compile(f"{one}(\u200d{one})*")
    for row in everything:
        assert emoji.fullmatch(row["level_1"]["emoji"]), row


def test_every_language_is_written_in_its_own_script(everything: list[Row]) -> None:
    scripts = {
        "level_4": r"[a-zA-ZüǖǘǚǜāáǎàēéěèīíǐìōóǒòūúǔùǸǹŌŏ' ]+",
        "level_5": r"([A-Za-zé',\- ]|Ms\.)+[.?]",
        "level_6": r"[\u4e00-\u9fff，]+[。？]",
        "level_7": r"[\u3040-\u30ff\u4e00-\u9fff々、ー]+。",
        "level_8": r"[\uac00-\ud7a3, ]+[.?]",
    }
    for row in everything:
        for level, script in scripts.items():
            assert re.fullmatch(script, _line(row, level)), (level, row)


def test_pinyin_has_one_syllable_for_every_character(everything: list[Row]) -> None:
    vowels = re.compile("[aeiouüāáǎàēéěèīíǐìōóǒòūúǔùǖǘǚǜAEIOU]+")
    for row in everything:
        syllables = vowels.findall(_line(row, "level_4"))
        assert len(syllables) == len(_han(_line(row, "level_6"))), row


def test_no_pinyin_syllable_has_two_tones(everything: list[Row]) -> None:
    marks = re.compile("[āáǎàēéěèīíǐìōóǒòūúǔùǖǘǚǜ]")
    vowels = re.compile("[aeiouüāáǎàēéěèīíǐìōóǒòūúǔùǖǘǚǜ]+")
    for row in everything:
        for syllable in vowels.findall(_line(row, "level_4")):
            assert len(marks.findall(syllable)) <= 1, row


@pytest.mark.parametrize(
    ("characters", "reading", "others"),
    [
        (r"今天得", r"jīntiān děi ", r"jīntiān de "),  # must
        (r"[^今]得很", r" de hěn", r"dé"),  # complement
        (r"地(?=[^铁上图])", r" de |dì", r"[^ǎ]dìde"),
        (r"着一", r"zhe yī", r"zhuó|zháo"),
        (r"去过", r"qùguo", r"guò"),
        (r"银行", r"yínháng", r"yínxíng"),
        (r"自行车", r"zìxíngchē", r"zìháng"),
        (r"行李", r"xíngli", r"hángli"),
        (r"乐器", r"yuèqì", r"lèqì"),
        (r"音乐", r"yīnyuè", r"yīnlè"),
        (r"可乐", r"kělè", r"kěyuè"),
        (r"睡觉", r"shuìjiào", r"jué"),
        (r"还书", r"huán shū", r"hái"),
        (r"背单词", r"bèi dāncí", r"bēi"),
        (r"弹", r"tán", r"dàn"),
        (r"教汉语", r"jiāo Hànyǔ", r"jiào H"),
        (r"种树", r"zhòng shù", r"zhǒng shù"),
        (r"一种", r"yī zhǒng", r"zhòng"),
        (r"倒垃圾", r"dào lājī", r"dǎo"),
        (r"会计", r"kuàijì", r"huìjì"),
        (r"校长", r"xiàozhǎng", r"cháng"),
        (r"长颈鹿", r"chángjǐnglù", r"zhǎng"),
        (r"理发|理了发", r"lǐfà|lǐle fà", r"fā\b"),
        (r"头发", r"tóufa", r"tóufà"),
        (r"便宜", r"piányi", r"biàn"),
        (r"东西", r"dōngxi", r"dōngxī"),
        (r"妈妈", r"māma", r"māmā"),
        (r"爸爸", r"bàba", r"bàbà"),
        (r"孩子们", r"háizimen", r"háizǐ|zimén"),
        (r"喜欢", r"xǐhuan", r"xǐhuān"),
        (r"晚上", r"wǎnshang", r"wǎnshàng"),
        (r"一起", r"yīqǐ", r"yìqǐ"),
        (r"不", r"bù", r"bú"),
        (r"女儿", r"nǚ'ér", r"nǚér"),
        (r"西安", r"Xī'ān", r"Xīān"),
    ],
)  # fmt: skip
def test_characters_of_several_readings_and_neutral_tones_are_read_right(
    everything: list[Row], characters: str, reading: str, others: str
) -> None:
    concerned = [row for row in everything if re.search(characters, _line(row, "level_6"))]
    assert concerned, f"no sentence has {characters}"
    for row in concerned:
        assert re.search(reading, _line(row, "level_4")), row
        assert not re.search(others, _line(row, "level_4")), row


def test_paraphrases_say_a_training_concept_as_training_never_does(training: list[Row], held_out: list[Row]) -> None:
    known = {row["concept"]: row for row in training}
    said = {_line(row, level) for row in training for level in SPOKEN}
    paraphrases = [row for row in held_out if row["kind"] == "paraphrase"]
    assert len(paraphrases) == 160
    for row in paraphrases:
        trained = known[row["concept"]]
        assert all(_line(row, level) not in said for level in SPOKEN), row
        assert all(row[level] == trained[level] for level in ("level_1", "level_2", "level_3")), row


def test_no_new_concept_leaks_into_training(training: list[Row], held_out: list[Row]) -> None:
    concepts = {row["concept"] for row in training}
    said = {_line(row, level) for row in training for level in SPOKEN}
    new = [row for row in held_out if row["kind"] in ("new_fact", "contrast")]
    assert Counter(row["kind"] for row in new)["new_fact"] == 140
    for row in new:
        assert row["concept"] not in concepts
        assert all(_line(row, level) not in said for level in SPOKEN), row


def test_new_facts_are_made_of_words_that_training_has(built: dataset.Dataset) -> None:
    trained = {name for utterance in built.training for name in utterance.slots().values()}
    reserved = {utterance.concept(): utterance for utterance in (*space().new_facts, *space().contrasts)}
    for row in built.held_out:
        if row["kind"] != "paraphrase":
            assert set(reserved[row["concept"]].slots().values()) <= trained, row


def test_held_out_rows_use_no_character_that_training_lacks(training: list[Row], held_out: list[Row]) -> None:
    alphabet = {char for row in training for level in KEYS for line in row[level].values() for char in line}
    for row in held_out:
        assert {char for level in KEYS for line in row[level].values() for char in line} <= alphabet, row


def test_contrast_groups_differ_in_one_word_and_in_every_language(held_out: list[Row]) -> None:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in held_out:
        assert ("group" in row) == (row["kind"] == "contrast")
        if row["kind"] == "contrast":
            groups[row["group"]].append(row)
    assert len(groups) >= 25
    for rows in groups.values():
        assert len(rows) in (3, 4)
        shared = [set(re.split(r"[ ,():+]+", _line(row, "level_3"))) for row in rows]
        assert set.intersection(*shared) - {"S", "=", ""}, rows
        for level in SPOKEN:
            assert len({_line(row, level) for row in rows}) == len(rows), rows


def test_the_committed_files_are_what_the_generator_makes(built: dataset.Dataset) -> None:
    seed = dataset.DEFAULT_SEED
    assert TRAINING.read_text(encoding="utf-8") == dataset.training_file(built, seed)
    assert HELD_OUT.read_text(encoding="utf-8") == dataset.held_out_file(built, seed)


@pytest.mark.slow
def test_any_size_keeps_off_what_is_reserved_and_a_bigger_one_keeps_the_smaller() -> None:
    many = dataset.training_concepts(40000, seed=7)
    assert len({utterance.concept() for utterance in many}) == 40000
    assert not any(in_contrast(utterance) or is_new_fact(utterance) for utterance in many)
    for size in (1, 600, 9000):
        assert dataset.training_concepts(size, seed=7) == many[:size]


def test_a_size_beyond_the_lexicon_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # In this process, which has walked through all that the lexicon makes already.
    monkeypatch.setattr(sys, "argv", [GENERATOR.name, "--size", "10000000", "--output", str(tmp_path / "out.json")])
    assert generate_hlbd_full.main() == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "10000000" in told
    assert str(len(space().training)) in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--size", "0", "--output", "{0}/out.json"],
        ["--output", "{0}/nowhere/out.json"],
        ["--output", "{0}"],
        ["--output", "{0}/out.json", "--held-out-output", "{0}/out.json"],
    ],
)
def test_bad_options_are_refused_in_one_line_and_nothing_is_written(tmp_path: Path, arguments: list[str]) -> None:
    command = [sys.executable, str(GENERATOR), *(argument.format(tmp_path) for argument in arguments)]
    run = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd="/", check=False)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "Traceback" not in run.stderr
    assert list(tmp_path.iterdir()) == []
