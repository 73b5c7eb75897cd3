"""The files that the generators write: whatever is in their place, it is one line, and nothing is lost."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import generate_hlbd_full, generate_hlbd_hardcore
from tools.datasets.outputs import BEGINNING
from training.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
GENERATORS = pytest.mark.parametrize(
    "generate", [generate_hlbd_full.run, generate_hlbd_hardcore.run], ids=["full", "hardcore"]
)
Run = Callable[[list[str]], int]


@GENERATORS
@pytest.mark.parametrize("flag", ["--output", "--held-out-output"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".", "this is a directory; name a file in it"),
        ("..", "this is a directory; name a file in it"),
        ("/", "this is a directory; name a file in it"),
        ("folder", "this is a directory; name a file in it"),
        ("pipe", "this is no regular file (a pipe or a device); choose another name"),
        ("/dev/null", "this is no regular file (a pipe or a device); choose another name"),
        ("novel.txt", "this file is not an earlier output and would be lost; choose another name"),
        ("own.json", "this file is not an earlier output and would be lost; choose another name"),
        ("gone/a.json", "there is no folder gone; create it first"),
        ("novel.txt/a.json", "Not a directory; choose another name"),
        ("circle", "Too many levels of symbolic links; choose another name"),
        ("~nobody-here/a.json", "there is no user 'nobody-here' on this machine"),
        ("nul\0byte", "no file can have this path (it has a null byte)"),
        ("n" * 300, "File name too long; choose another name"),
        ("", "is empty; give a path"),
    ],
)
def test_an_output_that_cannot_be_is_refused_and_harms_nothing(
    generate: Run, flag: str, name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    os.mkfifo("pipe")
    Path("circle").symlink_to("circle")
    Path("novel.txt").write_text("Call me Ishmael.", encoding="utf-8")
    Path("own.json").write_text('{"data": {}}', encoding="utf-8")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(UserError) as refused:
        generate(["--size", "600", f"{flag}={name}", *(["--output=new.json"] if flag != "--output" else [])])
    expected = "there is no folder novel.txt; create it first" if name.startswith("novel.txt/") else message
    assert str(refused.value).removesuffix(" (see --help)").endswith(expected)
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert Path("novel.txt").read_text(encoding="utf-8") == "Call me Ishmael."
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_tilde_is_the_home_directory_and_an_earlier_output_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for size in (5, 7):
        assert generate_hlbd_hardcore.run(["--size", str(size), "--output", "~/a.json"]) == 0
    assert (tmp_path / "a.json").read_text(encoding="utf-8").count('"input"') == 7


def test_the_committed_files_begin_as_the_generators_write_them() -> None:
    names = sorted((ROOT / "data").glob("*.json"))
    assert len(names) == 6
    assert all(path.read_bytes().startswith(BEGINNING) for path in names)
