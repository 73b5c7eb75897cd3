"""The three next steps that `make train` prints: they run as printed, whatever the run directory is called."""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools import chat, verify_hlbd_model, visualize_training

TOOLS = {"chat": chat.run, "verify_hlbd_model": verify_hlbd_model.run, "visualize_training": visualize_training.run}


def test_the_next_steps_run_as_they_are_printed(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished_run.rename(tmp_path / "my run")
    make = ["make", "--no-print-directory", "--dry-run", "-o", ".venv/.core", "train", f"RUN_DIR={run}"]
    recipe = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert shlex.split(recipe[0])[-3:] == ["--run-dir", str(run), "--resume"]
    script = "\n".join(line for line in recipe if line.startswith("echo"))
    printed = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert printed[:2] == ["", "next:"]
    steps = dict(line.strip().split("  ", 1) for line in printed[2:])
    assert list(steps) == ["ask it something", "verify it", "see it"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("tiny 3 + 1 等于几？\n"))
    for step in steps.values():
        interpreter, tool, *words = shlex.split(step)
        assert (interpreter, Path(tool).parent.name) == (".venv/bin/python", "tools")
        assert TOOLS[Path(tool).stem](words) == 0, step
    assert (run / "run.png").stat().st_size > 10_000
    capsys.readouterr()
