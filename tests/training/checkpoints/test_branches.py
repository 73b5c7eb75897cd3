"""Branches that a run has left: set aside whole, so that the newest checkpoint is always that of the run itself."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.numpy import load_file

from tools.diagnosis.runs import diagnose_run
from training.checkpoints.branches import set_aside_later
from training.checkpoints.checkpoint import list_checkpoints, save_checkpoint
from training.checkpoints.run_directory import RunDirectory
from training.checkpoints.run_search import find_runs
from training.record.reporter import read_report

if TYPE_CHECKING:
    from tests.conftest import FrontDoor, TinyDataset


def steps_in(run_dir: Path) -> dict[str, int]:
    return {path.name: step for step, path in list_checkpoints(run_dir)[0]}


def weights(run_dir: Path) -> dict[str, bytes]:
    return {name: tensor.tobytes() for name, tensor in load_file(run_dir / "final_model" / "model.safetensors").items()}


@pytest.fixture(scope="module")
def _twelve_updates(front_door: FrontDoor, tiny_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.conftest import write_tiny_dataset

    directory = tmp_path_factory.mktemp("twelve")
    data = write_tiny_dataset(directory / "tiny.json")
    where: list[str | Path] = ["--datasets", data, "--run-dir", directory / "run"]
    assert front_door([*tiny_flags, *where, "--epochs", "6", "--save-steps", "4"]).exit_code == 0
    return directory / "run"


@pytest.fixture
def run(_twelve_updates: Path, tmp_path: Path) -> Path:
    """A finished run of twelve updates, with checkpoints after 4, 8 and 12."""
    return Path(shutil.copytree(_twelve_updates, tmp_path / "run"))


def test_going_on_from_an_earlier_checkpoint_leaves_the_later_ones_as_a_run_of_their_own(
    front_door: FrontDoor, run: Path
) -> None:
    twelve = weights(run)
    back = front_door(["--resume", run / "checkpoint_step_4", "--max-steps", "8"])
    assert back.exit_code == 0, back.stderr
    branch = run / "abandoned_at_step_4"
    line = next(line for line in back.stdout.splitlines() if line.startswith("left "))
    assert "checkpoint_step_12, checkpoint_step_8, final_model.pt, final_model" in line
    assert f"--resume {branch}" in line
    assert steps_in(run) == {"checkpoint_step_8": 8, "checkpoint_step_4": 4}

    on = front_door(["--resume", run, "--max-steps", "10"])
    assert f"resumed from {run}/checkpoint_step_8 at step 8 of 10" in on.stdout, on.stderr
    report = read_report(run)
    assert report is not None
    assert (report["step"], report["curve"]["step"]) == (10, list(range(1, 11)))
    assert list(find_runs([run.parent], [])) == [run], "a branch that was left is no run of its own there"
    assert not [finding for finding in diagnose_run(run) if finding.status.name != "OK"]

    again = front_door(["--resume", branch, "--max-steps", "12"])
    assert again.exit_code == 0, again.stderr
    assert weights(branch) == twelve, "the branch is whole: its settings, its record and its last checkpoint"
    old_report = read_report(branch)
    assert old_report is not None
    assert old_report["curve"]["step"] == list(range(1, 13))


def test_pruning_does_not_take_the_branchs_checkpoints_for_the_newest(front_door: FrontDoor, run: Path) -> None:
    assert front_door(["--resume", run / "checkpoint_step_4", "--max-steps", "8", "--keep-last", "1"]).exit_code == 0
    assert steps_in(run) == {"checkpoint_step_8": 8}


def test_a_run_that_has_done_more_than_it_now_should_is_refused_with_a_choice(front_door: FrontDoor, run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    refusal = front_door(["--resume", run, "--max-steps", "10"])
    assert refusal.exit_code == 2
    assert refusal.stderr == (
        f"error: --resume {run}/checkpoint_step_12: it holds 12 updates, and the run is now to end after 10; raise "
        f"--max-steps or --epochs, or go on from an earlier checkpoint (--resume {run}/checkpoint_step_8 or "
        f"{run}/checkpoint_step_4)\n"
    )
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_two_runs_do_not_become_one(
    front_door: FrontDoor, run: Path, tiny_flags: list[str], tiny_dataset: TinyDataset, tmp_path: Path
) -> None:
    where: list[str | Path] = ["--datasets", tiny_dataset(), "--epochs", "2", "--run-dir", tmp_path / "other"]
    assert front_door([*tiny_flags, *where]).exit_code == 0
    refusal = front_door(["--resume", run / "checkpoint_step_4", "--run-dir", tmp_path / "other"])
    assert refusal.exit_code == 2
    assert "holds another run (checkpoint_epoch_2); choose another --run-dir" in refusal.stderr


def test_a_branch_that_an_older_version_left_in_its_place_is_not_taken_in_silence(
    front_door: FrontDoor, run: Path
) -> None:
    later = run / "checkpoint_step_12"
    later.rename(run.parent / "kept")
    assert front_door(["--resume", run / "checkpoint_step_4", "--max-steps", "8"]).exit_code == 0
    (run.parent / "kept").rename(later)
    told = f"{later} holds 12 updates, and the record in {run} knows of 8"
    assert told in front_door(["--resume", run, "--max-steps", "14"]).stdout


def payload(step: int) -> dict[str, Any]:
    return {"kind": "checkpoint", "step": step, "engine": {}}


def test_any_name_of_a_checkpoint_is_set_aside_and_a_damaged_one_that_does_not_say_its_step_stays(
    tmp_path: Path,
) -> None:
    for name, step in {"checkpoint-2": 2, "checkpoint-4": 4, "checkpoint_best": 3, "checkpoint_epoch_9": 5}.items():
        save_checkpoint(tmp_path / name, payload(step))
    (tmp_path / "checkpoint_epoch_9" / "state.json").write_bytes(b"damaged")
    save_checkpoint(tmp_path / "checkpoint_step_7", payload(7))
    (tmp_path / "checkpoint_step_7" / "manifest.json").write_bytes(b"damaged")
    assert set_aside_later(tmp_path, 2) == (
        tmp_path / "abandoned_at_step_2",
        ["checkpoint_epoch_9", "checkpoint-4", "checkpoint_best"],
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "abandoned_at_step_2", "checkpoint-2", "checkpoint_step_7",
    ]  # fmt: skip
    assert set_aside_later(tmp_path, 2) is None
    save_checkpoint(tmp_path / "checkpoint-3", payload(3))
    assert set_aside_later(tmp_path, 2) == (tmp_path / "abandoned_at_step_2_2", ["checkpoint-3"])


def test_overwriting_deletes_the_branches_too(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint_step_2", payload(2))
    set_aside_later(tmp_path, 1)
    (tmp_path / "notes").write_text("mine")
    RunDirectory(tmp_path, overwrite=True).release()
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
