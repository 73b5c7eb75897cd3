"""A sample of the hostile cases, and the judge's own examination: it sees each planted fault, and none elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.cases import KINDS, LANGUAGE, hostile_case

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

SAMPLE = 6 * len(KINDS)
PLANTED = {
    "traceback": "traceback",
    "hang": "hang",
    "harmed": "harmed",
    "harmed by a refusal": "harmed",
    "exit code": "exit code",
    "silent": "silent",
    "long": "long",
    "raw": "raw",
    "sound": "",
}
"""Fault that is planted, and the kind that the judge should find."""


@pytest.fixture(scope="module")
def done() -> subprocess.CompletedProcess[str]:
    """Both of them in one process, which imports what is slow once; forks are made in one without threads."""
    words = ["-m", "tests.hostile", "--cases", str(SAMPLE), "--seed", "1", "--planted", *PLANTED]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


def test_a_case_is_a_function_of_seed_and_number() -> None:
    flags = dict.fromkeys(
        ("train.py", *(f"tools/{name}.py" for name in _TOOLS), *LANGUAGE),
        ("--epochs", "--run-dir", "--output", "--json"),
    )
    first = [hostile_case(3, number, flags) for number in range(300)]
    assert first == [hostile_case(3, number, flags) for number in range(300)]
    assert first != [hostile_case(4, number, flags) for number in range(300)]
    assert {case.kind for case in first} == set(KINDS)


_TOOLS = (
    *("verify_hlbd_model", "monitor_all_trainings", "diagnose_issues", "visualize_training", "loss_landscape"),
    *("export_model", "generate_hlbd_full", "generate_hlbd_hardcore"),
)


def test_the_judge_sees_every_planted_fault_and_none_in_a_sound_program(
    done: subprocess.CompletedProcess[str],
) -> None:
    found = done.stdout.splitlines()[: len(PLANTED)]
    assert found == [f"{fault} -> {kind}" for fault, kind in PLANTED.items()], done.stderr


def test_a_sample_of_hostile_cases_gets_one_line_each_and_harms_nothing(
    done: subprocess.CompletedProcess[str],
) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SAMPLE} cases" in done.stdout
    assert "faults: none" in done.stdout
