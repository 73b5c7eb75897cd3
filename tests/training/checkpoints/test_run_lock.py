"""The lock of a run directory: one process holds it, anybody can read who, and no order of events lets two in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

import pytest

from tests.conftest import ROOT
from training.checkpoints import run_lock
from training.checkpoints.run_directory import RunDirectory
from training.checkpoints.run_lock import LOCK_NAME, Owner, RunLock, is_locked, owner_of
from training.errors import UserError
from training.machine.processes import ProcessIdentity
from training.storage.file_locks import try_lock

posix = pytest.mark.skipif(os.name == "nt", reason="links, signals and /proc are POSIX's")

HOLD = """
import sys
from pathlib import Path
from training.checkpoints.run_directory import RunDirectory

directory = RunDirectory(Path(sys.argv[1]), resume=True)
print("held", flush=True)
sys.stdin.readline()
directory.release()
print("released", flush=True)
sys.stdin.readline()
"""

COUNT = """
import sys, time
from pathlib import Path
from training.checkpoints.run_lock import RunLock

run_dir, inside, until = Path(sys.argv[1]), Path(sys.argv[2]), time.monotonic() + float(sys.argv[3])
held = 0
while time.monotonic() < until:
    lock = RunLock.take(run_dir)
    if lock is None:
        continue
    inside.touch(exist_ok=False)  # raises where another process is inside too
    held += 1
    inside.unlink()
    lock.release()
print(held)
"""


def started(program: str, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def stream(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@contextmanager
def holder(run_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has claimed a run directory; a line to its stdin makes it release it, another ends it."""
    with started(HOLD, run_dir) as process:
        assert stream(process.stdout).readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def say(process: subprocess.Popen[str]) -> None:
    stream(process.stdin).write("\n")
    stream(process.stdin).flush()


# -- who holds it -----------------------------------------------------------------------------------------------------


def test_the_refusal_names_the_process_that_trains_there_and_its_end_lets_others_in(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with holder(run_dir) as process:
        owner = owner_of(run_dir)
        assert owner is not None
        assert owner.pid == process.pid
        assert owner.alive in ((True,) if sys.platform == "linux" else (True, None))
        assert abs(owner.started_at - time.time()) < 60
        assert is_locked(run_dir)
        with pytest.raises(UserError) as refused:
            RunDirectory(run_dir, resume=True)
        assert f"another process (pid {process.pid}, since {owner.since()}) is training in it" in str(refused.value)
        say(process)
        assert stream(process.stdout).readline() == "released\n"
        assert owner_of(run_dir) is None
        assert not is_locked(run_dir)
        RunDirectory(run_dir, resume=True).release()


@posix
def test_a_killed_owner_is_not_alive_and_its_lock_is_taken_over(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with holder(run_dir) as process:
        process.kill()
        process.wait()
        owner = owner_of(run_dir)
        assert owner is not None
        assert owner.pid == process.pid
        assert owner.alive is (False if sys.platform == "linux" else None)
        assert not is_locked(run_dir)
        lock = RunLock.take(run_dir)
        assert lock is not None
        mine = owner_of(run_dir)
        assert mine is not None
        assert mine.pid == os.getpid()
        lock.release()


@pytest.mark.skipif(sys.platform != "linux", reason="the start of a process is read from /proc")
def test_a_pid_that_belongs_to_another_process_by_now_is_not_the_owner(tmp_path: Path) -> None:
    lock = RunLock.take(tmp_path)
    assert lock is not None
    path = tmp_path / LOCK_NAME
    document = json.loads(path.read_text())
    boot, pid, ticks = document["process"].split("/")
    assert int(pid) == document["pid"] == os.getpid()
    for before in (f"{boot}/{pid}/{int(ticks) - 1}", f"{'0' * len(boot)}/{pid}/{ticks}"):
        path.write_text(json.dumps(document | {"process": before}))
        found = owner_of(tmp_path)
        assert found is not None
        assert found.alive is False
    path.write_text(json.dumps(document | {"host": "another-computer"}))
    elsewhere = owner_of(tmp_path)
    assert elsewhere is not None
    assert elsewhere.alive is None, "its processes are not this computer's"
    lock.release()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"pid": "1", "started_at": 0}', b'{"pid": -1, "started_at": 0}', b"\xff" * 9000]
)
def test_a_lock_file_that_does_not_say_who_has_no_owner(content: bytes, tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_bytes(content)
    assert owner_of(tmp_path) is None
    lock = RunLock.take(tmp_path)
    assert lock is not None, "it is nobody's"
    lock.release()


def test_the_start_is_shown_with_its_date_unless_it_was_today() -> None:
    now = datetime.now()
    before = now - timedelta(days=3)
    assert Owner(ProcessIdentity(1, "here", now.timestamp(), None), True).since() == f"{now:%H:%M}"
    assert Owner(ProcessIdentity(1, "here", before.timestamp(), None), True).since() == f"{before:%Y-%m-%d %H:%M}"


# -- never two --------------------------------------------------------------------------------------------------------


@posix
def test_a_lock_file_that_was_deleted_between_opening_and_locking_keeps_nobody_out_and_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = RunLock.take(tmp_path)
    assert first is not None
    real, opened = try_lock, []

    def meanwhile(descriptor: int, *, shared: bool = False) -> bool:
        opened.append(os.fstat(descriptor).st_ino)
        if len(opened) == 1:
            first.release()  # just before the lock on the file that was opened a moment ago
        return real(descriptor, shared=shared)

    monkeypatch.setattr(run_lock, "try_lock", meanwhile)
    second = RunLock.take(tmp_path)
    monkeypatch.undo()
    assert second is not None
    assert len(opened) == 2, "the deleted file was given up"
    assert RunLock.take(tmp_path) is None, "the second holds the file that everybody sees"
    second.release()
    assert not (tmp_path / LOCK_NAME).exists()


@posix
def test_processes_that_take_and_release_it_all_the_time_are_never_inside_together(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    processes = [started(COUNT, tmp_path / "run", tmp_path / "inside", 2.0) for _ in range(3)]
    counts = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum(map(int, counts)) > 100, counts


def test_somebody_who_asks_at_the_wrong_moment_does_not_keep_a_run_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, answers = try_lock, [False, False]
    monkeypatch.setattr(
        run_lock, "try_lock", lambda descriptor, **more: answers.pop() if answers else real(descriptor, **more)
    )
    lock = RunLock.take(tmp_path)
    assert lock is not None
    lock.release()


# -- nothing else is written to ---------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("kind", ["symbolic link", "dangling link", "hard link", "directory", "pipe"])
def test_what_only_bears_the_name_of_a_lock_is_refused_and_left_alone(kind: str, tmp_path: Path) -> None:
    run_dir, thesis = tmp_path / "run", tmp_path / "thesis.tex"
    run_dir.mkdir()
    thesis.write_text("years of work")
    lock = run_dir / LOCK_NAME
    match kind:
        case "symbolic link":
            lock.symlink_to(thesis)
        case "dangling link":
            lock.symlink_to(tmp_path / "nothing")
        case "hard link":
            lock.hardlink_to(thesis)
        case "directory":
            lock.mkdir()
        case _:
            os.mkfifo(lock)
    with pytest.raises(UserError) as refused:
        RunDirectory(run_dir, resume=True)
    told = str(refused.value)
    assert f"{lock} is not a run's lock file" in told
    assert "\n" not in told
    assert owner_of(run_dir) is None
    assert thesis.read_text() == "years of work"
    assert os.path.lexists(lock)
    assert not (tmp_path / "nothing").exists()


@posix
def test_a_file_system_without_locks_is_not_called_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import fcntl

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match=r"its disk has no file locks \(No locks available\)") as refused:
        RunDirectory(tmp_path / "run")
    assert "another process" not in str(refused.value)
