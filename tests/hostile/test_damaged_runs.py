"""Every reader and tool on runs with a damaged file: one line that names it, nothing harmed, no traceback, no hang.

`python -m tests.hostile.damaged_runs 2000` runs thousands of the same cases.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.damaged_files import WHOLE
from tests.hostile.damaged_runs import Case, cases, examine, make_run

pytestmark = pytest.mark.slow
RECORD = ("progress.jsonl", "experiment_report.json", "config.yaml")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("damaged"))


def is_record(case: Case) -> bool:
    return case.file in RECORD


def is_state(case: Case) -> bool:
    return case.file.endswith(("state.json", "manifest.json", "tokenizer.json"))


def is_model(case: Case) -> bool:
    return "final_model" in case.file or case.file.startswith("snapshots") or case.file.endswith("model.safetensors")


def is_surface(case: Case) -> bool:
    return case.file.startswith("landscape")


@pytest.mark.parametrize(
    ("is_chosen", "readers", "count"),
    [
        (is_record, ("monitor", "dashboard", "diagnosis", "landscape", "resume"), 14),
        (is_state, ("diagnosis", "verifier of a checkpoint", "resume", "resume of a checkpoint"), 12),
        (is_model, ("diagnosis", "verifier", "landscape"), 8),
        (is_surface, ("dashboard", "landscape"), 8),
        (lambda case: is_record(case) or is_surface(case), ("picture", "monitor figure", "export"), 3),
    ],
    ids=["record", "checkpoint", "model", "landscape", "pictures"],
)
def test_a_damaged_file_is_refused_or_passed_over_in_one_line(
    is_chosen: Callable[[Case], bool], readers: tuple[str, ...], count: int, whole: Path, tmp_path: Path
) -> None:
    every = [case for case in cases(whole, readers) if is_chosen(case)]
    faults = []
    for case in random.Random(0).sample(every, count):
        outcome = examine(case, whole, tmp_path)
        if outcome.fault:
            faults.append(f"{case}: {outcome.fault} {outcome.message}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("file", "readers"),
    [
        ("progress.jsonl", ("monitor", "dashboard", "diagnosis", "resume")),
        ("experiment_report.json", ("monitor", "dashboard", "diagnosis", "landscape", "resume")),
        ("config.yaml", ("monitor", "dashboard")),
        ("checkpoint_epoch_2/manifest.json", ("diagnosis", "resume")),
        ("checkpoint_epoch_2/state.json", ("diagnosis", "resume")),
        ("checkpoint_epoch_2/model.safetensors", ("diagnosis", "resume")),
        ("final_model.pt", ("diagnosis", "verifier")),
    ],
)
def test_no_reader_waits_for_what_is_no_file(file: str, readers: tuple[str, ...], whole: Path, tmp_path: Path) -> None:
    """One meeting of each reader with each file, in one of three forms in turn."""
    for number, reader in enumerate(readers, len(file)):
        what = ("pipe", "endless device", "nested without end")[number % 3]
        outcome = examine(Case(file, what, WHOLE[what], reader), whole, tmp_path)
        assert not outcome.fault, (reader, what, outcome)
