"""The process of a job: it runs an attempt once, hears of a stop, says how it ended, and keeps its output bounded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from training.checkpoints.run_lock import RunLock
from training.experiments.jobs.files import AttemptFiles, AttemptRequest, Exit, Start, Stop
from training.experiments.jobs.job_queue import PROCESS
from training.machine.processes import ProcessIdentity

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="the processes are POSIX's")]
ENDS = {
    "sys.exit(3)": (3, ""),
    "sys.exit()": (0, ""),
    "sys.exit('a line')": (1, "a line\n"),
    "print('done')": (0, "done\n"),
    "raise KeyboardInterrupt": (130, ""),
    "raise ValueError('boom')": (1, "ValueError: boom\n"),
    "os.close(1); os.close(2); print('lost')": (1, ""),
}


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptFiles:
    """An attempt that may start."""
    made = AttemptFiles(tmp_path / "attempts" / "1")
    made.write_request(AttemptRequest(1, time.time(), resume=False))
    made.write_start(Start(("cpu-0",), ("a", "b c"), time.time(), "mark", None))
    return made


def start(attempt: AttemptFiles, program: str) -> subprocess.Popen[bytes]:
    """The process of an attempt, as a queue starts it, with a program of the test's own."""
    path = attempt.path.parent / "program.py"
    path.write_text(f"import os, signal, sys, time\nfrom pathlib import Path\n{program}\n")
    with attempt.output.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-P", str(PROCESS), str(attempt.path), str(path)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd=ROOT,
        )  # fmt: skip


def wait_for(path: Path) -> None:
    end = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < end, f"there is no {path}"
        time.sleep(0.01)


@pytest.mark.parametrize("program", ENDS)
def test_it_writes_down_how_its_program_ended(attempt: AttemptFiles, program: str) -> None:
    code, last = ENDS[program]
    process = start(attempt, program)
    assert process.wait(300) == code
    ending = attempt.exit()
    assert ending is not None
    assert ending.code == code
    assert attempt.output.read_text().endswith(last)
    claimed = attempt.process()
    assert claimed is not None
    assert (claimed.pid, claimed.is_alive(), attempt.is_held()) == (process.pid, False, False)


def test_the_program_sees_what_it_would_see_at_a_terminal(attempt: AttemptFiles) -> None:
    program = (
        "print(sys.argv[1:], __name__, Path(sys.argv[0]).name, signal.getsignal(signal.SIGINT).__name__)\n"
        "print(Path(sys.modules['__main__'].__file__).name, '\\u96e8')"
    )
    assert start(attempt, program).wait(300) == 0
    assert attempt.output.read_text(encoding="utf-8") == (
        "['a', 'b c'] __main__ program.py default_int_handler\nprogram.py 雨\n"
    )


@pytest.mark.parametrize("mark", ["process.json", "exit.json", ".lock"])
def test_an_attempt_that_somebody_has_or_has_had_is_left_alone(attempt: AttemptFiles, mark: str) -> None:
    lock = None
    if mark == "process.json":
        attempt.write_process(ProcessIdentity(1, "another computer", 1.0, None))
    elif mark == "exit.json":
        attempt.write_exit(Exit(130, 1.0))
    else:
        lock = RunLock.take(attempt.path)
    before = {path.name: path.read_bytes() for path in attempt.path.iterdir() if path.name != ".lock"}
    assert start(attempt, "print('ran')").wait(300) == 0
    after = {path.name: path.read_bytes() for path in attempt.path.iterdir() if path.name != ".lock"}
    assert after == before | {"output.log": b""}
    if lock is not None:
        lock.release()


def test_a_stop_before_its_start_is_heard(attempt: AttemptFiles) -> None:
    attempt.write_stop(Stop(1.0, at_once=False))
    assert start(attempt, "print('ran')").wait(300) == 130
    assert attempt.output.read_bytes() == b""


@pytest.mark.parametrize("where", ["time.sleep(60)", "os.read(os.pipe()[0], 1)", "while True: pass"])
def test_a_stop_interrupts_the_program_wherever_it_is_and_once(attempt: AttemptFiles, where: str) -> None:
    program = f"""
try:
    Path("{attempt.path}/begun").touch()
    {where}
except KeyboardInterrupt:
    print("saves", flush=True)
    time.sleep(1)  # a second interrupt would end it here
    print("saved")
    sys.exit(130)
"""
    process = start(attempt, program)
    wait_for(attempt.path / "begun")
    attempt.write_stop(Stop(time.time(), at_once=False))
    assert process.wait(300) == 130
    assert attempt.output.read_text() == "saves\nsaved\n"


def test_a_stop_is_heard_though_whoever_started_it_ignored_interrupts(attempt: AttemptFiles) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what it starts in the background
    try:
        process = start(attempt, f"Path('{attempt.path}/begun').touch()\ntime.sleep(60)")
    finally:
        signal.signal(signal.SIGINT, before)
    wait_for(attempt.path / "begun")
    attempt.write_stop(Stop(time.time(), at_once=False))
    assert process.wait(300) == 130


def test_a_full_output_goes_on_in_a_new_file_and_one_older_one_is_kept(attempt: AttemptFiles) -> None:
    program = f"""
from training.experiments.jobs.process import begin_new_output
output = Path("{attempt.output}")
for number in range(3):
    print("old" if number < 2 else "new", number, flush=True)
    os.system("echo child")
    if number < 2:
        begin_new_output(output)
"""
    assert start(attempt, program).wait(300) == 0
    assert attempt.output.read_text() == "new 2\nchild\n"
    assert (attempt.path / "output.1.log").read_text() == "old 1\nchild\n"
    assert sorted(path.name for path in attempt.path.glob("*output*")) == ["output.1.log", "output.log"]


def test_an_endless_output_stays_bounded(attempt: AttemptFiles) -> None:
    program = """
from training.experiments.jobs import process
process.Watcher(process.AttemptFiles(Path(sys.argv[0]).parent / "1"), largest_output=1000).start()
end = time.monotonic() + 2
while time.monotonic() < end:
    print("x" * 99)
    time.sleep(0.001)
"""
    assert start(attempt, program).wait(300) == 0
    assert (attempt.path / "output.1.log").stat().st_size > 1000
    assert len(list(attempt.path.glob("output*"))) == 2
