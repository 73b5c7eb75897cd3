"""An index that was kept up to date holds what one holds that is made again, whatever has happened to the runs."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded_runs import RecordedRun
from tests.training.experiments.store.conftest import START
from training.errors import UserError
from training.experiments.store.database import Database
from training.experiments.store.index import ExperimentStore
from training.record.log import LOG_NAME, REPORT_NAME

TABLES = {
    "runs": "id, path, name, run_id, recorded, backend, task, model, device, reason, started_at, updated_at, ended_at, "
    "seconds_per_step, units_per_second, allowed_silence, note, archived, details",
    "settings": "run, key, kind, value, json",
    "figures": "run, name, value, is_nan",
    "tags": "run, tag",
}


def rows_of(root: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of an index, without what the files were like when they were read."""
    database = Database(root)
    with database.reading() as connection:
        found = {
            table: connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1, 2").fetchall()
            for table, columns in TABLES.items()
        }
    database.close()
    return found


def made_again(root: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of a new index of the same runs: of a copy, so that the index of the root stays as it is."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / root.name
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns(".server"))
        with ExperimentStore(copy) as store:
            store.refresh()
        return rows_of(copy)


class World:
    """Runs below a root to which things happen, and a store that follows them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs: dict[str, RecordedRun] = {}
        self.ahead = 0.0
        self.store = ExperimentStore(root, clock=lambda: time.time() + self.ahead)

    def happen(self, event: str, name: str, number: int) -> None:
        """Let one thing happen to a run; to a run that is not there nothing happens but its start."""
        run = self.runs.get(name)
        if event == "refresh":
            self.store.refresh(search=number % 3 > 0)
        elif event == "time passes":  # so that what is read now is known by its files' times
            time.sleep(0.01)
            self.ahead += 10.0
            self.store.refresh()
            self.ahead -= 10.0
            time.sleep(0.01)
        elif run is None or event == "start":
            losses = [1.0, math.nan, 3.0]
            self.runs[name] = RecordedRun(
                self.root / name,
                start=START + number,
                total_steps=30,
                loss=lambda step: losses[(step + number) % 3] / step,
                validation=lambda epoch: math.nan if (epoch + number) % 3 == 0 else 1.0 / epoch,
                settings={"run": {"seed": number, "precision": "fp16"}, "schedule": {"learning_rate": 10.0**-number}},
            ).flush()
        elif event == "train":
            run.train(min(number, run.total_steps - run.step)).flush()
        elif event == "finish":
            run.finish()
        elif event == "fail":
            run.reporter.run_failed(RuntimeError("no"))
        elif event == "resume":
            self.runs[name] = run.resume(min(number, run.step))
        elif event == "conclude":
            run.reporter.conclusion({"answers": {"right": number, "asked": 9}, "note": "text"})
        elif event == "tag":
            self.store.refresh()
            with contextlib.suppress(UserError):  # damaged annotations are not replaced
                self.store.annotate(self.store.run(name).id, tags=[f"tag{number}"], note=f"note {number}")
        elif event == "damaged annotations":
            (run.path / "annotations.json").write_text(f"[{number}")
        elif event == "lose report":
            (run.path / REPORT_NAME).unlink(missing_ok=True)
        elif event == "lose log":
            (run.path / LOG_NAME).unlink(missing_ok=True)
        elif event == "damage":
            with (run.path / LOG_NAME).open("ab") as file:
                file.write(b"\x00garbage\n" * number)
        elif event == "checkpoint":
            (run.path / f"checkpoint_step_{number}").mkdir(exist_ok=True)
        elif event == "delete":
            shutil.rmtree(run.path)
            del self.runs[name]
        elif event == "rename":
            other = f"moved_{number}/{name}"
            if not (self.root / other).exists():
                (self.root / other).parent.mkdir(exist_ok=True)
                self.runs[other] = self.runs.pop(name)
                run.path = run.reporter.run_dir = run.path.rename(self.root / other)


EVENTS = [
    *("start", "train", "finish", "fail", "resume", "conclude", "tag", "damaged annotations", "lose report"),
    *("lose log", "damage", "checkpoint", "delete", "rename", "refresh", "time passes"),
]


@settings(max_examples=15)
@given(happened=st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from("ab"), st.integers(1, 9)), max_size=14))
def test_an_index_that_was_kept_up_to_date_is_one_that_is_made_again(happened: list[tuple[str, str, int]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        world = World(Path(place))
        try:
            for event, name, number in happened:
                world.happen(event, name, number)
            world.store.refresh()
            assert rows_of(world.root) == made_again(world.root)
            before = rows_of(world.root)
            world.store.reindex()
            assert rows_of(world.root) == before
        finally:
            world.store.close()


@pytest.mark.parametrize("event", [event for event in EVENTS if event not in ("refresh", "time passes", "start")])
def test_each_thing_that_happens_is_noticed_by_the_files_alone(event: str, tmp_path: Path) -> None:
    world = World(tmp_path)
    for name in ("a", "b"):
        for earlier in ("start", "train", "tag", "conclude"):
            world.happen(earlier, name, 5)
    world.happen("time passes", "a", 0)
    world.ahead = 10.0  # nothing is read again for being new
    assert not world.store.refresh()
    world.happen(event, "a", 3)
    assert world.store.refresh() or event == "tag"  # which has read it itself
    assert rows_of(tmp_path) == made_again(tmp_path)
    world.store.close()


# -- what a look costs ---------------------------------------------------------------------------------------------


def test_runs_that_have_not_changed_are_not_read(tmp_path: Path) -> None:
    for name in "abc":
        RecordedRun(tmp_path / name, start=START).train().finish()
    with ExperimentStore(tmp_path, clock=lambda: time.time() + 10.0) as store:
        assert len(store.refresh().added) == 3
        assert store.refresh() == store.refresh(search=False)
        assert store.refresh().bytes_read == 0
        RecordedRun(tmp_path / "b", start=START).train(5).flush()
        changes = store.refresh(search=False)
        assert [store.run(run_id).name for run_id in changes.changed] == ["b"]


def test_a_file_that_changed_this_moment_is_read_once_more(tmp_path: Path) -> None:
    RecordedRun(tmp_path / "a", start=START).train().finish()
    with ExperimentStore(tmp_path) as store:
        assert store.refresh().bytes_read > 0
        assert len(store.refresh().changed) == 1, "a change in the same tick of the disk's clock would not be seen"


def test_a_long_run_is_read_by_its_report_and_the_end_of_its_log(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "a", start=START, total_steps=3000, steps_per_epoch=300).train().finish()
    log, report = (run.path / LOG_NAME).stat().st_size, (run.path / REPORT_NAME).stat().st_size
    with ExperimentStore(tmp_path) as store:
        assert store.refresh().bytes_read < report + 64 * 1024 < log
        assert json.dumps(store.runs()[0].to_dict(), allow_nan=False)
