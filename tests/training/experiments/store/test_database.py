"""The index's file: older ones are made again, newer and foreign ones refused, several writers wait for one another."""

from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.training.experiments.store.conftest import Record
from tests.training.experiments.store.test_reindex import rows_of
from training.errors import UserError
from training.experiments.store.database import APPLICATION_ID, DATABASE_NAME, VERSION, Database
from training.experiments.store.identity import SERVER_DIRECTORY
from training.experiments.store.index import ExperimentStore
from training.experiments.store.query import Query

VERSION_1 = """
CREATE TABLE runs (id TEXT PRIMARY KEY, path BLOB NOT NULL UNIQUE, signature TEXT, name TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE settings (run TEXT NOT NULL REFERENCES runs(id), key TEXT NOT NULL, value, PRIMARY KEY (run, key));
CREATE TABLE artefacts (run TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, PRIMARY KEY (run, name));
INSERT INTO runs VALUES ('0123456789ab', x'61', NULL, 'a'), ('ba9876543210', x'676f6e65', NULL, 'gone');
INSERT INTO settings VALUES ('0123456789ab', 'run.seed', 1);
"""


def file_of(root: Path) -> Path:
    return root / SERVER_DIRECTORY / DATABASE_NAME


def make_file(root: Path, script: str, version: int, application: int = APPLICATION_ID) -> Path:
    """Make a file with these tables."""
    path = file_of(root)
    path.parent.mkdir(exist_ok=True)
    connection = sqlite3.connect(path)
    connection.executescript(f"{script}; PRAGMA application_id = {application}; PRAGMA user_version = {version}")
    connection.close()
    return path


def test_an_index_of_the_version_before_is_made_again_with_the_same_rows(root: Path, record: Record) -> None:
    record("a").train().finish()
    make_file(root, VERSION_1, VERSION - 1)
    with ExperimentStore(root) as store:
        assert [row.name for row in store.runs()] == ["a"]
    found = rows_of(root)
    file_of(root).unlink()
    with ExperimentStore(root) as store:
        store.refresh()
    assert rows_of(root) == found
    assert sqlite3.connect(file_of(root)).execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_a_newer_index_is_refused_and_stays_as_it_is(root: Path) -> None:
    before = make_file(root, VERSION_1, VERSION + 1).read_bytes()
    with pytest.raises(UserError) as caught:
        ExperimentStore(root)
    assert str(caught.value) == (
        f"{file_of(root)}: a newer version of this program made it (version {VERSION + 1}, this program reads "
        f"{VERSION}); update this program, or delete the file: it is made again from the run directories"
    )
    assert file_of(root).read_bytes() == before


def test_a_database_of_another_program_is_refused(root: Path) -> None:
    make_file(root, "CREATE TABLE mine (x)", 1, application=7)
    with pytest.raises(UserError, match=r"experiments.sqlite: it is a database of another program; move it away$"):
        ExperimentStore(root)


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_an_empty_file_is_used_and_a_damaged_one_is_set_aside(
    content: bytes, root: Path, record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    record("a").flush()
    file_of(root).parent.mkdir()
    file_of(root).write_bytes(content)
    with ExperimentStore(root) as store:
        assert len(store.runs()) == 1
    assert ("is damaged" in capsys.readouterr().err) == bool(content)
    assert file_of(root).with_name("experiments.sqlite.damaged").exists() == bool(content)


def test_damage_in_the_middle_of_the_file_is_noticed_when_it_is_met(
    root: Path, record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abcdefgh":
        record(name, total_steps=10).train().finish()
    with ExperimentStore(root) as store:
        before = store.runs()
    with file_of(root).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (file_of(root).stat().st_size - 4096))
    with ExperimentStore(root) as store:
        assert store.runs() == before
    assert "and the index of the runs is made again" in capsys.readouterr().err


def test_only_the_owner_sees_the_index(root: Path) -> None:
    Database(root).close()
    assert stat.S_IMODE(file_of(root).parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(file_of(root).stat().st_mode) == 0o600


def test_a_link_in_the_place_of_the_index_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    file_of(root).parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"\.server: it is a link, and the index of the runs is kept in no other place"):
        ExperimentStore(root)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_journal_is_no_shared_memory_and_the_file_is_not_mapped(root: Path) -> None:
    make_file(root, VERSION_1, VERSION - 1)
    connection = sqlite3.connect(file_of(root))
    assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    connection.close()
    database = Database(root)
    with database.reading() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("PRAGMA mmap_size").fetchone() == (0,)
    database.close()


def test_many_writers_lose_nothing(root: Path, record: Record) -> None:
    record("a").train().finish()
    stores = [ExperimentStore(root) for _ in range(3)]
    (row,) = stores[0].runs()

    def add(number: int) -> None:
        store = stores[number % 3]
        store.tag(row.id, add=[f"tag {number}"])
        store.refresh()

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(add, range(18)))
    for store in stores:
        assert len(store.run(row.id).tags) == 18
        store.close()


def test_a_query_while_the_index_is_made_again_sees_all_runs_or_waits(root: Path, record: Record) -> None:
    for name in "abc":
        record(name, total_steps=5).train().finish()
    writer, reader = ExperimentStore(root), ExperimentStore(root)
    writer.refresh()
    with ThreadPoolExecutor(2) as threads:
        made = [threads.submit(writer.reindex) for _ in range(5)]
        counts = {reader.count() for _ in range(50)}
        for one in made:
            one.result()
    assert counts == {3}
    writer.close()
    reader.close()


@pytest.mark.slow
def test_a_process_killed_in_the_middle_of_writing_changes_nothing(root: Path, record: Record) -> None:
    record("a").train().finish()
    with ExperimentStore(root) as store:
        before = store.runs()
    program = f"""
import os, signal
from pathlib import Path
from training.experiments.store.database import Database
with Database(Path({str(root)!r})).writing() as connection:
    connection.execute("PRAGMA cache_size = 1")  # so that changed pages reach the file before the end
    connection.execute("UPDATE runs SET name = 'torn', details = ?", ("x" * 3_000_000,))
    connection.execute("DELETE FROM settings")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    with ExperimentStore(root) as store:
        assert store.runs() == before
        assert store.count(Query(where="seed = 42")) == 1
