"""The id of a run: the same by whatever way its directory is named, before and after it is there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from training.errors import UserError
from training.experiments.store.identity import directory_of, is_run_id, name_of, relative_path, run_id_of


def test_an_id_is_the_beginning_of_the_hash_of_the_path_below_the_root(tmp_path: Path) -> None:
    found = run_id_of(tmp_path, tmp_path / "sweep" / "a")
    assert found == hashlib.sha256(b"sweep/a").hexdigest()[:12]
    assert is_run_id(found)


def test_an_id_is_known_before_the_run_and_stays(tmp_path: Path) -> None:
    before = run_id_of(tmp_path, tmp_path / "a")
    (tmp_path / "a").mkdir()
    assert run_id_of(tmp_path, tmp_path / "a") == before


def test_all_ways_to_name_a_directory_give_one_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "runs"
    (root / "a").mkdir(parents=True)
    (tmp_path / "link").symlink_to(root)
    (root / "shortcut").symlink_to(root / "a")
    monkeypatch.chdir(tmp_path)
    ways = [
        run_id_of(root, root / "a"),
        run_id_of(Path("runs"), Path("runs/a")),
        run_id_of(Path("runs"), Path("runs/b/../a")),
        run_id_of(tmp_path / "link", root / "a"),
        run_id_of(root, tmp_path / "link" / "a"),
        run_id_of(root, root / "shortcut"),
    ]
    assert len(set(ways)) == 1


def test_a_run_that_was_moved_to_another_disk_has_the_id_of_its_link(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "runs", tmp_path / "big_disk" / "a"
    elsewhere.mkdir(parents=True)
    root.mkdir()
    (root / "a").symlink_to(elsewhere)
    assert run_id_of(root, root / "a") == hashlib.sha256(b"a").hexdigest()[:12]


def test_a_path_that_is_no_text_has_an_id_and_a_name(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"a\xff\x1b[31m")
    assert is_run_id(run_id_of(tmp_path, path))
    assert name_of(tmp_path, relative_path(tmp_path, path)) == r"a\udcff\x1b[31m"
    assert directory_of(tmp_path, relative_path(tmp_path, path)) == path


def test_the_root_itself_may_be_a_run(tmp_path: Path) -> None:
    relative = relative_path(tmp_path, tmp_path)
    assert relative == "."
    assert name_of(tmp_path, relative) == tmp_path.name
    assert directory_of(tmp_path, relative) == tmp_path


def test_a_directory_elsewhere_has_no_id(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"/elsewhere: it does not lie below .*; give --root a directory above it$"):
        run_id_of(tmp_path / "runs", tmp_path / "elsewhere")


@pytest.mark.parametrize("text", ["", "0123456789a", "0123456789abc", "0123456789aB", "../../etc/pw", "0123456789ab\n"])
def test_what_is_no_id(text: str) -> None:
    assert not is_run_id(text)
