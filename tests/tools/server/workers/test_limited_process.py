"""Work in a process within bounds of time and memory, which leaves nothing behind."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tools.server.gate.problems import Problem
from tools.server.workers import limited_process
from tools.server.workers.limited_process import MOST_ASKED, run_limited

pytestmark = pytest.mark.slow  # starts processes


def run(kind: str, seconds: float = 60.0, stopping: threading.Event | None = None, **further: Any) -> Any:
    """Let the program do one kind of work."""
    request = {"kind": kind, **further}
    return run_limited("tests.support.programs.limited_program", request, seconds, stopping or threading.Event())


def is_running(pid: int) -> bool:
    """Say whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_its_files_go_with_it() -> None:
    found = run("place")
    assert found["cache"].startswith(found["place"])
    assert not Path(found["place"]).exists()


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("refuse", 422, "the file cannot be read; give another one"),
        ("memory", 500, "the process that did the work failed (exit code 1)"),
        ("fault", 500, "the process that did the work failed (exit code 1)"),
        ("signal", 500, "the process that did the work failed (exit code -6)"),
    ],
)
def test_what_goes_wrong_in_it_is_a_problem(kind: str, status: int, expected: str) -> None:
    with pytest.raises(Problem) as caught:
        run(kind)
    assert caught.value.status == status
    assert caught.value.detail.startswith(expected)


@pytest.mark.parametrize("by", ["time", "the end of the server"])
def test_it_ends_with_all_that_it_has_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    mark, stopping, statuses = tmp_path / "pids", threading.Event(), []
    now = 0.0
    monkeypatch.setattr(limited_process, "_now", lambda: now)

    def ask() -> None:
        try:
            run("wait", 600.0, stopping, mark=str(mark))
        except Problem as problem:
            statuses.append(problem.status)

    thread = threading.Thread(target=ask)
    thread.start()
    while not (mark.exists() and mark.read_text().count(" ") == 1):
        assert thread.is_alive()
        time.sleep(0.02)
    pids = [int(word) for word in mark.read_text().split()]
    if by == "time":
        now = 601.0
    else:
        stopping.set()
    thread.join(60)
    assert statuses == [504 if by == "time" else 503]
    while any(map(is_running, pids)):
        time.sleep(0.02)


def test_more_requests_than_the_server_has_threads_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_ASKED):
            stack.enter_context(limited_process._requests)
        with pytest.raises(Problem) as caught:
            run("place")
    assert (caught.value.status, caught.value.headers["retry-after"]) == (503, "5")
    assert run("place")
