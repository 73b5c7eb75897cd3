"""Rows of every kind of source, with real files, and one clear line for each kind of bad data."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import UserError
from training.tasks.rows import data_file, text_rows
from training.tasks.rows.columns import find_text_column, require, text_of
from training.tasks.rows.find import find_source
from training.tasks.rows.source import Row

Put = Callable[[str, str | bytes], Path]
"""`put("a.jsonl", content)`: write a file into the test's own folder, which is the working directory."""


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    monkeypatch.chdir(tmp_path)

    def write(name: str, content: str | bytes) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
        return path

    return write


def json_lines(rows: list[Any], **how: Any) -> str:
    return "".join(json.dumps(row, **how) + "\n" for row in rows)


def values(name: str | Path) -> list[dict[str, Any]]:
    return [dict(row.values) for row in find_source(name).rows()]


def refusal(name: str | Path) -> str:
    """Return the one line that a name is refused with, when it is looked for or when its rows are read."""
    with pytest.raises(UserError) as caught:
        list(find_source(name).rows())
    line = str(caught.value)
    assert "\n" not in line
    return line


# -- JSON Lines ----------------------------------------------------------------------------------------------------


def test_the_number_of_a_json_line_is_the_number_of_its_line(put: Put) -> None:
    source = find_source(put("a.jsonl", '\ufeff{"text": "雨"}\r\n\n  \n{"n": [1, {"b": null}]}'))
    assert list(source.rows()) == [Row({"text": "雨"}, 1), Row({"n": [1, {"b": None}]}, 4)]
    assert list(source.rows()) == list(source.rows()), "it can be read again"
    assert source.place(70_000) == "a.jsonl, line 70,000"


BAD_LINES = {
    "NaN": ('{"a": {"b": [0, NaN]}}', "'a.b[1]' is NaN", "null"),
    "Infinity": ('{"a": -Infinity}', "'a' is -Infinity", "null"),
    "no float": ('{"a": 1e999}', "'a' is 1e999", "write"),
    "long number": ('{"a": %s}' % ("9" * 5000), "too long", "text"),
    "repeated key": ('{"a": [{"b": 1, "b": 2}]}', "'a[0].b' is given twice", "take one out"),
    "deep": ('{"a": %s' % ("[" * 100_000), "nested too deeply", "take"),
    "half a character": ('{"a": "x\\uD83Dx"}', "'a' holds half of a surrogate pair", "repair"),
    "half a character in a key": ('{"\\ude00": 1}', "key '\\ude00' holds half", "repair"),
    "half a character that looks whole": ('{"a": "\\\\ud83d\\ude00"}', "'a' holds half", "repair"),
    "list": ("[1]", "this is a list", "object"),
    "text": ('"a"', "this is a text", "object"),
    "null": ("null", "this is null", "object"),
    "cut": ('{"a": "b', "not valid JSON at column 7", "cut short"),
    "two objects": ('{"a": 1} {"a": 2}', "column 10 (Extra data)", "repair"),
    "control character": ('{"a": "\t"}', "column 8 (Invalid control character", "repair"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_line_that_is_no_row_is_named(case: str, put: Put) -> None:
    content, wrong, remedy = BAD_LINES[case]
    line = refusal(put("a.jsonl", '{"a": 1}\n\n' + content))
    assert line.startswith("a.jsonl, line 3: ")
    assert wrong in line
    assert remedy in line.split(": ", 1)[1]


def test_whole_surrogate_pairs_are_characters(put: Put) -> None:
    rows = [{"😀": "\\ud83d😀", "b": ["🌧️"]}]
    assert values(put("a.jsonl", json_lines(rows, ensure_ascii=True))) == rows


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[\n{"a": 1}\n]', "goes on after its line"),
        ('{\n"a": 1}\n', "goes on after its line"),
        ('[{"a": 1}]', "let its name end with .json"),
        ("a,b\n1,2\n", "it is CSV"),
        ("<!doctype html>\n<p>", "it is an HTML page"),
    ],
)
def test_another_format_under_the_name_of_json_lines_is_named(content: str, words: str, put: Put) -> None:
    line = refusal(put("a.jsonl", content))
    assert line.startswith("a.jsonl")
    assert words in line


# -- plain text ----------------------------------------------------------------------------------------------------


@given(text=st.text(st.sampled_from("aä雨🌧 \n\r"), min_size=1), piece=st.integers(1, 9))
def test_the_pieces_of_a_text_are_the_text(text: str, piece: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(("\ufeff" + text).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_rows, "PIECE", piece)
        if not text.strip():
            assert "holds no text" in refusal(path)
            return
        rows = list(find_source(path).rows())
    assert "".join(row.values["text"] for row in rows) == text
    assert all(row.values["text"].endswith("\n") for row in rows[:-1])
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    assert [row.continues for row in rows] == [number > 0 for number in range(len(rows))]


def test_a_text_of_some_size_is_cut_into_pieces_of_a_mebibyte(put: Put) -> None:
    rows = list(find_source(put("a.txt", ("x" * 99 + "\n") * 30_000)).rows())
    assert [len(row.values["text"]) for row in rows] == [1_048_600, 1_048_600, 902_800]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz", "a.jsonl.gz"])
def test_a_line_without_end_is_refused(name: str, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (data_file, text_rows):
        monkeypatch.setattr(module, "LONGEST_LINE", 1 << 20)
    line = refusal(put(name, b'{"a": 1}\n' + b"x" * (3 << 20)))
    assert line.startswith(f"{name}, line 2: more than 1 MiB without a line end;")


# -- encodings and packing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_another_encoding_is_named_with_line_and_byte(name: str, packed: str, put: Put) -> None:
    content = '{"a": 1}\n{"a": "é"}\n'.encode("latin1")
    line = refusal(put(name + packed, content))
    assert line.startswith(f"{name}{packed}, line 2: not UTF-8 text (byte 16 is 0xe9")
    assert "iconv -f ENCODING -t UTF-8" in line
    assert ("of the unpacked text" in line) is bool(packed)


def test_utf16_is_recognised(put: Put) -> None:
    assert "iconv -f UTF-16 -t UTF-8 a.txt" in refusal(put("a.txt", "hallo".encode("utf-16")))
    assert "byte 1 is 0x00" in refusal(put("b.txt", "hallo".encode("utf-16-le")))
    assert "not valid JSON at column 2" in refusal(put("c.jsonl", '{"a": 1}'.encode("utf-16-le")))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello", "Not a gzipped file"),
        (gzip.compress(b'{"a": 1}\n' * 9999)[:-20], "ended before the end-of-stream marker"),
        (gzip.compress(b'{"a": 1}\n')[:-8] + bytes(8), "CRC check failed"),
        (gzip.compress(b'{"a": 1}\n') + b"rest", "Not a gzipped file"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.txt.gz"])
def test_a_packed_file_that_is_damaged_is_refused(name: str, content: bytes, words: str, put: Put) -> None:
    put(name, b"").write_bytes(content)
    line = refusal(name)
    assert line.startswith(f"{name}: it cannot be unpacked (")
    assert words in line
    assert "fetch it again" in line


def test_a_packed_file_without_that_ending_is_recognised(put: Put) -> None:
    assert "it is a gzip archive" in refusal(put("a.jsonl", gzip.compress(b"{}")))


@pytest.mark.parametrize("ending", ["txt", "jsonl"])
@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_an_empty_file_is_refused(ending: str, content: bytes, packed: str, put: Put) -> None:
    line = refusal(put(f"a.{ending}{packed}", content))
    assert line.startswith(f"a.{ending}{packed}: the file holds no ")


def test_a_pointer_of_git_lfs_is_no_text(put: Put) -> None:
    line = refusal(put("a.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"))
    assert line == "a.txt: a pointer of Git LFS, not the data; run `git lfs pull` for the file"


# -- names ---------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_named_with_the_nearest_there_is(put: Put) -> None:
    put("sub/chats.jsonl", "{}")
    for name, hint in [("sub/chat.jsonl", "'sub/chats.jsonl'"), ("sub/xyz.txt", "check the path")]:
        line = refusal(name)
        assert line.startswith(f"--datasets {name}: no such file;")
        assert hint in line
    assert "no directory nowhere" in refusal("nowhere/a.jsonl")
    with pytest.raises(UserError, match=r"^--eval-datasets a\.txt: no such file"):
        find_source("a.txt", "--eval-datasets")


@pytest.mark.parametrize("name", ["a\0b.txt", "", "~nobody-of-this-name/a.txt", "x" * 5000 + ".txt", "/dev/null"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    assert refusal(name).startswith("--datasets ")


@pytest.mark.parametrize("name", ["a", "a.xlsx", "a.zip", "a.gz", "a.txt.zst"])
def test_a_name_that_tells_no_format_is_refused(name: str, put: Put) -> None:
    line = refusal(put(name, "x"))
    assert line.startswith(f"{name}: ")
    assert ".jsonl" in line


def test_a_fingerprint_changes_with_the_content_and_the_format_alone(put: Put) -> None:
    first = find_source(put("a.jsonl", "{}\n"))
    assert first.fingerprint() == find_source(put("other.ndjson", "{}\n")).fingerprint()
    others = [put("a.txt", "{}\n"), put("b.jsonl", "{}\n\n"), put("a.jsonl.gz", "{}\n")]
    assert len({first.fingerprint(), *(find_source(path).fingerprint() for path in others)}) == 4
    assert [path.name for path in first.files()] == ["a.jsonl"]
    assert first.size == 3


# -- columns -------------------------------------------------------------------------------------------------------


def test_a_column_missing_in_a_late_row_is_named(put: Put) -> None:
    lines = ['{"text": "a", "id": 1}\n'] * 70_000
    lines[69_999] = '{"texts": "a", "id": 1}\n'
    source = find_source(put("chats.jsonl", "".join(lines)))
    with pytest.raises(UserError) as caught:
        _ = [text_of(row, "text", source) for row in source.rows()]
    assert str(caught.value) == "chats.jsonl, line 70,000: no 'text'; its keys are 'texts', 'id'; did you mean 'texts'?"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "a number (3)"),
        (None, "null"),
        (float("nan"), "a number (nan)"),
        (True, "a truth value (True)"),
        (["x" * 500], "a list (['xxx"),
        ({}, "an object ({})"),
        (b"\x00", "a bytes (b'\\x00')"),
    ],
)
def test_a_value_that_is_no_text_is_named(value: Any, words: str, put: Put) -> None:
    source = find_source(put("a.jsonl", "{}"))
    row = Row({"text": value}, 7)
    with pytest.raises(UserError) as caught:
        text_of(row, "text", source)
    assert str(caught.value).startswith(f"a.jsonl, line 7: 'text' must be a text, not {words}")
    assert len(str(caught.value)) < 200
    assert require(row, "text", source) is value


def test_the_text_column_is_found_or_asked_about_but_never_guessed(put: Put) -> None:
    source = find_source(put("a.jsonl", "{}"))
    assert find_text_column(Row({"id": 1, "content": ""}, 1), None, source) == "content"
    assert find_text_column(Row({"text": "", "body": ""}, 1), "body", source) == "body"
    for keys, asked, words in [
        (("text", "content"), None, "a.jsonl, line 1: has 'text' and 'content'; say which is the text: --text-column"),
        (("body",), None, "none of its keys is 'text' or 'content'; they are 'body'; say which"),
        ((), None, "they are none; say which"),
        (("body", "id"), "bdy", "--text-column bdy: a.jsonl, line 1 has no such key; its keys are 'body', 'id'; did"),
        (("body",), "x", "--text-column x: a.jsonl, line 1 has no such key; its keys are 'body'; give one of them"),
    ]:
        with pytest.raises(UserError) as caught:
            find_text_column(Row(dict.fromkeys(keys, ""), 1), asked, source)
        assert words in str(caught.value)


# -- memory --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.txt"])
def test_a_file_is_never_in_memory_whole(name: str, put: Put) -> None:
    source = find_source(put(name, json_lines([{"text": "x" * 1000}] * 30_000)))
    tracemalloc.start()
    try:
        count = sum(1 for _ in source.rows())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == (29 if name == "a.txt" else 30_000)
    assert peak < 6_000_000, "of 30 MB"
