"""Names of any kind, in data and directories: what came from outside is printed escaped and shortened, everywhere."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import enter_front_door
from training.errors import LONGEST_WORD, UserError, printable

pytestmark = pytest.mark.slow
MODULE = "two\nlines \x1b[31mred\x1b[0m | $x_{ *b* \u202e"
LONG = "长" * 3000
SHAPE = ("--d-model", "16", "--num-layers", "1", "--num-heads", "2", "--d-ff", "16", "--batch-size", "8")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose directory and whose data's modules have such names, and what training it printed."""
    folder = tmp_path_factory.mktemp("names") / "new\nline \x1b[1m $y"
    folder.mkdir()
    rows = [{"input": f"{i} + 1", "output": str(i + 1)} for i in range(16)]
    data = {"metadata": {"name": MODULE}, "data": {MODULE: rows[:8], LONG: rows[8:]}}
    (folder / "tiny.json").write_text(json.dumps(data), encoding="utf-8")
    words: list[str | Path] = ["--datasets", folder / "tiny.json", "--run-dir", folder / "run", "--epochs", "2"]
    done = enter_front_door([*SHAPE, *words, "--device", "cpu", "--save-interval", "1", "--validation-split", "0.2"])
    assert done.exit_code == 0, done
    (folder / "said.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    return folder / "run"


def printed_by(tool: Callable[[list[str]], int], *words: object) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            tool(list(map(str, words)))
        except UserError as error:
            said.write(str(error))
    return said.getvalue()


def assert_printable(text: str) -> None:
    for line in text.split("\n"):
        bad = [c for c in line.replace("\r", "") if printable(c) != c]
        assert not bad, line
        assert max(map(len, line.split(" "))) <= LONGEST_WORD, line[:200]
    assert "two\nlines" not in text


def test_training_prints_names_escaped(run_dir: Path) -> None:
    text = (run_dir.parent / "said.txt").read_text(encoding="utf-8")
    assert "new\\nline" in text
    assert_printable(text)


@pytest.mark.parametrize("name", ["monitor", "diagnosis", "verifier", "landscape", "export", "dashboard"])
def test_a_tool_prints_and_draws_names_escaped(name: str, run_dir: Path, tmp_path: Path) -> None:
    from tools import (
        diagnose_issues,
        export_model,
        loss_landscape,
        monitor_all_trainings,
        verify_hlbd_model,
        visualize_training,
    )

    data, figure = run_dir.parent / "tiny.json", tmp_path / "picture.png"
    said = {
        "monitor": lambda: printed_by(monitor_all_trainings.run, run_dir.parent, "--figure", figure),
        "diagnosis": lambda: printed_by(diagnose_issues.run, run_dir, "--datasets", data),
        "verifier": lambda: printed_by(
            verify_hlbd_model.run, "--model", run_dir, "--dataset", data, "--sample", 8, "--figure", figure
        ),
        "landscape": lambda: printed_by(
            loss_landscape.run, run_dir, "--resolution", 5, "--probe", 8, "--device", "cpu", "--output", figure
        ),
        "export": lambda: printed_by(export_model.run, run_dir, "--output", tmp_path / "model"),
        "dashboard": lambda: printed_by(
            visualize_training.run, "--log-dir", run_dir, "--mode", "offline", "--output", figure, "--dpi", 50
        ),
    }[name]()
    assert_printable(said)
    assert "error" not in said.casefold() or name in ("diagnosis", "verifier", "export"), said
    if name == "export":
        card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
        assert all(printable(c) == c for c in card.replace("\n", "")), card
        assert "two\nlines" not in card
    elif name != "diagnosis":
        assert figure.read_bytes().startswith(b"\x89PNG"), said


@pytest.mark.parametrize(
    "words",
    [
        ["--resume", "x\n\x1b[31m"], ["--config", "a/" * 2500], ["--datasets", "\udcff.json"],
        ["--learning-rate", "9" * 5000], ["--no-such\x1b[31mflag"], ["--task", "x\ny:Z"], ["--backend", "\x1b]0;title"],
    ],
    ids=lambda words: words[0].split("\x1b")[0],
)  # fmt: skip
def test_a_refusal_is_one_printable_line(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = enter_front_door(words)
    assert done.exit_code == 2, done
    assert done.stderr.count("\n") == 1, done.stderr
    assert_printable(done.stderr)
