"""Rows of every kind of source, with real files, and one clear line for each kind of bad data."""

from __future__ import annotations

import csv
import gzip
import json
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from training.errors import UserError
from training.tasks.rows import data_file, json_rows, tables, text_rows
from training.tasks.rows.columns import find_text_column, require, text_of
from training.tasks.rows.find import find_source
from training.tasks.rows.source import Row
from training.tasks.rows.strict_json import StrictDecoder

Put = Callable[[str, str | bytes], Path]
"""`put("a.jsonl", content)`: write a file into the test's own folder, which is the working directory."""


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    monkeypatch.chdir(tmp_path)

    def write(name: str, content: str | bytes) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
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


def put_csv(path: Path, rows: list[dict[str, str]], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


# -- all files ---------------------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NAMES = st.sampled_from(["text", "content", "问题", "a b", "", "a,b", 'a"b', "messages"])


@given(data=st.data())
def test_rows_of_texts_are_the_same_from_every_file(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    columns = data.draw(st.lists(NAMES, min_size=1, max_size=3, unique=True).filter(lambda names: names != ["a,b"]))
    rows = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(columns, TEXTS)), min_size=1, max_size=5))
    folder = tmp_path_factory.mktemp("rows")
    files = [folder / f"a{ending}" for ending in (".jsonl", ".ndjson.gz", ".json", ".JSON.GZ", ".csv", ".tsv")]
    files[0].write_text(json_lines(rows), encoding="utf-8")
    files[1].write_bytes(gzip.compress(json_lines(rows, ensure_ascii=False).encode()))
    files[2].write_text(json.dumps(rows, indent=1), encoding="utf-8")
    files[3].write_bytes(gzip.compress(json.dumps({"version": 1, "data": rows, "tags": ["a"]}).encode()))
    put_csv(files[4], rows)
    put_csv(files[5], rows, "\t")
    parquet.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    for path in (*files, folder / "a.parquet"):
        read = list(find_source(path).rows())
        assert [row.values for row in read] == rows, path
        assert [row.number for row in read] == list(range(1, len(rows) + 1))
        assert not any(row.continues for row in read)


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


@given(
    text=st.lists(st.sampled_from(["\\", "u", "d83d", "de00", "\ud83d", "\ude00", "\U0001f600", "x"]), max_size=8).map(
        "".join
    )
)
def test_a_text_is_refused_exactly_when_it_holds_half_a_character(text: str) -> None:
    source = json.dumps({"a": text})
    expected = json.loads(source)
    if any("\ud800" <= c <= "\udfff" for c in expected["a"]):
        with pytest.raises(UserError, match="'a' holds half of a surrogate pair"):
            StrictDecoder().decode(source, lambda: "here")
    else:
        assert StrictDecoder().decode(source, lambda: "here") == expected


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


# -- JSON --------------------------------------------------------------------------------------------------------------


def test_a_row_of_a_document_has_its_number_in_the_list(put: Put) -> None:
    source = find_source(
        put("a.json", '\ufeff{"rows": {"n": [1]}, "none": [], "x": [1, {}], "data": [{"a": 1}, {"b": []}]}')
    )
    assert list(source.rows()) == [Row({"a": 1}, 1), Row({"b": []}, 2)]
    assert source.place(2) == "a.json, row 2"


@pytest.mark.parametrize(
    "case", [name for name in BAD_LINES if name not in ("cut", "two objects", "control character")]
)
@pytest.mark.parametrize("document", ['[{"a": 1}, {}, %s]', '{"of": 1, "data": [{"a": 1}, {}, %s], "tags": ["a"]}'])
def test_an_item_that_is_no_row_is_named(case: str, document: str, put: Put) -> None:
    content, wrong, remedy = BAD_LINES[case]
    line = refusal(put("a.json", document % content))
    assert line.startswith("a.json, row 3: ")
    assert wrong in line
    assert remedy in line.split(": ", 1)[1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            '[{"a": 1},\n {"a": "b',
            "a.json, line 2: not valid JSON at column 8 (Unterminated string starting at); the file",
        ),
        ('[{"a": 1}\n', "line 2: not valid JSON at column 1 (Expecting ',' delimiter); the file seems to be cut short"),
        ('[{"a": 1} {"a": 1}]', "line 1: not valid JSON at column 11 (Expecting ',' delimiter); repair it"),
        ('[{"a": "\t"}]', "line 1: not valid JSON at column 9 (Invalid control character at)"),
        ("a,b\n1,2\n", "a.json: its name says JSON, but it is CSV"),
        ("PK\x03\x04xx", "it is a ZIP archive"),
        ("3", "a.json: no list and no object"),
        ("[]", "a.json: the file holds no rows"),
        (" \n", "a.json: the file holds no rows"),
        ("[1]", 'a.json, row 1: a row is an object such as {"text": "…"}, this is a number; repair the row'),
        ('{"text": "a"}', "none of its keys ('text') holds a list of objects; give [{"),
        ('{"data": {"m": [{}]}}', "none of its keys ('data') holds a list of objects"),
        ("{}", "none of its keys (none) holds"),
        ('{"train": [{"a": 1}], "test": [{"a": 1}]}', "both 'train' and 'test' are lists of objects; keep the one"),
        ('{"a": 1, "a": [{}]}', "key 'a' is given twice"),
        ('{"a": 1}\n{"a": 2}', "more than one JSON document, as in JSON Lines; let the file's name end with .jsonl"),
        ('[{"a": 1}]\n[]', "more than one JSON document"),
        ('[{"a": "é"},\n{"a": "\udce9"}]', "a.json, line 2: not UTF-8 text (byte 21 is 0xe9); convert it: iconv"),
    ],
)
def test_a_document_without_one_list_of_rows_is_refused(content: str, words: str, put: Put) -> None:
    data = content.encode("utf-8", "surrogateescape")
    line = refusal(put("a.json", data))
    assert words in line
    if "its name says" not in words and "archive" not in words:
        packed = refusal(put("b.json.gz", data))
        assert packed.replace("b.json.gz", "a.json").replace(" of the unpacked text", "") == line


def test_a_row_of_a_document_that_never_ends_is_refused(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "LONGEST_LINE", 1 << 20)
    line = refusal(put("a.json", '[{"a": 1}, {"a": "' + "x" * (3 << 20) + '"}]'))
    assert line.startswith("a.json, row 2: more than 1 MiB in one row")


# -- tables ------------------------------------------------------------------------------------------------------------


def test_a_row_of_a_table_is_counted_from_the_header(put: Put) -> None:
    source = find_source(put("a.csv", b'\xef\xbb\xbfq,a\r\n\r\n1,"x\ny"\r\n2,\r\n'))
    assert list(source.rows()) == [Row({"q": "1", "a": "x\ny"}, 1), Row({"q": "2", "a": ""}, 2)]
    assert source.place(2) == "a.csv, row 2 below the header"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("q,a\n1,2\n1\n", "a.csv, row 2 below the header (line 3): 1 cell, and the header has 2 columns ('q', 'a')"),
        ('q,a\n"1\n1",2\n\n1,2,3\n', "a.csv, row 2 below the header (line 5): 3 cells, and the header has 2 columns"),
        ('q,a\n1,"2\n3,4\n', "a.csv, line 2: no row of a table (unexpected end of data); put cells"),
        ('q,a\n1,"2"3\n', "a.csv, line 2: no row of a table (',' expected after '\"')"),
        ("q,a\r1,2\r", "a.csv, line 1: no row of a table (new-line character"),
        ("q,a\n1,\0\n", "a.csv, line 2: not UTF-8 text (character 3 is a zero byte"),
        ("q,a,q\n1,2,3\n", "a.csv: two columns of the header are called 'q'"),
        ("q;a\n1;2\n", "a.csv: the header 'q;a' is one column, for commas separate"),
        ("q\ta\n1\t2\n", "and not '\\t'; save the table with commas"),
        ("q,a\n", "a.csv: the file holds no rows"),
        ("\n", "a.csv: the file holds no rows"),
        ("q,a\n1,\udce9\n", "a.csv, line 2: not UTF-8 text (byte 6 is 0xe9)"),
    ],
)
def test_a_table_with_a_fault_is_refused(content: str, words: str, put: Put) -> None:
    data = content.encode("utf-8", "surrogateescape")
    assert words in refusal(put("a.csv", data))
    assert words in refusal(put("a.csv.gz", data)).replace(".gz", "").replace(" of the unpacked text", "")


def test_a_table_with_tabs_has_its_own_remedies(put: Put) -> None:
    assert "put a cell with tabs into quotes" in refusal(put("a.tsv", "q\ta\n1\t2\t3\n"))
    assert "save the table with tabs" in refusal(put("a.tsv", "q,a\n1,2\n"))


def test_a_cell_is_as_long_as_a_row_may_be(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(values(put("a.csv", "a\n" + "x" * 200_000))[0]["a"]) == 200_000
    monkeypatch.setattr(data_file, "LONGEST_LINE", 100_000)
    assert "a.csv, line 2: more than 0 MiB without a line end" in refusal("a.csv")
    before = csv.field_size_limit(100_000)
    monkeypatch.setattr(tables, "LONGEST_LINE", 100_000)
    try:
        line = refusal(put("a.csv", 'a\n"' + "x\n" * 100_000))
    finally:
        csv.field_size_limit(before)
    assert "a.csv, line 2: no row of a table (field larger than field limit (100000))" in line


def test_a_parquet_file_keeps_its_types(put: Put) -> None:
    rows: list[dict[str, Any]] = [
        {"t": "雨", "n": 1, "f": 1.5, "m": [{"role": "user", "content": None}], "b": b"\xff", "d": Decimal("1.5")},
        {"t": None, "n": 2, "f": float("inf"), "m": [], "b": None, "d": None},
    ]
    parquet.write_table(pa.Table.from_pylist(rows), put("a.parquet", ""), row_group_size=1)
    assert values("a.parquet") == rows


def test_json_inside_a_parquet_file_is_what_it_says(put: Put) -> None:
    kind = pa.json_()
    texts = pa.array(['{"a": [1]}', None, "3"], pa.string()).cast(kind)
    lists = pa.ListArray.from_arrays([0, 2, 2, 3], pa.array(['{"a": 1}', '{"b": "c"}', "[]"]).cast(kind))
    inner = pa.StructArray.from_arrays([pa.array(["1", None, "{}"]).cast(kind), pa.array([1, 2, 3])], ["j", "n"])
    parquet.write_table(pa.table({"t": texts, "l": lists, "s": inner, "p": ["[]"] * 3}), put("a.parquet", ""))
    assert values("a.parquet") == [
        {"t": {"a": [1]}, "l": [{"a": 1}, {"b": "c"}], "s": {"j": 1, "n": 1}, "p": "[]"},
        {"t": None, "l": [], "s": {"j": None, "n": 2}, "p": "[]"},
        {"t": 3, "l": [[]], "s": {"j": {}, "n": 3}, "p": "[]"},
    ]


def test_a_value_that_is_no_text_in_parquet_is_named(put: Put) -> None:
    source = find_source(put("a.parquet", ""))
    table = pa.table({"text": pa.array([1.0, float("nan")]), "other": [None, "a"]})
    parquet.write_table(table, "a.parquet")
    last = list(source.rows())[-1]
    with pytest.raises(UserError, match=r"^a\.parquet, row 2: 'text' must be a text, not a number \(nan\)"):
        text_of(last, "text", source)


def test_bytes_that_are_no_text_in_parquet_are_named(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BATCH_ROWS", 3)
    wrong = pa.Array.from_buffers(
        pa.string(),
        5,
        [None, pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in range(6))), pa.py_buffer(b"abc\xe9d")],
    )
    parquet.write_table(pa.table({"text": wrong}), put("a.parquet", ""))
    line = refusal("a.parquet")
    assert line.startswith("a.parquet, row 4: 'text' holds what cannot be read ('utf-8' codec can't decode byte 0xe9")


@pytest.mark.parametrize("length", [0, 4, 40, -1, -30, "middle"])
def test_a_parquet_file_that_is_damaged_is_refused(length: int | str, put: Put) -> None:
    parquet.write_table(pa.table({"text": [f"row {n}" for n in range(5000)]}), put("a.parquet", ""))
    data = bytearray(Path("a.parquet").read_bytes())
    if length == "middle":
        data[100:20_000] = bytes(19_900)
    else:
        del data[int(length) :]
    line = refusal(put("a.parquet", bytes(data)))
    assert line.startswith(
        "a.parquet: the file holds no rows" if length == 0 else "a.parquet: it cannot be read as Parq"
    )


def test_another_format_under_the_name_of_parquet_is_named(put: Put) -> None:
    assert "its name says Parquet, but it is JSON" in refusal(put("a.parquet", '{"text": "a"}'))
    assert "unpack it first" in refusal(put("a.parquet.gz", "x"))
    parquet.write_table(pa.table({"a": [1]}), put("b.jsonl", ""))
    assert "its name says JSON Lines, but it is Parquet" in refusal("b.jsonl")
    parquet.write_table(pa.table([[1], [2]], ["a", "a"]), put("c.parquet", ""))
    assert "c.parquet: two columns are called 'a'" in refusal("c.parquet")
    parquet.write_table(pa.table({"a": []}), put("d.parquet", ""))
    assert "d.parquet: the file holds no rows" in refusal("d.parquet")


# -- directories of files ----------------------------------------------------------------------------------------------


def test_the_files_of_a_directory_are_read_by_name_and_a_row_is_named_in_its_file(put: Put) -> None:
    put("all/b.jsonl", '{"n": 3}\n\n{"n": 4}\n')
    put("all/a.jsonl", '{"n": 1}\n{"n": 2}\n\n')
    put("all/c.jsonl", '{"n": 5}\n{"n": ')
    for name in (".DS_Store", "_SUCCESS", "README.md"):
        put(f"all/{name}", "x")
    source = find_source("all")
    assert source.place(4) == "all, row 4 of its files together"
    rows = source.rows()
    read = [next(rows) for _ in range(5)]
    assert [(row.values["n"], source.place(row.number)) for row in read] == [
        (1, "all/a.jsonl, line 1"),
        (2, "all/a.jsonl, line 2"),
        (3, "all/b.jsonl, line 1"),
        (4, "all/b.jsonl, line 3"),
        (5, "all/c.jsonl, line 1"),
    ]
    with pytest.raises(UserError, match=r"^all/c\.jsonl, line 2: not valid JSON"):
        next(rows)
    assert source.place(8) == "all, row 8 of its files together"
    assert [path.name for path in source.files()] == ["a.jsonl", "b.jsonl", "c.jsonl"]
    assert source.size == sum(path.stat().st_size for path in source.files())
    before = source.fingerprint()
    put("all/b.jsonl", '{"n": 3}\n\n{"n": 5}\n')
    assert find_source("all").fingerprint() != before


def test_each_text_file_of_a_directory_is_a_document(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_rows, "PIECE", 4)
    put("all/1.txt", "abc\ndef\n")
    put("all/2.txt", "ghi\n")
    assert [(row.number, row.continues) for row in find_source("all").rows()] == [(1, False), (2, True), (3, False)]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.jsonl", "b.csv"], "all: files of several formats (.csv, .jsonl: a.jsonl, b.csv); put those of each"),
        (["a.jsonl", "b.jsonl.gz"], "files of several formats (.jsonl, .jsonl.gz: "),
        (["a.jsonl", "b.xlsx"], "all/b.xlsx: beside the data of all, but no data itself"),
        (["a.jsonl", "more/b.jsonl"], "all: holds directories (more); give one of them"),
        ([".hidden"], "all: no data files in this directory; put there files that end with .txt, .jsonl"),
        (["a.jsonl", *(f"{n}.csv" for n in range(20))], "17.csv and 11 more)"),
    ],
)
def test_a_directory_that_holds_more_than_one_kind_is_refused(names: list[str], words: str, put: Put) -> None:
    for name in names:
        put(f"all/{name}", "{}")
    assert words in refusal("all")


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
        (gzip.compress(b'{"a": 1}\n' * 9999, mtime=0)[:-20], "ended before the end-of-stream marker"),
        (gzip.compress(b'{"a": 1}\n', mtime=0)[:-8] + bytes(8), "CRC check failed"),
        (gzip.compress(b'{"a": 1}\n', mtime=0) + b"rest", "Not a gzipped file"),
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
    assert "it is a gzip archive" in refusal(put("a.jsonl", gzip.compress(b"{}", mtime=0)))


@pytest.mark.parametrize("ending", ["txt", "jsonl", "json", "csv", "tsv"])
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


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.txt", "a.csv"])
def test_a_file_is_never_in_memory_whole(name: str, put: Put) -> None:
    rows = [{"text": "x" * 10_000}] * 3000
    source = find_source(put(name, json.dumps(rows) if name == "a.json" else json_lines(rows)))
    tracemalloc.start()
    try:
        count = sum(1 for _ in source.rows())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == {"a.txt": 29, "a.csv": 2999}.get(name, 3000)
    assert peak < 6_000_000, "of 30 MB"
