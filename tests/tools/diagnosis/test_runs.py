"""`tools/diagnose_issues.py` on runs: how each ended, what is damaged, and that the printed commands fix it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import FrontDoor
from tests.support.findings import do, the, worst, write
from tests.support.meanwhile import Meanwhile
from tools.diagnosis import runs
from tools.diagnosis.findings import Status
from training.checkpoints.run_directory import RunDirectory
from training.checkpoints.run_lock import is_locked
from training.record.reporter import ProgressReporter


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., Path]:
    """Make a run directory without checkpoints whose record ends in this state, updated that many seconds ago."""

    def make(end: str = "", seconds_ago: float = 0.0, name: str = "recorded") -> Path:
        run_dir = tmp_path / name
        run_dir.mkdir(parents=True)
        reporter = ProgressReporter(run_dir)
        reporter._clock = lambda: time.time() - seconds_ago
        reporter.run_started(backend="playground", total_steps=40, num_epochs=4, steps_per_epoch=10)
        reporter.step(step=7, epoch=1, batch=7, loss=0.25)
        reporter.checkpoint(run_dir / "checkpoint_step_5", step=5)
        if end == "failed":
            reporter.run_failed(RuntimeError("the disk is gone"))
        elif end == "stopped":
            reporter.run_stopped(reason="SIGTERM")
        elif end == "finished":
            reporter.run_finished(reason="all steps done")
        reporter.flush()
        return run_dir

    return make


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def test_a_finished_run_is_ok_and_its_newest_checkpoint_and_models_are_read(finished_run: Path) -> None:
    findings = list(runs.diagnose_run(finished_run))
    assert worst(findings) == []
    assert the(findings, "state").facts["state"] == "finished"
    assert the(findings, "checkpoints").facts == {
        "newest_good": "checkpoint_epoch_2",
        "older": ["checkpoint_epoch_1"],
        "damaged": [],
    }
    assert the(findings, "final model").facts["good"] == ["final_model.pt", "final_model"]
    assert the(findings, "disk use").facts["bytes"] > (finished_run / "final_model.pt").stat().st_size


@pytest.mark.parametrize(
    ("end", "state", "status"),
    [
        ("finished", "finished", Status.OK),
        ("stopped", "stopped", Status.OK),
        ("failed", "failed", Status.ERROR),
        ("", "stale", Status.WARNING),
    ],
)
def test_the_state_of_a_run_that_nobody_works_on(
    end: str, state: str, status: Status, recorded: Callable[..., Path]
) -> None:
    found = the(runs.diagnose_run(recorded(end)), "state")
    assert (found.facts["state"], found.status) == (state, status)
    assert "step 7 of 40" in found.message
    assert ("--resume" in found.fix) == (end != "finished")
    assert ("the disk is gone" in found.message) == (end == "failed")


@pytest.mark.parametrize(("seconds", "state", "status"), [(5, "running", Status.OK), (4000, "silent", Status.WARNING)])
def test_a_run_whose_lock_is_held_is_running_and_its_checkpoints_are_left_alone(
    seconds: float, state: str, status: Status, recorded: Callable[..., Path]
) -> None:
    run_dir = recorded(seconds_ago=seconds)
    (run_dir / "checkpoint_step_5").mkdir()  # empty: would not read
    claimed = RunDirectory(run_dir, resume=True)
    (run_dir / ".checkpoint_step_10.tmp").mkdir()
    findings = list(runs.diagnose_run(run_dir))
    claimed.release()
    assert (the(findings, "state").facts["state"], the(findings, "state").status) == (state, status)
    assert the(findings, "checkpoints").message == "newest checkpoint_step_5; not read, because the run is at work"
    assert not [f for f in findings if f.subject == "leftovers"]
    assert the(runs.diagnose_run(run_dir), "state").facts["state"] == "stale"


def test_a_directory_that_vanishes_while_it_is_counted_is_no_fault(recorded: Callable[..., Path]) -> None:
    """Rename a directory meanwhile, as a running run does when it gives a checkpoint its final name."""
    run_dir = recorded()
    saved, saving = run_dir / "checkpoint_step_5", run_dir / ".checkpoint_step_5.tmp"
    saved.mkdir()
    (saved / "weights").write_bytes(bytes(10))
    over = threading.Event()

    def save_again_and_again() -> None:
        while not over.is_set():
            saved.rename(saving)
            saving.rename(saved)

    with Meanwhile(save_again_and_again):
        try:
            looks = [the(runs.diagnose_run(run_dir), "disk use").facts["files"] for _ in range(40)]
        finally:
            over.set()
    assert set(looks) <= {2, 3}, "the record's files, and now and then the checkpoint's"


def test_the_lock_probe_never_takes_the_place_of_a_run(recorded: Callable[..., Path]) -> None:
    run_dir = recorded()
    assert is_locked(run_dir) is False
    assert not (run_dir / ".lock").exists()
    claimed = RunDirectory(run_dir, resume=True)
    assert is_locked(run_dir) is True
    claimed.release()


def test_a_damaged_newest_checkpoint_is_named_beside_the_good_one_and_the_fix_takes_it_away(
    finished_run: Path, front_door: FrontDoor
) -> None:
    flip_a_byte(finished_run / "checkpoint_epoch_2" / "optimizer.safetensors")
    found = the(runs.diagnose_run(finished_run), "checkpoints")
    assert found.status is Status.WARNING
    assert found.facts == {
        "newest_good": "checkpoint_epoch_1",
        "older": [],
        "damaged": ["checkpoint_epoch_2"],
    }
    assert "checkpoint_epoch_2/optimizer.safetensors: damaged" in found.details[0]
    do(found.fix, front_door)
    assert worst(runs.diagnose_run(finished_run)) == []
    assert (finished_run / "damaged_checkpoint_epoch_2" / "state.json").is_file(), "no advice deletes anything"


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "state.json", "tokenizer.json"])
def test_a_checkpoint_with_a_file_cut_short_or_lost_is_damaged_too(name: str, finished_run: Path) -> None:
    path = finished_run / "checkpoint_epoch_2" / name
    path.write_bytes(path.read_bytes()[:100])
    assert the(runs.diagnose_run(finished_run), "checkpoints").facts["damaged"] == ["checkpoint_epoch_2"]
    path.unlink()
    assert the(runs.diagnose_run(finished_run), "checkpoints").facts["damaged"] == ["checkpoint_epoch_2"]


def test_an_unfinished_run_without_a_good_checkpoint_is_an_error_and_can_be_started_anew(
    finished_run: Path, front_door: FrontDoor
) -> None:
    for path in finished_run.glob("checkpoint_*"):
        flip_a_byte(path / "model.safetensors")
    assert worst(runs.diagnose_run(finished_run)) == [("checkpoints", Status.WARNING)], "its model is there"
    report = json.loads((finished_run / "experiment_report.json").read_text(encoding="utf-8"))
    write(finished_run / "experiment_report.json", report | {"state": "stopped"})
    found = the(runs.diagnose_run(finished_run), "checkpoints")
    assert found.status is Status.ERROR
    assert found.facts["damaged"] == ["checkpoint_epoch_2", "checkpoint_epoch_1"]
    do(found.fix, front_door)
    assert worst(runs.diagnose_run(finished_run.with_name("run_again"))) == []
    assert (finished_run / "checkpoint_epoch_1").is_dir(), "no advice deletes anything"


@pytest.mark.parametrize("name", ["final_model.pt", "final_model/model.safetensors", "final_model/tokenizer.json"])
def test_a_damaged_final_model_is_an_error_and_resuming_writes_it_again(
    name: str, finished_run: Path, front_door: FrontDoor
) -> None:
    path = finished_run / name
    path.write_bytes(path.read_bytes()[:-200])
    found = [f for f in runs.diagnose_run(finished_run) if f.status is not Status.OK]
    assert [(f.subject, f.status) for f in found] == [("final model", Status.ERROR)]
    assert name.partition("/")[0] in found[0].message
    do(found[0].fix, front_door)
    assert worst(runs.diagnose_run(finished_run)) == []


def test_temporary_files_of_a_kill_are_named_and_the_fix_deletes_them(
    finished_run: Path, front_door: FrontDoor
) -> None:
    (finished_run / ".checkpoint_epoch_3.tmp").mkdir()
    (finished_run / ".checkpoint_epoch_2.old").mkdir()  # replaced, and not yet deleted
    (finished_run / ".final_model.pt.tmp").write_bytes(b"half")
    found = the(runs.diagnose_run(finished_run), "leftovers")
    assert found.status is Status.WARNING
    do(found.fix, front_door)
    assert worst(runs.diagnose_run(finished_run)) == []


def test_a_checkpoint_that_a_kill_left_aside_is_no_rubbish_and_resuming_puts_it_back(
    finished_run: Path, front_door: FrontDoor
) -> None:
    (finished_run / "checkpoint_epoch_2").rename(finished_run / ".checkpoint_epoch_2.old")
    found = the(runs.diagnose_run(finished_run), "leftovers")
    assert "checkpoint_epoch_2 was being replaced" in found.message
    do(found.fix, front_door)
    assert the(runs.diagnose_run(finished_run), "checkpoints").facts["newest_good"] == "checkpoint_epoch_2"
    assert worst(runs.diagnose_run(finished_run)) == []


def test_a_lost_report_is_read_back_from_the_log_and_resuming_writes_it_again(
    finished_run: Path, front_door: FrontDoor
) -> None:
    before = the(runs.diagnose_run(finished_run), "state").facts
    (finished_run / "experiment_report.json").write_bytes(b'{"state": "fin')
    findings = list(runs.diagnose_run(finished_run))
    assert worst(findings) == [("report", Status.WARNING)]
    assert the(findings, "state").facts == before
    do(the(findings, "report").fix, front_door)
    assert worst(runs.diagnose_run(finished_run)) == []


def test_runs_are_found_at_any_depth_once_and_never_in_hidden_or_virtual_environments(
    tmp_path: Path, recorded: Callable[..., Path]
) -> None:
    for name in ("one", "deep/er/two", ".hidden/three", "env/lib/four"):
        recorded("finished", name=name)
    (tmp_path / "env" / "pyvenv.cfg").write_text("", encoding="utf-8")
    found = [f.section for f in runs.diagnose_runs([tmp_path, tmp_path / "deep"]) if f.subject == "state"]
    assert [Path(section).name for section in found] == ["two", "one"]


def test_no_run_at_all_is_no_fault(tmp_path: Path) -> None:
    assert worst(runs.diagnose_runs([tmp_path])) == []
