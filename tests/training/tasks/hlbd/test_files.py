"""The HLBD loader: both formats, several files, the split, and one clear line for each kind of bad input."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apt_model.tokenizer import DynamicTagTokenizer
from training.errors import DataError, printable
from training.tasks.hlbd.files import Corpus, Sample, find_dataset, level_tag, load_corpus, split_corpus
from training.tasks.hlbd.stream import CorpusStream

RAIN: dict[str, Any] = {
    "concept": "下雨",
    "level_1": {"字卡": "雨", "emoji": "🌧️"},
    "level_2": {"短语": "下大雨"},
    "level_3": {"数学": "S = NP + VP"},
    "level_4": {"拼音": "xià yǔ"},
    "level_5": {"英文": "It is raining."},
    "level_6": {"中文": "正在下雨。"},
    "level_7": {"日文": "雨が降っています。"},
    "level_8": {"韩文": "비가 옵니다."},
}
SNOW: dict[str, Any] = {"concept": "下雪", "level_1": {"字卡": "雪"}, "level_5": {"英文": "It is snowing."}}


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


def rows(**modules: list[tuple[str, str]]) -> dict[str, Any]:
    data = {name: [{"input": i, "output": o} for i, o in pairs] for name, pairs in modules.items()}
    return {"metadata": {"name": "test"}, "data": data}


def concepts(*items: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {}, "samples": list(items)}


def question_rows(count: int, module: str = "m") -> dict[str, Any]:
    return rows(**{module: [(f"{module} question {i}", f"answer {i}") for i in range(count)]})


def asked(corpus: Corpus) -> dict[str, str]:
    return {s.prompt: s.answer for s in corpus.samples}


# -- formats -------------------------------------------------------------------------------------------------------


def test_question_rows_become_samples_in_the_order_of_the_file(tmp_path: Path) -> None:
    document = rows(arithmetic=[("1 + 1 = ?", "2"), ("1 + 2 = ?", "3")], zodiac=[("鼠之后？", "牛")])
    corpus = load_corpus([write(tmp_path / "a.json", document)])
    assert corpus.samples == [
        Sample("1 + 1 = ?", "2", "arithmetic", 0),
        Sample("1 + 2 = ?", "3", "arithmetic", 1),
        Sample("鼠之后？", "牛", "zodiac", 2),
    ]
    assert corpus.modules == ("arithmetic", "zodiac")
    assert corpus.tags == frozenset()


def test_a_concept_asks_for_each_of_its_levels(tmp_path: Path) -> None:
    corpus = load_corpus([write(tmp_path / "a.json", concepts(RAIN))])
    assert asked(corpus) == {
        "[CARD]下雨": "雨",
        "[EMOJI]下雨": "🌧️",
        "[PHRASE]下雨": "下大雨",
        "[MATH]下雨": "S = NP + VP",
        "[PY]下雨": "xià yǔ",
        "[EN]下雨": "It is raining.",
        "[ZH]下雨": "正在下雨。",
        "[JP]下雨": "雨が降っています。",
        "[KR]下雨": "비가 옵니다.",
    }
    assert {s.entry for s in corpus.samples} == {0}
    assert corpus.num_entries == 1


def test_a_missing_level_is_left_out(tmp_path: Path) -> None:
    corpus = load_corpus([write(tmp_path / "a.json", concepts(SNOW))])
    assert asked(corpus) == {"[CARD]下雪": "雪", "[EN]下雪": "It is snowing."}


def test_further_levels_are_taken_along_with_their_tag(tmp_path: Path) -> None:
    corpus = load_corpus([write(tmp_path / "a.json", concepts({**SNOW, "level_9": {"法文": "Il neige."}}))])
    assert asked(corpus)["[FR]下雪"] == "Il neige."
    assert "[FR]" in corpus.tags
    tokenizer = DynamicTagTokenizer.from_texts((t for s in corpus.samples for t in s[:2]), corpus.tags)
    assert len(tokenizer.encode("[FR]")) == 1


def test_an_unknown_level_names_its_own_tag(tmp_path: Path) -> None:
    corpus = load_corpus([write(tmp_path / "a.json", concepts({**SNOW, "level_10": {"克林贡文": "peDtaH"}}))])
    assert asked(corpus)["[克林贡文]下雪"] == "peDtaH"
    assert "[克林贡文]" in corpus.tags


def test_a_tag_has_no_spaces() -> None:
    assert level_tag("Old English") == "[Old_English]"


def test_with_pairs_full_the_sentences_ask_for_each_other(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", concepts(RAIN))
    levels, full = asked(load_corpus([path], "levels")), asked(load_corpus([path], "full"))
    assert levels.items() <= full.items()
    assert full["[KR][JP]雨が降っています。"] == "비가 옵니다."
    assert full["[EN][ZH]正在下雨。"] == "It is raining."
    assert full["[ZH][EMOJI]🌧️"] == "正在下雨。"
    assert full["[ZH][CARD]雨"] == "正在下雨。"
    # Nine levels; five sentences ask for each other and for the phrase; the four parts ask for the Chinese sentence.
    assert len(full) == 9 + 5 * 5 + 4


def test_a_prompt_with_several_answers_is_left_out_and_counted(tmp_path: Path) -> None:
    also_rain = {"concept": "降雨", "level_1": {"字卡": "雨"}, "level_6": {"中文": "天在下雨。"}}
    corpus = load_corpus([write(tmp_path / "a.json", concepts(RAIN, also_rain))], "full")
    assert "[ZH][CARD]雨" not in asked(corpus)
    assert corpus.files[0].ambiguous == 2
    assert "2 ambiguous left out" in next(iter(corpus.describe()))


def test_a_prompt_told_twice_with_one_answer_is_clear(tmp_path: Path) -> None:
    corpus = load_corpus([write(tmp_path / "a.json", concepts(SNOW, SNOW))])
    assert corpus.files[0].ambiguous == 0
    assert len(corpus.samples) == 4


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(question_rows(2)).encode())
    assert len(load_corpus([path]).samples) == 2


# -- files ---------------------------------------------------------------------------------------------------------


def test_several_files_are_read_together_with_counts_and_shares(tmp_path: Path) -> None:
    a = write(tmp_path / "a.json", question_rows(6))
    b = write(tmp_path / "b.json", concepts(RAIN, SNOW))
    corpus = load_corpus([a, b])
    assert [(f.path.name, f.entries, f.samples) for f in corpus.files] == [("a.json", 6, 6), ("b.json", 2, 11)]
    assert corpus.num_entries == 8
    assert [s.entry for s in corpus.samples[6:]] == [6] * 9 + [7] * 2
    first, second = corpus.describe()
    assert first == "a.json: 6 entries (75.0%), 6 samples"
    assert second == "b.json: 2 entries (25.0%), 11 samples"


def test_the_fingerprint_tells_contents_apart(tmp_path: Path) -> None:
    one = load_corpus([write(tmp_path / "a.json", rows(m=[("ab", "c")]))])
    same = load_corpus([write(tmp_path / "b.json", rows(m=[("ab", "c")]))])
    other = load_corpus([write(tmp_path / "c.json", rows(m=[("a", "bc")]))])
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()


def test_a_bare_name_is_found_in_the_data_folder_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    corpus = load_corpus(["HLBD_Hardcore_Full.json"])
    assert corpus.num_entries == len(corpus.samples) == 575
    assert len(corpus.modules) == 5


def test_a_file_here_comes_before_one_in_a_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "checkout"
    in_checkout = write(root / "data" / "a.json", question_rows(1))
    monkeypatch.chdir(write(tmp_path / "here" / "other.json", {}).parent)
    assert find_dataset("a.json", root) == in_checkout
    write(Path("data") / "a.json", question_rows(1))
    assert find_dataset("a.json", root) == Path("data/a.json")
    write(Path("a.json"), question_rows(1))
    assert find_dataset("a.json", root) == Path("a.json")


# -- bad input -----------------------------------------------------------------------------------------------------


def refusal(content: bytes, directory: Path) -> str:
    """The one line that this content of a file is refused with, without the path that must begin it."""
    path = directory / "bad.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        load_corpus([path])
    line = str(refused.value)
    with pytest.raises(DataError) as refused_as_stream:
        list(CorpusStream([path]))
    assert str(refused_as_stream.value) == line
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")


NO_JSON_TEXT: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "blank": (b" \n", "empty"),
    "CSV": (b"input,output\n1,2\n", "this is CSV (convert it, "),
    "JSON Lines": (b'{"input": "a", "output": "b"}\n' * 2, "this is JSON Lines, one document a line"),
    "plain text": ("下雨\n下雪\n".encode(), 'this is plain text; HLBD is one JSON document: {"data": '),
    "YAML": (b"data:\n  m: []\n", "this is YAML (--config takes such a file)"),
    "Parquet": (b"PAR1\x15\x04\x15", "this is Parquet"),
    "a page": (b"<!DOCTYPE html><html>", "this is an HTML page"),
    "archive": (b"\x1f\x8b\x08\x00", "this is a gzip archive (unpack it first)"),
    "two documents": (json.dumps(question_rows(1)).encode() + b" {}", "(Extra data)"),
    "truncated": (json.dumps(question_rows(2)).encode()[:-3], "cut short"),
    "GBK": ('{"data": "下雨"}'.encode("gbk"), "not UTF-8 text (byte 10 is 0xcf)"),
    "UTF-16": (json.dumps({"data": {}}).encode("utf-16"), "this is text in UTF-16 (save it as UTF-8)"),
    "not UTF-8 behind a BOM": (b'\xef\xbb\xbf{"data": "\xff"}', "not UTF-8 text (byte 13 is 0xff)"),
    "bottomless": (b"[" * 100_000, "nested too deeply"),
    "a number without end": (b'{"data": {"m": [{"input": "a", "output": ' + b"1" * 5000 + b"}]}}", "number"),
}


@pytest.mark.parametrize(("content", "told"), NO_JSON_TEXT.values(), ids=NO_JSON_TEXT.keys())
def test_a_file_that_is_no_json_text_is_one_clear_line(content: bytes, told: str, tmp_path: Path) -> None:
    assert told in refusal(content, tmp_path)


@given(cut=st.integers(min_value=0, max_value=10**9))
@settings(max_examples=40, deadline=None)
def test_a_file_cut_short_anywhere_is_one_clear_line(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    for document in (rows(m=[("下雨", "🌧️")]), concepts(RAIN)):
        whole = json.dumps(document, ensure_ascii=False).encode()
        refusal(whole[: cut % len(whole)], tmp_path_factory.getbasetemp())


ROW = {"input": "a", "output": "b"}
NEEDS_TEXT = "must be a non-empty text in quotes, not"


def module(*items: object) -> dict[str, Any]:
    return {"data": {"m": list(items)}}


def samples(*items: object) -> dict[str, Any]:
    return {"samples": list(items)}


WRONG_SHAPES: dict[str, tuple[object, str]] = {
    "a list of rows": ([ROW], "this one is a list"),
    "null": (None, "null"),
    "neither format": ({"rows": [ROW]}, "neither 'data'"),
    "rows without a module": ({"data": [ROW]}, "'data' must map each module to a list"),
    "no module at all": ({"data": {}}, "no samples"),
    "a module is an object": ({"data": {"m": ROW}}, "module 'm' must be a list of rows"),
    "an empty module": ({"data": {"m": [ROW], "n": []}}, "module 'n' is empty"),
    "a row is a text": (module(ROW, "a"), "module 'm', row 1"),
    "no input": (module(ROW, {"output": "b"}), "module 'm', row 1: no 'input'"),
    "no output": (module(ROW, ROW, {"input": "a"}), "module 'm', row 2: no 'output'"),
    "a number asked": (module({**ROW, "input": 5}), f"module 'm', row 0: 'input' {NEEDS_TEXT} 5"),
    "a number answered": (module(ROW, {**ROW, "output": 46}), f"module 'm', row 1: 'output' {NEEDS_TEXT} 46"),
    "null answered": (module({**ROW, "output": None}), "row 0: 'output'"),
    "a truth value answered": (module({**ROW, "output": True}), "row 0: 'output'"),
    "a list answered": (module({**ROW, "output": ["b"]}), "row 0: 'output'"),
    "nothing asked": (module({**ROW, "input": ""}), f"row 0: 'input' {NEEDS_TEXT} an empty text"),
    "samples are an object": ({"samples": RAIN}, "'samples' must be a list"),
    "no sample at all": (samples(), "no samples"),
    "a sample is a text": (samples(RAIN, "下雪"), "sample 1"),
    "only spaces asked": (module({**ROW, "input": " \t "}), f"row 0: 'input' {NEEDS_TEXT} ' \\t '"),
    "only spaces answered": (module({**ROW, "output": "\u3000"}), f"row 0: 'output' {NEEDS_TEXT} '\\u3000'"),
    "a level of spaces": (samples({**SNOW, "level_2": {"短语": "\n"}}), f"'level_2', '短语' {NEEDS_TEXT} '\\n'"),
    "both formats": ({"data": {"m": [ROW]}, "samples": [SNOW]}, "holds both 'data' and 'samples'"),
    "both formats, turned round": ({"samples": [SNOW], "x": 1, "data": {"m": [ROW]}}, "holds both 'data' and"),
    "a module without a name": ({"data": {" ": [ROW]}}, f"module ' ': its name {NEEDS_TEXT} ' '"),
    "half a character in a module": ({"data": {"\ud800": [ROW]}}, "module '\\ud800': its name holds half of a"),
    "half a character in a level": (
        samples(RAIN, {**SNOW, "level_2": {"\udfff": "x"}}),
        "sample 1: 'level_2': the name '\\udfff' holds half of a",
    ),
    **{
        f"a level named {key!r}": (
            samples({**SNOW, "level_2": {key: "x"}}),
            f"sample 0: 'level_2': the name {key!r} cannot be a tag; give one of at most 24 characters",
        )
        for key in ("x\ny", "a[b]", "y" * 25, "EOS")
    },
    "no concept": (samples(RAIN, {"level_1": {"字卡": "雪"}}), "sample 1: 'concept'"),
    "no level": (samples({"concept": "下雪"}), "sample 0: concept '下雪' has no level"),
    "a level is a text": (samples({**SNOW, "level_2": "雪"}), "sample 0: 'level_2' must be an object"),
    "a level holds a number": (samples(RAIN, {**SNOW, "level_2": {"短语": 7}}), "sample 1: 'level_2', '短语'"),
    "a level twice": (samples({**SNOW, "level_9": {"英文": "Snow."}}), "sample 0: '英文' is given on two levels"),
}


@pytest.mark.parametrize(("document", "told"), WRONG_SHAPES.values(), ids=WRONG_SHAPES.keys())
def test_a_file_of_the_wrong_shape_is_one_line_that_names_the_item(document: object, told: str, tmp_path: Path) -> None:
    assert told in refusal(json.dumps(document).encode(), tmp_path)


def test_half_a_surrogate_pair_is_refused_where_it_stands(tmp_path: Path) -> None:
    content = b'{"data": {"m": [{"input": "a", "output": "b"}, {"input": "c", "output": "\\ud83c"}]}}'
    assert "module 'm', row 1: 'output'" in refusal(content, tmp_path)


@pytest.mark.parametrize(
    "name",
    ["absent.json", "no/such/folder.json", "x" * 300, "nul\0byte.json", "~nobody-here/a.json"],
    ids=["here", "in a folder", "too long a name", "not a name", "in the home of nobody"],
)
def test_a_missing_file_is_named_with_the_flag_to_check(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="--datasets") as refused:
        load_corpus([name])
    assert str(refused.value).startswith(f"{printable(name)}: ")


def test_a_pipe_and_a_device_are_not_data_files_and_nothing_waits_for_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", Path("/dev/zero")):
        with pytest.raises(DataError, match="this is no regular file"):
            load_corpus([path])


@pytest.mark.parametrize("beginning", [b"", b'{"data": {"m": ['])
def test_a_file_too_large_for_memory_is_refused_unread(beginning: bytes, tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.write(beginning)
        file.truncate(5_000_000_000)  # without content: it takes no place on the disk
    with pytest.raises(DataError, match=r"huge.json: 5.00 GB is more than is read into memory \(1.00 GB at most\); "):
        load_corpus([path])
    small = write(tmp_path / "small.json", question_rows(2))
    with pytest.raises(DataError, match=r"huge.json: 5.00 GB with the files before it is more than"):
        load_corpus([small, path])


def test_a_folder_is_not_a_data_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this is a directory"):
        load_corpus([tmp_path])


def test_a_file_given_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", question_rows(1))
    with pytest.raises(DataError, match="given twice"):
        load_corpus([path, tmp_path / "." / "a.json"])


def test_no_file_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="--datasets"):
        load_corpus([])


# -- the split -----------------------------------------------------------------------------------------------------


def test_without_a_validation_split_everything_is_trained_on(tmp_path: Path) -> None:
    corpus = load_corpus([write(tmp_path / "a.json", question_rows(5))])
    assert split_corpus(corpus, 0.0, seed=1) == (corpus.samples, [])


@given(count=st.integers(4, 40), share=st.floats(0.2, 0.8), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=30, deadline=None)
def test_a_split_parts_the_samples_and_keeps_their_order(count: int, share: float, seed: int) -> None:
    samples = [Sample(f"question {i}", "answer", "m", i) for i in range(count)]
    train, held_back = split_corpus(Corpus(samples, (), frozenset()), share, seed)
    assert len(held_back) == round(count * share)
    assert sorted(train + held_back, key=lambda s: s.entry) == samples
    assert train == sorted(train, key=lambda s: s.entry)


def test_a_concept_is_never_on_both_sides(tmp_path: Path) -> None:
    many = [{**RAIN, "concept": f"概念{i}", "level_5": {"英文": f"Sentence {i}."}} for i in range(20)]
    corpus = load_corpus([write(tmp_path / "a.json", concepts(*many))], "full")
    train, held_back = split_corpus(corpus, 0.3, seed=3)
    assert {s.entry for s in train}.isdisjoint(s.entry for s in held_back)
    assert len({s.entry for s in held_back}) == 6


def test_the_split_does_not_depend_on_the_order_of_files(tmp_path: Path) -> None:
    a = write(tmp_path / "a.json", question_rows(30, "one"))
    b = write(tmp_path / "b.json", question_rows(20, "two"))
    _, held_back = split_corpus(load_corpus([a, b]), 0.2, seed=9)
    _, other_order = split_corpus(load_corpus([b, a]), 0.2, seed=9)
    assert {s.prompt for s in held_back} == {s.prompt for s in other_order}
    assert {s.module for s in held_back} == {"one", "two"}


def test_another_seed_holds_back_others(tmp_path: Path) -> None:
    corpus = load_corpus([write(tmp_path / "a.json", question_rows(40))])
    assert split_corpus(corpus, 0.25, seed=1)[1] == split_corpus(corpus, 0.25, seed=1)[1]
    assert split_corpus(corpus, 0.25, seed=1)[1] != split_corpus(corpus, 0.25, seed=2)[1]


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_split_that_leaves_one_side_empty_is_refused(share: float, tmp_path: Path) -> None:
    corpus = load_corpus([write(tmp_path / "a.json", question_rows(5))])
    with pytest.raises(DataError, match=f"validation_split={share}"):
        split_corpus(corpus, share, seed=1)
