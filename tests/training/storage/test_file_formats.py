"""Formats of files that users give by mistake: recognised by how they begin, and named in one line by each reader."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from training.engines.deepspeed.config import read_json
from training.errors import ConfigError
from training.settings.yaml_files import read_yaml
from training.storage.file_formats import HEAD, format_of, recognised

EXAMPLES: dict[str, bytes] = {
    "JSON": b'{\n "a": [1]}',
    "JSON Lines, one document a line": b'{"a": 1}\n{"a": 2}\n',
    "YAML": b"# mine\nbatch_size: 8\n",
    "CSV": b"input,output\n1 + 1,2\n",
    "a table with tabs (TSV)": b"input\toutput\n1 + 1\t2\n",
    "plain text": b"It is raining.\nIt is snowing.\n",
    "INI or TOML": b"[run]\nbatch_size = 8\n",
    "XML": b"<data/>",
    "Parquet": b"PAR1\x15\x04",
    "a pickle of Python, which no one should load from a stranger": pickle.dumps([1]),
    "safetensors, a model's weights": (2).to_bytes(8, "little") + b"{}",
    "a file of zero bytes, as a broken copy or a full disk leaves it": b"\0" * 100,
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
}


@pytest.mark.parametrize(("name", "content"), EXAMPLES.items(), ids=EXAMPLES)
def test_a_format_is_recognised_by_the_beginning(name: str, content: bytes) -> None:
    found = recognised(content)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("content", [b"", b" \n", b"\x07\0\x01", b"\xff\x00\xfa", b"{\xcf\xc2}"])
def test_what_cannot_be_told_is_not_guessed(content: bytes) -> None:
    assert recognised(content) is None


def test_a_character_cut_in_two_by_the_end_of_the_head_is_no_fault() -> None:
    assert str(recognised(b"a" + "雨".encode() * HEAD)) == "this is plain text"
    assert str(recognised((b"a" + "雨".encode() * HEAD)[:HEAD])) == "this is plain text"


def test_a_pipe_has_no_format_and_nothing_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert format_of(tmp_path / "pipe") is None
    assert format_of(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (EXAMPLES["CSV"], "this is CSV (convert it, or give the file that it was made from); a config file maps"),
        (EXAMPLES["plain text"], "this is plain text; a config file maps settings to values in YAML"),
        (EXAMPLES["JSON Lines, one document a line"], "this is JSON Lines"),
        (EXAMPLES["Parquet"] + b"\xff", "this is Parquet"),
        (b"[1]", "a config file maps settings to values, this one is a list"),
        (b"a: [1\nb: 2", "line 2"),
    ],
)
def test_a_config_of_another_format_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        read_yaml(path)
    assert message in str(refused.value)


def test_a_config_in_json_is_taken_for_the_yaml_that_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"batch_size": 8}\n', encoding="utf-8")
    assert read_yaml(tmp_path / "x.json") == {"batch_size": 8}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (EXAMPLES["YAML"], "--x: this is YAML (--config takes such a file); DeepSpeed's settings are a JSON object"),
        (EXAMPLES["INI or TOML"], "--x: this is INI or TOML"),
        (EXAMPLES["Parquet"] + b"\xff", "--x: this is Parquet"),
        (b'{"a": 1,\n}', "--x: not valid JSON at line 2, column 1"),
    ],
)
def test_a_deepspeed_file_of_another_format_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        read_json(tmp_path / "ds.json", "--x")
    assert message in str(refused.value)
