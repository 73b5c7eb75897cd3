"""`tools/monitor_all_trainings.py` as a user calls it: once, as JSON, as a picture, live in a terminal, and wrongly."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Train
from tests.support.recorded_runs import RecordedRun
from tools.monitor_all_trainings import run as command
from training.errors import UserError

SCRIPT = "tools/monitor_all_trainings.py"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


# -- once ----------------------------------------------------------------------------------------------------------


def test_one_table_of_a_real_run(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command([str(finished_run.parent), "--once"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1 run: 1 finished")
    assert re.search(r"^run +finished +playground +━{10} 100% +4/4 +\d\.\d{4} ", out, flags=re.MULTILINE)
    assert out.endswith("\n")


def test_the_working_directory_is_searched_by_default(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished_run.parent)
    assert command(["--once"]) == 0
    assert "\nrun " in capsys.readouterr().out


def test_json_has_a_version_and_what_the_table_shows(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    RecordedRun(tmp_path / "失败", start=time.time() - 50).train(5).reporter.run_failed(ValueError("no"))
    assert command([str(tmp_path), "--json", "--sort", "name"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["format"], document["schema_version"]) == ("apt-monitor", 1)
    assert [(r["name"], r["state"], r["step"], r["progress"]) for r in document["runs"]] == [
        ("run", "finished", 4, 1.0), ("失败", "failed", 5, 0.05),
    ]  # fmt: skip
    assert document["runs"][0]["path"] == str(finished_run)
    assert document["alerts"] == [
        {"run": str(tmp_path / "失败"), "kind": "failed", "message": "failed at step 5: ValueError: no"}
    ]
    assert document["leaderboards"] == []


def test_the_figure_is_a_png_and_the_record_is_left_alone(
    finished_run: Path, tmp_path: Path, tree: Callable[[], dict[str, bytes | None]]
) -> None:
    before = tree()
    assert command([str(finished_run), "--figure", str(tmp_path / "all.png")]) == 0
    after = tree()
    picture = after.pop("all.png")
    assert after == before
    assert picture is not None
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")) == (1280, 720)


# -- input that cannot be used -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["gone"], "gone: there is no such directory; give a directory with runs in it"),
        (["file"], "file: this is a file; give a directory with runs in it"),
        (["--once"], "no run below .; give the directory above your run directories"),
        (["--json"], "no run below .; give the directory above your run directories"),
        (["--refresh", "0"], "--refresh must be a number of seconds from 0.1 to 86400, got '0'"),
        (["--refresh", "nan"], "--refresh must be a number of seconds from 0.1 to 86400, got 'nan'"),
        (["--stalled-after", "soon"], "--stalled-after must be a number of seconds from 0.1 to 86400, got 'soon'"),
        (["--figure", "a.jpg"], "--figure a.jpg: give a name that ends in .png"),
        (["--figure", "no/a.png"], "--figure no/a.png: there is no folder no; create it first"),
        (["--sort", "colour"], "argument --sort: invalid choice: 'colour'"),
        (["--onse"], "unrecognized arguments: --onse (see --help)"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        command(arguments)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_bad_input_ends_with_2_and_no_traceback(train: Train) -> None:
    done = train(["gone"], script=SCRIPT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "monitor_all_trainings: gone: there is no such directory; give a directory with runs in it\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("flags", [["--help"], ["--json"]])
def test_neither_help_nor_json_waits_for_anything_heavy(flags: list[str], finished_run: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / SCRIPT), str(finished_run), *flags],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert done.returncode == 0
    assert {name.partition(".")[0] for name in imported}.isdisjoint(
        {"torch", "numpy", "matplotlib", "pydantic", "rich"}
    )


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_error(finished_run: Path) -> None:
    told = subprocess.run(
        f"{sys.executable} {ROOT / SCRIPT} {finished_run} --json | head -c 10",
        shell=True, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (len(told.stdout), told.stderr) == (10, "")


# -- live ----------------------------------------------------------------------------------------------------------


class Terminal:
    """The monitor in a terminal of its own, 150 columns by 40 lines."""

    def __init__(self, arguments: list[str | Path]) -> None:
        import pty

        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / SCRIPT), *map(str, arguments), "--refresh", "0.2"],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={**os.environ, "COLUMNS": "150", "LINES": "40", "TERM": "xterm-256color", "PYTHONUTF8": "1"},
        )  # fmt: skip
        os.close(theirs)
        self.output = b""

    def shows(self, text: str, seconds: float = 30.0) -> bool:
        """Wait until what was written since the last screen has the text."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.read()
            if text in ESCAPES.sub("", self.output.rpartition(b"\x1b[H")[2].decode(errors="replace")):
                return True
        return False

    def read(self) -> None:
        """What has been written so far."""
        while select.select([self._ours], [], [], 0.05)[0]:
            try:
                chunk = os.read(self._ours, 65536)
            except OSError:  # the other end is closed
                return
            if not chunk:
                return
            self.output += chunk

    def leave(self, number: int) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(20)
        self.read()
        return code

    def close(self) -> None:
        """End it, however it is."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def make(*arguments: str | Path) -> Terminal:
        opened.append(Terminal(list(arguments)))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_run_is_seen_from_before_it_begins_until_its_end(
    tmp_path: Path, terminal: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = terminal(tmp_path, "--stalled-after", "86400")
    assert screen.shows(f"no run below {tmp_path} yet; waiting")
    run = RecordedRun(tmp_path / "live", start=time.time(), seconds=0.01)
    run.train(30).flush()
    assert screen.shows("30/100"), "found within ten seconds"
    run.train(40).flush()
    assert screen.shows("70/100")
    run.train().finish()
    assert screen.shows("1 run: 1 finished")
    assert screen.leave(signal.SIGINT) == 0
    assert b"\x1b[?1049l" in screen.output, "the terminal is given back"
    assert b"\x1b[?25h" in screen.output, "and its cursor"
    after = ESCAPES.sub("", screen.output.rpartition(b"\x1b[?1049l")[2].decode())
    assert "100/100" in after, "the last picture stays"
    assert "Traceback" not in screen.output.decode()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_terminated_monitor_gives_the_terminal_back(finished_run: Path, terminal: Callable[..., Terminal]) -> None:
    screen = terminal(finished_run)
    assert screen.shows("1 finished")
    assert screen.leave(signal.SIGTERM) == 128 + signal.SIGTERM
    assert b"\x1b[?1049l" in screen.output
    assert "Traceback" not in screen.output.decode()
