"""The index of runs: it shows what their directories hold, and can be made again at any time."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.experiments.store.conftest import START, Record
from training.checkpoints.run_lock import RunLock
from training.errors import UserError
from training.experiments.store.database import DATABASE_NAME
from training.experiments.store.identity import SERVER_DIRECTORY
from training.experiments.store.index import ExperimentStore
from training.experiments.store.query import Query
from training.storage.atomic import delete


def test_a_row_shows_what_the_run_s_directory_holds(store: ExperimentStore, record: Record) -> None:
    record("sweep/a", validation=lambda epoch: 1.0 / epoch).train().finish()
    store.refresh()
    (row,) = store.runs()
    assert (row.name, row.state, row.step, row.total_steps, row.progress) == ("sweep/a", "finished", 100, 100, 1.0)
    assert (row.val_loss, row.best_loss, row.best_step) == (0.1, 0.1, 100)
    assert (row.started_at, row.ended_at, row.training_seconds) == (START, START + 100.0, 100.0)
    assert row.metrics == {"accuracy": 0.4}
    assert len(row.sparkline) == 40
    assert store.settings(row.id)["data.loss_on"] == "answer"
    assert store.figures(row.id)["val_accuracy"] == 0.4
    assert json.loads(json.dumps(row.to_dict(), allow_nan=False))["reason"] == "all steps done"


def test_a_loss_that_is_not_finite_stays_one(store: ExperimentStore, record: Record) -> None:
    record("a", loss=lambda step: math.nan).train(10).flush()
    record("b").flush()  # has no loss yet
    store.refresh()
    first, second = store.runs(Query(sort="name"))
    assert first.loss is not None
    assert math.isnan(first.loss)
    assert second.loss is None
    assert (first.to_dict()["loss"], first.to_dict()["nonfinite"]) == (None, ["loss"])
    assert math.isnan(store.figures(first.id)["loss"])
    assert [row.name for row in store.runs(Query(where="loss is nan"))] == ["a"]
    assert [row.name for row in store.runs(Query(where="loss is null"))] == ["b"]


def test_a_deleted_file_is_made_again_with_the_same_rows(store: ExperimentStore, record: Record, root: Path) -> None:
    record("a").train().finish()
    before = store.runs()
    (root / SERVER_DIRECTORY / DATABASE_NAME).unlink()
    assert store.runs() == before
    assert len(before) == 1


def test_a_damaged_file_is_set_aside_and_made_again(
    store: ExperimentStore, record: Record, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record("a").train().finish()
    before = store.runs()
    path = root / SERVER_DIRECTORY / DATABASE_NAME
    path.write_bytes(b"no database" * 1000)
    assert store.runs() == before
    assert "moved to experiments.sqlite.damaged, and the index of the runs is made again" in capsys.readouterr().err
    assert path.with_name("experiments.sqlite.damaged").read_bytes().startswith(b"no database")


def test_tags_and_note_lie_in_the_run_s_directory(store: ExperimentStore, record: Record, root: Path) -> None:
    record("a").train().finish()
    store.refresh()
    (row,) = store.runs()
    assert store.annotate(row.id, tags=["good", "baseline"], note="the first one").tags == ["baseline", "good"]
    assert store.tag(row.id, add=["new"], remove=["good"]).tags == ["baseline", "new"]
    assert json.loads((root / "a" / "annotations.json").read_text())["note"] == "the first one"
    assert store.annotate(row.id, archived=True).archived
    assert store.runs() == []
    assert [r.note for r in store.runs(Query(archived=True))] == ["the first one"]


def test_only_what_a_run_wrote_is_deleted(store: ExperimentStore, record: Record, root: Path) -> None:
    record("a").train().finish()
    record("b").train().finish()
    (root / "b" / "my notes.txt").write_text("mine")
    store.annotate(store.run("b").id, tags=["x"])
    assert store.delete(store.run("a").id).kept == ()
    assert store.delete(store.run("b").id).kept == ("my notes.txt",)
    assert not (root / "a").exists()
    assert store.runs(Query(archived=None)) == []


def test_a_run_at_work_is_not_deleted(store: ExperimentStore, record: Record, root: Path) -> None:
    record("a").train(10).flush()
    lock = RunLock.take(root / "a")
    assert lock is not None
    with pytest.raises(UserError, match=r"^run a: a process \(pid \d+, since .*\) is training in it; stop it first$"):
        store.delete(store.run("a").id)
    lock.release()
    assert (root / "a" / "progress.jsonl").is_file()


def test_a_deletion_that_broke_off_can_be_repeated(
    store: ExperimentStore, record: Record, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record("a").train().finish()
    (root / "a" / "checkpoint_step_10").mkdir()
    (root / "a" / "final_model").mkdir()

    def refuse(path: Path) -> None:
        if path.name == "final_model":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        delete(path)

    with monkeypatch.context() as patched:
        patched.setattr("training.checkpoints.run_directory.delete", refuse)
        with pytest.raises(
            UserError, match=r"^run a: it could not be deleted whole \(Input/output error\); delete it a"
        ):
            store.delete(store.run("a").id)
    assert [row.num_checkpoints for row in store.runs()] == [0]
    assert store.delete(store.run("a").id).kept == ()
    assert not (root / "a").exists()


def test_nothing_is_changed_behind_a_link_that_leads_out_of_the_root(
    store: ExperimentStore, record: Record, root: Path, tmp_path: Path
) -> None:
    record("a").train().finish()
    row = store.run("a")
    (root / "a").rename(tmp_path / "elsewhere")
    (root / "a").symlink_to(tmp_path / "elsewhere")
    before = sorted((tmp_path / "elsewhere").iterdir())
    changes: list[Callable[[], object]] = [lambda: store.annotate(row.id, tags=["x"]), lambda: store.delete(row.id)]
    for change in changes:
        with pytest.raises(UserError, match="a link leads out of"):
            change()
    assert sorted((tmp_path / "elsewhere").iterdir()) == before


@pytest.mark.parametrize("asked", ["sweep/a", "a", "a/"])
def test_a_run_is_found_by_its_name(asked: str, store: ExperimentStore, record: Record) -> None:
    record("sweep/a").flush()
    record("sweep/b").flush()
    assert store.run(asked).name == "sweep/a"
    assert store.run(store.run(asked).id[:6]).name == "sweep/a"


def test_a_run_that_is_not_there_is_one_line(store: ExperimentStore, record: Record) -> None:
    record("sweep/first").flush()
    record("other/first").flush()
    with pytest.raises(UserError, match=r"^run frist: there is no such run below .*; did you mean 'first'\?$"):
        store.run("frist")
    with pytest.raises(UserError, match=r"^run first: 2 runs may be meant; write one of other/first \(.{12}\), sw"):
        store.run("first")


def test_a_real_run_is_a_row_with_its_settings_and_checkpoints(finished_run: Path) -> None:
    with ExperimentStore(finished_run.parent) as store:
        (row,) = store.runs(Query(where="task = 'hlbd' and model = 'apt' and learning_rate > 0 and step = total_steps"))
        assert (row.name, row.state, row.step, row.progress, row.alerts) == ("run", "finished", 4, 1.0, [])
        assert row.num_checkpoints == len(list(finished_run.glob("checkpoint_*")))
        assert store.settings(row.id)["model.model"] == "apt"
        assert store.figures(row.id)["loss"] == row.loss
        assert store.delete(row.id).kept == ()
    assert not finished_run.exists()
    assert (finished_run.parent / "tiny.json").exists()
