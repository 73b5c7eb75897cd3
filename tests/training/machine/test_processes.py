"""Processes by pid and time of start: a signal reaches the one that is meant, and never the pid's next owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from training.machine.processes import ProcessIdentity, kill_all_with, pids_with, start_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say when processes started")
SLEEP = "import sys, time; print('ready', flush=True); time.sleep(60)"
WITH_CHILDREN = """
import subprocess, sys, time
child = [sys.executable, "-c", "import time; time.sleep(60)"]
subprocess.Popen(child, start_new_session=True)
subprocess.Popen(child)
print("ready", flush=True)
time.sleep(60)
"""


@contextmanager
def running(program: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], ProcessIdentity]]:
    """A process, and its identity as it would have written it down itself."""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}) as process:
        assert process.stdout is not None
        process.stdout.readline()
        start = start_of(process.pid)
        assert start is not None
        try:
            yield process, replace(ProcessIdentity.of_self(), pid=process.pid, started_at=start[0], process=start[1])
        finally:
            process.kill()


def test_a_process_knows_itself() -> None:
    own = ProcessIdentity.of_self()
    assert own.pid == os.getpid()
    assert own.is_alive() is True
    assert own.started_at < time.time()


def test_a_signal_ends_the_process_that_is_meant() -> None:
    with running(SLEEP) as (process, identity):
        assert identity.send(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
        assert identity.is_alive() is False
        assert not identity.send(signal.SIGTERM)


@pytest.mark.parametrize("changed", [{"host": "another computer"}, {"process": "boot/1/2"}, {"process": None}])
def test_the_next_owner_of_a_pid_gets_no_signal(changed: dict[str, str | None]) -> None:
    with running(SLEEP) as (process, identity):
        other = replace(identity, **changed)  # type: ignore[arg-type]
        assert other.is_alive() is not True
        assert not other.send(signal.SIGKILL)
        assert process.poll() is None


def test_a_process_that_has_ended_is_not_alive_though_nobody_has_waited_for_it() -> None:
    with running(SLEEP) as (process, identity):
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on
        assert identity.is_alive() is False
        assert not identity.was_given("PATH", os.environ["PATH"])


def test_all_processes_of_one_start_are_found_in_whatever_session_and_killed() -> None:
    with running(WITH_CHILDREN, A_MARK="one") as (process, identity), running(SLEEP, A_MARK="one more") as (other, _):
        assert identity.was_given("A_MARK", "one")
        assert len(list(pids_with("A_MARK", "one"))) == 3
        assert kill_all_with("A_MARK", "one")
        assert process.wait(30) == -signal.SIGKILL
        assert list(pids_with("A_MARK", "one")) == []
        assert other.poll() is None
