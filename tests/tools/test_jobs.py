"""The client of the server: submit, list, watch over restarts, stop, resume and logs; what it refuses in one line."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import write_tiny_dataset
from tests.support.meanwhile import Meanwhile
from tests.support.running_server import RunningServer, serving
from tests.support.schedulers import PROGRAM
from tools import jobs
from tools.server.client import ServerEvent, parse_stream
from tools.server.gate.state import ADDRESS
from training.errors import UserError
from training.experiments.jobs.states import ENDED

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="the processes are POSIX's")]


@contextlib.contextmanager
def announced(folder: Path) -> Iterator[RunningServer]:
    """A server on `folder/runs` that is found by its root, and whose jobs run a program of milliseconds."""
    with serving(folder / "runs", data=(folder / "data",)) as running:
        running.state.queue._program = PROGRAM
        (running.state.directory / ADDRESS).write_text(json.dumps({"url": running.state.url}))
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("served")
    write_tiny_dataset(made / "data" / "tiny.json")
    return made


@pytest.fixture
def server(folder: Path) -> Iterator[RunningServer]:
    with announced(folder) as running:
        yield running
        for job in running.state.queue.jobs():
            if job.state not in ENDED:
                running.state.queue.stop(job.id, at_once=True)


def call(folder: Path, *words: str) -> int:
    return jobs.run(["--root", str(folder / "runs"), *words])


def until(server: RunningServer, name: str, state: str) -> None:
    end = time.monotonic() + 300
    while {job.name: job.state for job in server.state.queue.jobs()}.get(name) != state:
        assert time.monotonic() < end
        time.sleep(0.01)


def submit(folder: Path, server: RunningServer, name: str, *words: str) -> None:
    assert call(folder, "submit", "--name", name, "--dataset", "tiny.json", "d_model=16", "num_heads=2", *words) == 0
    until(server, name, "running")


def test_a_job_is_submitted_listed_stopped_and_resumed(
    folder: Path, server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(folder, server, "one", "learning_rate=1e-3", "--priority", "-2")
    job = next(job for job in server.state.queue.jobs() if job.name == "one")
    assert float(dict(job.request.settings)["optimizer.learning_rate"]) == 1e-3
    assert job.priority == -2
    shown = capsys.readouterr().out
    assert shown.startswith(f"one ({job.id})  "), "it waits, or has begun in the meantime"
    server.state.index.look(search=True)
    assert call(folder, "list") == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [job.id, "one", "running", "1/2", "2.5", "—"]
    assert call(folder, "list", "--json", "--state", "failed") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["jobs"], found["total"]) == ([], 0)
    assert call(folder, "stop", "one") == 0
    assert capsys.readouterr().out == f"one ({job.id})  stopping\n"
    until(server, "one", "stopped")
    with pytest.raises(UserError, match="the run has no checkpoint 'checkpoint_best'"):
        call(folder, "resume", "one", "--checkpoint", "checkpoint_best")
    assert call(folder, "resume", job.id, "--checkpoint", "checkpoint_step_1") == 0
    until(server, "one", "running")
    assert (server.state.root / "one" / "resumed_from").read_text() == "checkpoint_step_1"
    assert call(folder, "stop", "one", "--at-once") == 0
    until(server, "one", "stopped")


@pytest.mark.parametrize(("code", "state", "exit_code"), [(0, "finished", 0), (3, "failed", 1)])
def test_watching_ends_with_the_job_and_says_how(
    folder: Path, server: RunningServer, capsys: pytest.CaptureFixture[str], code: int, state: str, exit_code: int
) -> None:
    def end() -> None:
        until(server, state, "running")
        (server.state.root / state / "end").write_text(str(code))

    words = ["submit", "--name", state, "--dataset", "tiny.json", "d_model=16", "num_heads=2", "--watch"]
    with Meanwhile(end):
        assert call(folder, *words) == exit_code
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("state   ")
    assert "step 1/2  loss 2.5" in lines
    assert lines[-1].startswith(f"state   {state}")


def test_watching_survives_a_restart_of_the_server(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    is_watching, codes = threading.Event(), []

    def watch() -> None:
        is_watching.wait(60)
        codes.append(call(folder, "watch", "long"))

    with Meanwhile(watch):
        with announced(folder) as server:
            submit(folder, server, "long")
            is_watching.set()
            end = time.monotonic() + 300
            while "step 1/2  loss 2.5" not in capsys.readouterr().out:
                assert time.monotonic() < end
                time.sleep(0.05)
        with announced(folder) as server:  # at another port
            (server.state.root / "long" / "end").write_text("0")
            end = time.monotonic() + 300
            while not codes:
                assert time.monotonic() < end
                time.sleep(0.05)
    shown = capsys.readouterr()
    assert codes == [0]
    assert "the server does not answer" in shown.err or "no server runs there" in shown.err or shown.err == ""
    assert "step 1/2" not in shown.out, "what was shown before the restart is not shown again"
    assert shown.out.splitlines()[-1] == "state   finished"


def test_the_log_is_printed_as_far_as_it_goes(
    folder: Path, server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(folder, server, "talks")
    (server.state.root / "talks" / "end").write_text("0")
    capsys.readouterr()
    assert call(folder, "logs", "talks", "--follow") == 0
    assert capsys.readouterr().out == "done\n"
    [job] = [job for job in server.state.queue.jobs() if job.name == "talks"]
    job.output.write_text("\x1b[31mred\x1b[0m\n")
    assert call(folder, "logs", "talks") == 0
    assert capsys.readouterr().out == "\\x1b[31mred\\x1b[0m\n", "a terminal must not obey it"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["submit", "epochs"], "'epochs': settings are given as NAME=VALUE"),
        (["submit", "epochs=many", "--dataset", "tiny.json"], "epochs"),
        (["submit", "epochs=[1", "--dataset", "tiny.json"], "not valid YAML"),
        (["submit", "--priority", "high"], "--priority must be a whole number"),
        (["watch", "no such run"], "no run is called 'no such run' (list shows all)"),
        (["watch", "0" * 12], "no run has the id '000000000000'"),
        (["stop", "0" * 12], "no job and no run has the id '000000000000'"),
        (["watch", "x", "--patience", "-1"], "--patience"),
        (["--url", "http://[", "list"], "this is no address of a server"),
        (["--token", "wrong", "list"], "this needs the server's token"),
        (["dance"], "invalid choice: 'dance'"),
    ],
)
def test_what_cannot_be_done_is_one_line(folder: Path, server: RunningServer, words: list[str], line: str) -> None:
    with pytest.raises(UserError) as caught:
        call(folder, *words)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_root_without_a_server_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no server runs there; start one"):
        jobs.run(["--root", str(tmp_path), "list"])


def test_a_server_that_is_gone_is_waited_for_and_then_given_up(folder: Path, tmp_path: Path) -> None:
    directory = tmp_path / ".server"
    directory.mkdir()
    (directory / ADDRESS).write_text('{"url": "http://127.0.0.1:9"}')  # the port `discard`, where nothing listens
    (directory / "token").write_text("t" * 43)
    with pytest.raises(UserError, match=r"http://127.0.0.1:9: the server does not answer \("):
        jobs.run(["--root", str(tmp_path), "watch", "0" * 12, "--patience", "0"])


def test_a_stream_is_read_as_the_standard_has_it() -> None:
    lines = ["retry: 10", "", ": comment", "id: a-1", "event: step", 'data: {"step":', "data: 1}", "", "data: no", ""]
    assert list(parse_stream(iter([*lines, 'data:{"a": 2}', ""]))) == [
        ServerEvent("step", {"step": 1}, "a-1"),
        ServerEvent("message", {"a": 2}, None),
    ]
