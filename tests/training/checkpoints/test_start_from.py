"""A job that a cluster may start again: `--resume --start-from DIR` is right the first time and every other time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors.numpy import load_file

from training.azure.service.job_file import JOB_NAME
from training.checkpoints.manifest import checkpoint_directories
from training.checkpoints.start_from import parts_to_go_on_from
from training.record.reporter import read_report

if TYPE_CHECKING:
    from tests.conftest import FrontDoor, TinyDataset


@pytest.fixture
def flags(tiny_flags: list[str], tiny_dataset: TinyDataset) -> list[str | Path]:
    """Twelve updates, a checkpoint every two."""
    return [*tiny_flags, "--datasets", tiny_dataset(), "--epochs", "6", "--save-interval", "1", "--dropout", "0.1"]


@pytest.fixture
def begun(front_door: FrontDoor, flags: list[str | Path], tmp_path: Path) -> Path:
    """The same run, as it was when four of its updates were done."""
    assert front_door([*flags, "--run-dir", tmp_path / "begun", "--max-steps", "4"]).exit_code == 0
    shutil.rmtree(tmp_path / "begun" / "final_model")
    (tmp_path / "begun" / "final_model.pt").unlink()
    return tmp_path / "begun"


def weights(run_dir: Path) -> dict[str, bytes]:
    return {name: tensor.tobytes() for name, tensor in load_file(run_dir / "final_model" / "model.safetensors").items()}


def steps(run_dir: Path) -> list[int]:
    report = read_report(run_dir)
    assert report is not None
    told: list[int] = report["curve"]["step"]
    return told


def test_the_copy_goes_on_exactly_where_the_run_stood(
    front_door: FrontDoor, flags: list[str | Path], begun: Path, tmp_path: Path
) -> None:
    assert front_door([*flags, "--run-dir", tmp_path / "whole"]).exit_code == 0
    before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
    done = front_door([*flags, "--run-dir", tmp_path / "copy", "--resume", "--start-from", begun])
    assert done.exit_code == 0, done.stderr
    assert "at step 4 of 12" in done.stdout
    assert weights(tmp_path / "copy") == weights(tmp_path / "whole")
    assert steps(tmp_path / "copy") == list(range(1, 13)), "the record came along"
    assert {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()} == before


def test_started_again_the_job_goes_on_with_its_own_checkpoints(
    front_door: FrontDoor, flags: list[str | Path], begun: Path, tmp_path: Path
) -> None:
    job = [*flags, "--run-dir", tmp_path / "job", "--resume", "--start-from", begun]
    assert front_door([*job, "--max-steps", "8"]).exit_code == 0
    again = front_door(job)
    assert "at step 8 of 12" in again.stdout
    assert steps(tmp_path / "job") == list(range(1, 13))


def test_a_copy_that_was_cut_short_is_made_again(
    front_door: FrontDoor, flags: list[str | Path], begun: Path, tmp_path: Path
) -> None:
    torn = tmp_path / "job"
    torn.mkdir()
    log = (begun / "progress.jsonl").read_bytes()
    (torn / "progress.jsonl").write_bytes(log[: len(log) // 2])
    (torn / ".checkpoint_epoch_2.tmp").mkdir()
    (torn / ".checkpoint_epoch_2.tmp" / "model.safetensors").write_bytes(b"half")
    assert front_door([*flags, "--run-dir", torn, "--resume", "--start-from", begun]).exit_code == 0
    assert steps(torn) == list(range(1, 13))


def test_one_checkpoint_of_a_run_can_be_chosen(
    front_door: FrontDoor, flags: list[str | Path], begun: Path, tmp_path: Path
) -> None:
    earlier = begun / "checkpoint_epoch_1"
    done = front_door([*flags, "--run-dir", tmp_path / "job", "--resume", "--start-from", earlier, "--max-steps", "3"])
    assert "at step 2 of 3" in done.stdout, done.stderr
    assert steps(tmp_path / "job") == [1, 2, 3]


def test_a_damaged_newest_checkpoint_is_not_the_one_to_start_from(
    front_door: FrontDoor, flags: list[str | Path], begun: Path, tmp_path: Path
) -> None:
    with (begun / "checkpoint_epoch_2" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\0")
        file.seek(-2, 2)
        file.write(b"\1")
    done = front_door([*flags, "--run-dir", tmp_path / "job", "--resume", "--start-from", begun, "--max-steps", "3"])
    assert "at step 2 of 3" in done.stdout, done.stderr


def test_a_refused_run_leaves_no_copy_behind(
    front_door: FrontDoor, flags: list[str | Path], begun: Path, tmp_path: Path
) -> None:
    """A copy that stayed looked like a run of its own, in the monitor and to the next `--resume`."""
    job = [*flags, "--run-dir", tmp_path / "job", "--resume", "--start-from", begun]
    refusal = front_door([*job, "--learning-rate", "0.5"])
    assert (refusal.exit_code, refusal.stderr.count("\n")) == (2, 1)
    assert "learning_rate was 0.0003 in the run and is 0.5 now" in refusal.stderr
    assert not (tmp_path / "job").exists()
    assert front_door(job).exit_code == 0


def test_a_best_checkpoint_later_than_the_chosen_one_does_not_come_along(
    front_door: FrontDoor, flags: list[str | Path], begun: Path, tmp_path: Path
) -> None:
    assert front_door(["--resume", begun, "--max-steps", "6", "--keep-best"]).exit_code == 0
    assert (begun / "checkpoint_best").is_dir()
    parts = parts_to_go_on_from(begun / "checkpoint_epoch_2")
    assert [part.name for part in parts] == [
        "progress.jsonl", "experiment_report.json", "config.yaml", "checkpoint_epoch_2",
    ]  # fmt: skip
    assert [part.name for part in parts_to_go_on_from(begun)][-2:] == ["checkpoint_best", "checkpoint_epoch_3"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--start-from", "begun"], "--start-from begun is for a run that goes on; give --resume with it"),
        (["--resume", "begun", "--start-from", "begun"], "both say where to go on from"),
        (["--resume", "--start-from", "nowhere"], "nowhere: no checkpoint to go on from: there is none in it"),
    ],
)
def test_what_cannot_be_started_from_is_one_line_and_writes_nothing(
    words: list[str],
    told: str,
    front_door: FrontDoor,
    flags: list[str | Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    refusal = front_door([*flags, "--run-dir", "job", *words])
    assert refusal.exit_code == 2
    assert told in refusal.stderr
    assert refusal.stderr.count("\n") == 1
    assert not (tmp_path / "job").exists()


def test_a_jobs_record_is_not_taken_for_a_run_that_could_go_on_here(
    front_door: FrontDoor, flags: list[str | Path], begun: Path
) -> None:
    """What `--backend azure` leaves here is a record and a model; its checkpoints are in the datastore."""
    (begun / JOB_NAME).write_text("{}")
    checkpoints = checkpoint_directories(begun)
    hidden = [path.rename(begun.parent / path.name) for path in checkpoints]
    log = (begun / "progress.jsonl").read_bytes()
    refusal = front_door([*flags, "--run-dir", begun, "--resume"])
    assert refusal.exit_code == 2
    assert "holds the record of a job, whose checkpoints are in Azure" in refusal.stderr
    assert "tools/azure_jobs.py download --what all --run-dir" in refusal.stderr
    assert (begun / "progress.jsonl").read_bytes() == log

    for path in hidden:
        path.rename(begun / path.name)
    assert front_door([*flags, "--run-dir", begun, "--resume"]).exit_code == 0
    assert not (begun / JOB_NAME).exists(), "from here on the run is this machine's"
