"""Output files: refused before any work, and whole or not there at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.figures.output_file import check_writable, write_atomically
from training.errors import UserError


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.pdf", "--figure a.pdf: give a name that ends in .png or .gif"),
        ("folder.png", "--figure folder.png: this is a directory; name a file in it"),
        ("gone/a.png", "--figure gone/a.png: there is no folder gone; create it first"),
        ("file/a.png", "--figure file/a.png: there is no folder file; create it first"),
        ("novel.png", "--figure novel.png: this file is not an earlier output and would be lost; choose another name"),
        ("pipe.png", "--figure pipe.png: this is no regular file (a pipe or a device); choose another name"),
        ("n" * 300 + ".png", f"--figure {'n' * 300}.png: File name too long; choose another name"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_in_one_line(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.png").mkdir()
    Path("file").touch()
    Path("novel.png").write_text("Call me Ishmael.", encoding="utf-8")
    os.mkfifo("pipe.png")
    with pytest.raises(UserError) as caught:
        check_writable("--figure", Path(name), (".png", ".gif"))
    assert str(caught.value) == message


def test_what_was_not_asked_for_and_what_can_be_written_pass(tmp_path: Path) -> None:
    check_writable("--figure", None, (".png",))
    check_writable("--figure", tmp_path / "A.PNG", (".png",))
    check_writable("--json", tmp_path / "any.thing")


def test_pieces_become_one_file_with_its_reader_in_mind(tmp_path: Path) -> None:
    path = tmp_path / f"{'n' * 245}.json"  # the temporary name must not be too long where this one is not
    write_atomically(path, (piece for piece in ("一\n", "two")))
    assert path.read_bytes() == "一\ntwo".encode()
    assert path.stat().st_mode & 0o777 == 0o644
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_fault_in_the_midst_of_the_pieces_leaves_the_old_file(tmp_path: Path) -> None:
    def pieces() -> Iterator[str]:
        yield "half"
        raise ValueError("no more")

    path = tmp_path / "a.json"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(ValueError, match="no more"):
        write_atomically(path, pieces())
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_refuses_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^/proc/a.json: the file could not be written \(.*\); choose another place$"):
        write_atomically(Path("/proc/a.json"), b"")
