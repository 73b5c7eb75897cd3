"""A row of the index: what a run directory holds, and the state that only the present moment shows."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.recorded_runs import RecordedRun
from tests.training.experiments.store.conftest import Record
from training.checkpoints.run_directory import RunDirectory
from training.checkpoints.run_lock import LOCK_NAME, RunLock
from training.errors import UserError
from training.experiments.store.index import ExperimentStore
from training.experiments.store.query import Query
from training.record.log import LOG_NAME, REPORT_NAME


def at_work(root: Path, name: str = "a") -> RecordedRun:
    """Return a run whose last event is of this moment."""
    return RecordedRun(root / name, start=time.time() - 20.0).train(20).flush()


def test_a_run_at_work_has_a_speed_and_a_time_that_is_left(root: Path, store: ExperimentStore) -> None:
    at_work(root)
    (row,) = store.runs()
    assert (row.state, row.speed, row.eta_seconds) == ("running", 1000.0, 80.0)
    assert [r.name for r in store.runs(Query(where="speed > 999 and eta_seconds = 80 and progress = 0.2"))] == ["a"]
    assert [r.name for r in store.runs(Query(states=["running"]))] == ["a"]


@pytest.mark.slow
def test_a_run_whose_process_was_killed_is_lost_and_one_whose_process_lives_is_not(
    root: Path, store: ExperimentStore
) -> None:
    run = at_work(root)
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom training.checkpoints.run_lock import RunLock\n"
        f"lock = RunLock.take(Path({str(run.path)!r}))\nprint('held', flush=True)\ntime.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    store.refresh()
    assert store.run("a").state == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    row = store.run("a")  # no file has changed, and nothing was read again
    assert (row.state, row.speed, row.alerts[0]["message"]) == ("lost", None, "lost at step 20: its process is gone")
    assert row.alerts[0]["message_zh"] == "在第 20 步失联：训练进程已不在"
    assert store.count(Query(where="state = 'lost'")) == 1


def test_a_process_number_that_another_process_has_now_is_not_the_run_s(root: Path, store: ExperimentStore) -> None:
    run = at_work(root)
    lock = RunLock.take(run.path)
    assert lock is not None
    document = json.loads((run.path / LOCK_NAME).read_text())
    lock.release()
    document["process"] = document["process"].rpartition("/")[0] + "/1"  # the same pid, started at another time
    (run.path / LOCK_NAME).write_text(json.dumps(document))
    assert store.run("a").state == "lost"
    (run.path / LOCK_NAME).write_text(json.dumps({**document, "host": "another computer"}))
    assert store.run("a").state == "running", "of a process elsewhere nothing is known"


def test_a_silent_run_is_stalled(record: Record, store: ExperimentStore) -> None:
    record("a").train(20).flush()
    (row,) = store.runs()
    assert (row.state, row.alerts[0]["kind"]) == ("stalled", "stalled")


@pytest.mark.parametrize("lost", [LOG_NAME, REPORT_NAME, "config.yaml"])
def test_a_part_that_is_missing_hides_no_run(lost: str, record: Record, store: ExperimentStore) -> None:
    run = record("a").train().finish()
    (run.path / lost).unlink()
    (row,) = store.runs()
    assert (row.state, row.step) == ("finished", 100)
    assert bool(store.settings(row.id)) == (lost != "config.yaml")


def test_a_record_that_cannot_be_used_is_a_row_that_says_why(record: Record, store: ExperimentStore) -> None:
    run = record("a").train().finish()
    (run.path / REPORT_NAME).unlink()
    (run.path / LOG_NAME).write_bytes(b"garbage\n" * 10)
    (row,) = store.runs()
    assert (row.state, row.reason) == ("unreadable", "progress.jsonl: it is damaged, no run begins in it")
    assert [alert["kind"] for alert in row.alerts] == ["unreadable"]


def test_damaged_annotations_are_said_and_not_replaced(record: Record, store: ExperimentStore) -> None:
    run = record("a").train().finish()
    (run.path / "annotations.json").write_text("{")
    (row,) = store.runs()
    assert (row.tags, row.alerts[0]["message"][:26]) == ([], "annotations.json: damaged,")
    with pytest.raises(UserError, match=r"annotations\.json: damaged, "):
        store.annotate(row.id, tags=["x"])
    assert (run.path / "annotations.json").read_text() == "{"


def test_a_run_that_begins_again_loses_its_tags(record: Record, store: ExperimentStore) -> None:
    run = record("a").train().finish()
    store.annotate(store.run("a").id, tags=["x"])
    RunDirectory(run.path, overwrite=True).release()
    record("a").flush()
    store.refresh()
    assert store.run("a").tags == []


def test_a_run_that_was_moved_is_another_run(record: Record, store: ExperimentStore, root: Path) -> None:
    record("a").train().finish()
    old = store.run("a").id
    (root / "a").rename(root / "b")
    changes = store.refresh()
    assert changes.removed == (old,)
    assert [row.name for row in store.runs()] == ["b"]


def test_checkpoints_are_counted_and_hidden_runs_are_not_found(record: Record, store: ExperimentStore) -> None:
    run = record("a").train().finish()
    for name in ("checkpoint_step_10", "checkpoint_best", "figures"):
        (run.path / name).mkdir()
    shutil.copytree(run.path, run.path.parent / ".hidden" / "a")
    (row,) = store.runs()
    assert row.num_checkpoints == 2
    assert store.figures(row.id)["num_checkpoints"] == 2.0


def test_a_name_that_is_no_text_is_a_row_too(root: Path, record: Record, store: ExperimentStore) -> None:
    path = record("a").train().finish().path
    path.rename(root / os.fsdecode(b"a\xff"))
    (row,) = store.runs()
    assert row.name == r"a\udcff"
    assert store.run_path(row.id) == root / os.fsdecode(b"a\xff")
    assert store.annotate(row.id, tags=["\u4e2d\u6587"]).tags == ["中文"]


def test_settings_keep_their_values_and_types(record: Record, store: ExperimentStore) -> None:
    settings = {
        "own": {"none": None, "yes": True, "one": 1, "half": 0.5, "words": ["a", 2], "huge": 10**30, "text": "é"}
    }
    record("a", settings=settings).flush()
    found = store.settings(store.run("a").id)
    assert {key.removeprefix("own."): value for key, value in found.items() if key.startswith("own.")} == settings[
        "own"
    ]
    assert store.values_of(["own.yes", "one", "none"], [store.run("a").id]) == {
        "own.yes": {store.run("a").id: True},
        "one": {store.run("a").id: 1},
        "none": {store.run("a").id: None},
    }
