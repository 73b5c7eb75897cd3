"""Several processes are one run: what one of them says is shown, what one of them suffers ends all, nothing is left.

The launcher is the real torchrun, the workers are small scripts, so that each way to go wrong can be arranged.
"""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.launched import Launched, happens, launch_scripts, without_directory

pytestmark = pytest.mark.slow

Launches = Callable[..., Launched]


@pytest.fixture
def launches(tmp_path: Path) -> Iterator[Launches]:
    """`launches(body)`: two workers do `body`. Whatever the test finds, no process stays."""
    begun: list[Launched] = []

    def start(body: str, **options: object) -> Launched:
        begun.append(launch_scripts(tmp_path, body, **options))  # type: ignore[arg-type]
        return begun[-1]

    yield start
    for launched in begun:
        launched.kill()


def both(tmp_path: Path, what: str) -> bool:
    """Whether both ranks have left a mark."""
    return happens(lambda: all((tmp_path / f"{what}_{rank}").exists() for rank in (0, 1)))


# -- what is shown -------------------------------------------------------------------------------------------------


def test_the_first_rank_speaks_for_all_and_nothing_is_left(launches: Launches) -> None:
    launched = launches(
        "print(f'rank {rank} 说话')\n"
        "print(f'rank {rank} warns', file=sys.stderr)\n"
        "os.write(1, b'noise of a library')\n"
        "os.system('echo noise of a child')"
    )
    assert launched.end() == 0
    assert (launched.stdout, launched.stderr) == ("rank 0 说话\n", "rank 0 warns\n")
    assert launched.left() == []
    assert launched.kept() == []


def test_workers_know_the_terminal_behind_the_front_door_and_its_present_width(
    launches: Launches, tmp_path: Path
) -> None:
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    launched = launches(
        "def columns():\n"
        "    size = terminal_size()\n"
        "    return size and size.columns\n"
        "print(f'{columns()} columns', flush=True)\n"
        "print('bar 1', end='\\r', file=sys.stderr)\n"
        "while rank == 0 and columns() != 60: time.sleep(0.02)\n"
        "print('narrower', file=sys.stderr)\n"
        "mark(f'saw_{columns()}')",
        terminal=terminal,
    )
    shown = b""
    while b"bar 1\r" not in shown:
        shown += os.read(reader, 1000)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 60, 0, 0))
    assert launched.end() == 0
    while b"narrower" not in shown:
        shown += os.read(reader, 1000)
    # One file for both streams keeps their order; the terminal itself turns \n into \r\n.
    assert shown.replace(b"\r\n", b"\n").decode() == "100 columns\nbar 1\rnarrower\n"
    assert (tmp_path / "saw_None_1").exists(), "a rank that does not speak draws no bar"
    os.close(reader)
    os.close(terminal)


# -- errors --------------------------------------------------------------------------------------------------------


def test_what_all_ranks_refuse_reads_as_if_one_process_had_refused_it(launches: Launches) -> None:
    launched = launches("time.sleep(rank)\nraise UserError('--dataset 没有.json: no such file')")
    assert launched.end() == 2
    assert (launched.stdout, launched.stderr) == ("", "error: --dataset 没有.json: no such file\n")
    assert launched.left() == []
    assert launched.kept() == []


def test_what_one_rank_refuses_is_told_with_its_number(launches: Launches) -> None:
    launched = launches(
        "if rank == 1: mark('here'); raise UserError('disk full; make room')\n"
        "after('here', 1)\n"
        "raise RuntimeError('[gloo] Connection closed by peer [127.0.0.1]:4711')"
    )
    assert launched.end() == 2
    assert launched.stderr == "error: rank 1: disk full; make room\n"
    assert launched.left() == []
    assert launched.kept() == []


def test_a_crash_shows_the_traceback_of_the_rank_that_crashed_and_keeps_the_logs(launches: Launches) -> None:
    launched = launches(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if rank == 0: print('begun'); mark('begun')\n"
        "after('begun', 0)\n"
        "if rank == 1: os.write(2, b'last words of a library'); 1 / 0\n"
        "time.sleep(60)"
    )
    assert happens(lambda: launched.stdout == "begun\n")
    began = time.monotonic()
    assert launched.end() == 1
    assert time.monotonic() - began < 30, "the others are not waited for"
    assert "Traceback (most recent call last)" in launched.stderr
    last = launched.stderr.splitlines()[-1]
    assert without_directory(last) == "error: rank 1: ZeroDivisionError: division by zero; the logs are kept in DIR"
    assert launched.left() == []
    (kept,) = launched.kept()
    assert last.endswith(str(kept))
    assert (kept / "rank_1.log").read_bytes() == b"last words of a library"


def test_a_rank_that_is_killed_is_named_not_the_ranks_that_miss_it(launches: Launches) -> None:
    launched = launches(
        "if rank == 1: mark('here'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "after('here', 1)\n"
        "raise RuntimeError('[gloo] Connection closed by peer [127.0.0.1]:4711')"
    )
    assert launched.end() == 137
    assert without_directory(launched.stderr) == (
        "error: rank 1 was killed by SIGKILL (out of memory?); --resume goes on from the last checkpoint; "
        "the logs are kept in DIR\n"
    )
    assert launched.left() == []


def test_a_rank_that_ends_itself_without_a_word_is_named_with_its_exit_code(launches: Launches) -> None:
    launched = launches("if rank == 1: after('started', 0); os._exit(3)\nreturn wait()")
    assert launched.end() == 3
    assert "error: rank 1 ended with exit code 3 and left no error" in launched.stderr
    assert launched.left() == []


def test_a_launcher_that_is_not_there_is_one_line(launches: Launches) -> None:
    launched = launches("pass", launcher="['no-such-launcher']")
    assert launched.end() == 2
    assert launched.stderr == "error: no-such-launcher: the launcher cannot be started (No such file or directory)\n"
    assert launched.kept() == []


def test_a_launcher_that_starts_nothing_is_quoted(launches: Launches) -> None:
    program = "raise RuntimeError('no room for ranks')"
    launched = launches("pass", launcher=f'[sys.executable, "-c", "{program}"]')
    assert launched.end() == 1
    assert "could not start the ranks: RuntimeError: no room for ranks" in launched.stderr


# -- stopping ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_stop_reaches_every_rank_and_each_leaves_in_order(
    number: signal.Signals, exit_code: int, launches: Launches, tmp_path: Path
) -> None:
    launched = launches("return wait()")
    assert both(tmp_path, "started")
    launched.send(number)
    assert launched.end() == exit_code
    assert both(tmp_path, "saved")
    assert (launched.stdout, launched.stderr) == ("", "")
    assert launched.left() == []
    assert launched.kept() == []


def test_a_second_ctrl_c_kills_ranks_that_take_too_long(launches: Launches, tmp_path: Path) -> None:
    launched = launches("signal.signal(signal.SIGTERM, lambda *_: mark('asked'))\nmark('started')\ntime.sleep(90)")
    assert both(tmp_path, "started")
    launched.send(signal.SIGINT)
    assert both(tmp_path, "asked")
    assert launched.process.poll() is None, "once asked, they are waited for"
    launched.send(signal.SIGINT)
    assert launched.end(30) == 130
    assert launched.stderr == "stopped at once\n"
    assert launched.left() == []
    assert launched.kept() == []


def test_a_stop_before_any_rank_has_begun_ends_the_launcher(launches: Launches) -> None:
    launched = launches("wait()")
    assert happens(lambda: len(launched.left()) > 1), "the launcher has been started"
    launched.send(signal.SIGTERM)
    assert launched.end(30) == 143
    assert launched.stderr == "stopped at once; --resume goes on from the last checkpoint\n"
    assert launched.left() == []
    assert launched.kept() == []


def test_ranks_whose_launcher_is_killed_save_and_stop(launches: Launches, tmp_path: Path) -> None:
    launched = launches("return wait()")
    assert both(tmp_path, "started")
    os.kill(launched.pid_of_launcher(), signal.SIGKILL)
    assert launched.end(30) == 1
    assert both(tmp_path, "saved")
    assert without_directory(launched.stderr) == (
        "error: torchrun was killed by SIGKILL; the ranks saved and stopped; --resume goes on from the last checkpoint"
        "; the logs are kept in DIR\n"
    )
    assert launched.left() == []


def test_ranks_whose_front_door_is_killed_save_and_stop(launches: Launches, tmp_path: Path) -> None:
    launched = launches("return wait()")
    assert both(tmp_path, "started")
    launched.send(signal.SIGKILL)
    assert both(tmp_path, "saved")
    assert launched.is_gone_within(30)


def test_a_launch_whose_front_door_is_killed_at_its_start_does_not_go_on(launches: Launches, tmp_path: Path) -> None:
    launched = launches("time.sleep(60)")
    assert happens(lambda: len(launched.left()) > 1)
    launched.send(signal.SIGKILL)
    assert launched.is_gone_within(60)
    assert not (tmp_path / "saved_0").exists()
