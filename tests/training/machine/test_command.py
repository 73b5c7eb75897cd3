"""However a command ends: one exit code and at most one line, and lost output costs nobody the training."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

import pytest
from pydantic import BaseModel, field_serializer

from tests.support.launched import happens
from training.launch.output_relay import RelayReader, relay_writer
from training.machine.command import exit_code_of
from training.machine.output import LostOutputError, Output, output_may_be_lost
from training.machine.stop_signals import StopSignals, asking_to_stop
from training.record.reporter import ProgressReporter, read_events

if TYPE_CHECKING:
    from tests.conftest import TinyDataset

ROOT = Path(__file__).resolve().parents[3]


class Interrupted(BaseModel):
    """Settings at whose serialization the user presses Ctrl-C."""

    value: int = 0

    @field_serializer("value")
    def _serialize(self, value: int) -> int:
        signal.raise_signal(signal.SIGINT)
        return value


@pytest.fixture
def left_reader() -> Iterator[TextIO]:
    """A stream whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    with contextlib.suppress(BrokenPipeError), os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield stream


# -- interrupts ----------------------------------------------------------------------------------------------------


def test_a_second_ctrl_c_that_a_library_makes_an_error_of_is_still_a_ctrl_c() -> None:
    def update() -> None:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGINT)
            assert signals.received == signal.SIGINT
            try:
                Interrupted().model_dump_json()
            except BaseException as error:
                raise ValueError("a library's own words") from error

    with pytest.raises(KeyboardInterrupt):
        update()


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_ctrl_c_within_a_library_ends_a_command_as_any_other(
    wrapped: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> int:
        try:
            Interrupted().model_dump_json()
        except BaseException as error:
            if wrapped:
                raise ValueError("a library's own words") from error
            raise
        return 0

    assert exit_code_of(run, "error", "stopped") == 130
    assert capsys.readouterr().err == "stopped\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_without_ctrl_c_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match="a fault"), StopSignals():
        raise ValueError("a fault")
    with pytest.raises(ZeroDivisionError):
        exit_code_of(lambda: 1 // 0, "error", "stopped")


def test_a_closing_terminal_asks_for_a_stop_unless_nohup_says_no() -> None:
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGHUP)
    assert signals.received == signal.SIGHUP
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in asking_to_stop()
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGHUP)
        assert signals.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


# -- packages ------------------------------------------------------------------------------------------------------


def test_a_package_that_is_missed_only_when_it_is_used_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        raise ModuleNotFoundError("No module named 'wandb'", name="wandb")

    assert exit_code_of(run, "tool", "tool: stopped") == 2
    assert capsys.readouterr().err.startswith(f"tool: wandb is not installed for {sys.executable}; run")
    with pytest.raises(ModuleNotFoundError):
        exit_code_of(lambda: bool(__import__("no_such_module_of_ours")), "tool", "tool: stopped")


# -- lost output ---------------------------------------------------------------------------------------------------


def test_a_lost_stdout_ends_a_command_whose_work_it_is(
    left_reader: TextIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> int:
        print("line")
        return 0

    monkeypatch.setattr(sys, "stdout", left_reader)
    assert exit_code_of(run, "tool", "stopped") == 141
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert exit_code_of(run, "tool", "stopped") == 2
    assert capsys.readouterr().err == "tool: what was printed could not be written (No space left on device)\n"


def test_a_lost_stdout_does_not_end_a_training(left_reader: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> int:
        with output_may_be_lost():
            for _ in range(3):
                print("line", flush=True)
        return 7

    monkeypatch.setattr(sys, "stdout", left_reader)
    monkeypatch.setattr(sys, "stderr", left_reader)
    assert exit_code_of(run, "error", "stopped") == 7
    assert sys.stdout is left_reader


def test_what_a_launch_passes_on_may_be_lost(left_reader: TextIO, tmp_path: Path) -> None:
    writer = relay_writer(tmp_path / "shown", "utf-8", 1)
    writer.write("what the first rank prints\n")
    reader = RelayReader(tmp_path / "shown", "utf-8", cast(TextIO, Output(left_reader, may_be_lost=True)))
    reader.copy()
    reader.close()
    writer.close()


def test_a_stream_in_memory_that_is_closed_is_lost_too() -> None:
    (closed := io.StringIO()).close()
    with pytest.raises(LostOutputError):
        Output(closed, may_be_lost=False).write("line")
    Output(closed, may_be_lost=True).write("line")


def test_a_reader_of_the_record_that_fails_may_fail_unheard(
    left_reader: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Leaving:
        def event(self, event: object) -> None:
            raise BrokenPipeError

        def close(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", left_reader)
    reporter = ProgressReporter(None, sinks=[Leaving(), Leaving()])
    reporter.said(["a line"])
    reporter.close()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_goes_on_when_nobody_reads_what_it_prints(
    ranks: int, tiny_dataset: TinyDataset, tiny_flags: list[str], tmp_path: Path
) -> None:
    words = [*tiny_flags, "--datasets", str(tiny_dataset()), "--run-dir", "run", "--epochs", "2"]
    several = ["--num-processes", str(ranks)] if ranks > 1 else []
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *words, *several],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=writer,
        stderr=writer,
        check=False,
    )
    os.close(writer)
    assert done.returncode == 0
    assert json.loads((tmp_path / "run/experiment_report.json").read_text(encoding="utf-8"))["state"] == "finished"
    assert (tmp_path / "run/final_model").is_dir()


@pytest.mark.slow
def test_a_terminal_that_is_closed_leaves_a_checkpoint(
    tiny_dataset: TinyDataset, tiny_flags: list[str], tmp_path: Path
) -> None:
    """The window is closed: the system sends SIGHUP, and nothing can be printed any more."""
    words = [*tiny_flags, "--datasets", tiny_dataset(), "--run-dir", "run", "--epochs", "1000000"]
    record = tmp_path / "run/progress.jsonl"
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, str(ROOT / "train.py"), *map(str, words)])
    trains = happens(lambda: record.exists() and b'"event": "step"' in record.read_bytes(), 120)
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    assert trains
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    *_, last = (event for event in read_events(record) if event["event"] in ("checkpoint", "run_stopped"))
    assert last["reason"] == "SIGHUP"
    assert list((tmp_path / "run").glob("checkpoint_step_*"))
