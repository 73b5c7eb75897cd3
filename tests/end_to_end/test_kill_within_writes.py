"""A run that is killed within any of its writes leaves every file whole, old or new, and goes on exactly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="processes are forked")]


def test_a_kill_within_any_write_or_at_any_rename_costs_nothing(finished_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    program = ROOT / "tests" / "support" / "programs" / "killed_within_writes.py"
    done = subprocess.run(
        [sys.executable, program, folder, finished_run, tmp_path / "tiny.json"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    for write, was_killed, torn, resumed, same_weights, left in cases:
        assert (was_killed, torn, resumed, same_weights, left) == (True, [], 0, True, []), write
    writes = " ".join(case[0] for case in cases)
    names = (
        "config.yaml", "experiment_report.json", "progress.jsonl", "final_model.pt", "final_model/config.json",
        "final_model/model.safetensors", "checksums.json", "checkpoint_epoch_3/state.json", "manifest.json", ".lock",
    )  # fmt: skip
    for name in names:
        place, _, file = name.rpartition("/")
        assert file in writes, f"{name} is written where nobody kills"
        assert not place or place in writes
    assert "os.rename final_model " in f"{writes} "
