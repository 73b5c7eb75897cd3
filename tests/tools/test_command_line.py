"""The tools' command lines: any unusable input is one clear line and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_architecture import LIGHT, ROOT, reached_on_import
from tools.command_line import CommandLine, check_directory, finish, number_between, one_of, path_given, whole_number
from training.errors import UserError

TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py") if "CommandLine(__doc__)" in path.read_text("utf-8"))


def test_every_tool_reads_its_flags_alike() -> None:
    others = {path.stem for path in (ROOT / "tools").glob("*.py") if "ArgumentParser(" in path.read_text("utf-8")}
    assert others == set()
    assert len(TOOLS) >= 9


def test_it_brings_in_nothing_heavy() -> None:
    assert reached_on_import("tools.command_line").isdisjoint({*LIGHT, "numpy", "pydantic"})


@given(number=st.integers(0, 10**12), low=st.integers(0, 10**6), span=st.integers(0, 10**6))
def test_a_whole_number_is_taken_from_its_range_and_nowhere_else(number: int, low: int, span: int) -> None:
    if low <= number <= low + span:
        assert whole_number("--n", str(number), low, low + span) == number
    else:
        with pytest.raises(UserError, match=f"^--n must be a whole number from {low} to {low + span}, got '{number}'$"):
            whole_number("--n", str(number), low, low + span)


@pytest.mark.parametrize("text", ["", "1.0", "1e3", "-1", "+1", " 1", "1_000", "１", "²", "many", "11", "9" * 5000])
def test_what_only_looks_like_a_whole_number_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"^--n must be a whole number from 0 to 10, got "):
        whole_number("--n", text, 0, 10)


@pytest.mark.parametrize("text", ["", "nan", "inf", "0.09", "61", "soon", "２", "1_0", "1." + "0" * 40])
def test_a_number_out_of_its_range_is_refused(text: str) -> None:
    with pytest.raises(UserError) as caught:
        number_between("--refresh", text, 0.1, 60.0, "seconds")
    assert str(caught.value) == f"--refresh must be a number of seconds from 0.1 to 60, got {text!r}"
    assert number_between("--refresh", "1e1", 0.1, 60.0, "seconds") == 10.0


def test_two_dashes_are_no_value_of_a_flag() -> None:
    parser = CommandLine("Count things.")
    parser.add_argument("--steps")
    with pytest.raises(UserError, match="argument --steps: expected one argument, got '--'"):
        parser.parse_args(["--steps=--"])


def test_a_path_that_cannot_even_be_asked_about_is_refused_and_one_that_is_not_there_is_not(tmp_path: Path) -> None:
    assert path_given(str(tmp_path / "gone" / "too")) == tmp_path / "gone" / "too"
    (tmp_path / "file").touch()
    assert path_given(str(tmp_path / "file" / "below")) == tmp_path / "file" / "below"
    (tmp_path / "loop").symlink_to("loop")
    for name, why in (("x" * 300, "File name too long"), (str(tmp_path / "loop"), "Too many levels of symbolic links")):
        parser = CommandLine("text")
        parser.add_argument("--output", type=path_given)
        with pytest.raises(UserError) as caught:
            parser.parse_args(["--output", name])
        assert str(caught.value) == f"argument --output: {name}: {why}; choose another name (see --help)"


def test_a_path_that_is_no_directory_is_refused_with_its_flag_if_it_has_one(tmp_path: Path) -> None:
    check_directory(tmp_path, "give another")
    (file := tmp_path / "file").touch()
    for path, flag, message in (
        (file, "--runs", f"--runs {file}: this is a file; give another"),
        (tmp_path / "gone", "", f"{tmp_path / 'gone'}: there is no such directory; give another"),
    ):
        with pytest.raises(UserError) as caught:
            check_directory(path, "give another", flag)
        assert str(caught.value) == message


@pytest.mark.parametrize("words", [["--help"], []])
def test_a_reader_that_has_read_enough_is_no_fault(words: list[str]) -> None:
    program = (
        "from tools.command_line import CommandLine, finish\n"
        "def run(words):\n"
        "    CommandLine('text').parse_args(words)\n"
        "    print('line')\n"
        "    return 0\n"
        "raise SystemExit(finish('tool', run))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": ""},  # else argparse itself would meet the fault, and keep silent
            stdout=output,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_misspelt_name_is_answered_with_the_nearest_one() -> None:
    assert one_of("--theme", "paper", "theme", ["cyber", "paper"]) == "paper"
    with pytest.raises(UserError) as caught:
        one_of("--theme", "cyper", "theme", ["cyber", "paper"])
    assert str(caught.value) == "--theme cyper: unknown theme; did you mean 'cyber'?; choose from cyber, paper"


def test_each_ending_has_its_exit_code_and_at_most_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tool", "--flag"])

    def refuse(words: list[str]) -> int:
        raise UserError(f"{words[0]} is wrong")

    def interrupted(words: list[str]) -> int:
        raise KeyboardInterrupt

    assert (finish("tool", len), capsys.readouterr().err) == (1, "")
    monkeypatch.setenv("MPLBACKEND", "nonsense")  # matplotlib would fail at its import
    line = (
        "tool: MPLBACKEND=nonsense in the environment: should be one of matplotlib's backends, such as agg; or unset it"
    )
    assert (finish("tool", len), capsys.readouterr().err) == (2, f"{line}\n")
    monkeypatch.delenv("MPLBACKEND")
    assert (finish("tool", refuse), capsys.readouterr().err) == (2, "tool: --flag is wrong\n")
    assert (finish("tool", interrupted), capsys.readouterr().err) == (130, "tool: stopped\n")
    parser = CommandLine("What it does.\n\n    as it stands")
    parser.add_argument("--number")
    assert finish("tool", lambda words: bool(parser.parse_args(words))) == 2
    assert capsys.readouterr().err == "tool: unrecognized arguments: --flag (see --help)\n"
    monkeypatch.setattr(sys, "argv", ["tool", "--num", "1"])
    assert finish("tool", lambda words: bool(parser.parse_args(words))) == 2, "an abbreviation may mean more tomorrow"


@pytest.mark.slow
def test_every_tool_s_help_is_its_own_text_and_waits_for_nothing_heavy(tmp_path: Path) -> None:
    program = """
import contextlib, io, runpy, sys
for path in sys.argv[1:]:
    told, sys.argv = io.StringIO(), [path, "--help"]
    with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        runpy.run_path(path, run_name="__main__")
    print(path, told.getvalue().count("\\n") > 10, "usage: " in told.getvalue())
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
    paths = [str(ROOT / "tools" / f"{name}.py") for name in TOOLS]
    done = subprocess.run(
        [sys.executable, "-c", program, *paths], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    *told, imported = done.stdout.splitlines()
    assert told == [f"{path} True True" for path in paths]
    assert set(imported.split()).isdisjoint({*LIGHT, "numpy"})
