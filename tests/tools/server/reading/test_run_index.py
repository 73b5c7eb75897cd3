"""The rows that a server shows: those of the store with their jobs', each change counted once."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.recorded_runs import RecordedRun
from tools.server.reading.change_signal import ChangeSignal
from tools.server.reading.run_index import MOST_REMOVED, RunIndex, with_job
from training.errors import UserError
from training.experiments.jobs.files import JobRequest
from training.experiments.jobs.job_queue import JobQueue
from training.experiments.jobs.states import JobState
from training.experiments.store.identity import run_id_of
from training.experiments.store.index import ExperimentStore
from training.experiments.store.query import Query
from training.experiments.store.rows import RunRow
from training.record.log import LOG_NAME, REPORT_NAME


@pytest.fixture
def root(tmp_path: Path) -> Path:
    start = time.time() - 100
    for name in ("a", "b"):
        RecordedRun(tmp_path / name, start=start).train(20).finish()
    return tmp_path


@pytest.fixture
def queue(root: Path) -> Iterator[JobQueue]:
    made = JobQueue(root)
    yield made
    made.close()


@pytest.fixture
def index(root: Path, queue: JobQueue) -> Iterator[RunIndex]:
    with ExperimentStore(root) as store:
        yield RunIndex(store, queue)


def names(index: RunIndex, **asked: object) -> list[str]:
    rows, total = index.rows(replace(Query(sort="name"), **asked))  # type: ignore[arg-type]
    assert total >= len(rows)
    return [row.name for row in rows]


def test_a_look_counts_what_has_changed_and_nothing_else(root: Path, index: RunIndex) -> None:
    assert names(index) == ["a", "b"]
    first = index.revision
    assert first == 2
    index.look(search=True)
    assert index.revision == first, "nothing has changed"
    with ExperimentStore(root) as other:  # another process: the command line
        other.annotate(run_id_of(root, root / "a"), tags=["good"])
    index.look()
    assert index.changes_since(first) == (first + 1, [run_id_of(root, root / "a")], [])
    shutil.rmtree(root / "b")
    index.look()
    gone = run_id_of(root, root / "b")
    assert index.changes_since(first + 1) == (first + 2, [], [gone])
    assert index.status_of(gone) == (first + 2, None)
    assert index.find(gone) is None
    assert index.changes_since(first + 3) is None, "a revision that this server has not reached"


def test_a_run_at_work_is_lost_without_a_change_on_the_disk(root: Path, index: RunIndex) -> None:
    run = RecordedRun(root / "c", start=time.time()).train(5).flush()
    index.look(search=True)
    run_id = run_id_of(root, run.path)
    before = index.status_of(run_id)
    assert before[1] is not None
    assert (before[1]["job_id"], before[1]["step"], before[1]["total_steps"]) == (run_id, 5, 100)
    run.train(3).flush()
    index.look()
    after = index.status_of(run_id)
    assert after[0] > before[0]
    assert after[1] is not None
    assert after[1]["step"] == 8


@pytest.mark.parametrize("is_begun_again", [False, True], ids=["begins", "begins again"])
def test_a_job_is_in_the_list_while_its_record_comes_or_goes(
    is_begun_again: bool, root: Path, index: RunIndex, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, store = queue.submit(JobRequest("job", task="hlbd")), index._store
    run = RecordedRun(job.run_dir, start=time.time())
    if is_begun_again:
        run.train(3).flush()
    index.look(search=True)
    read, changes = store.runs, [True]

    def read_and_change(query: Query) -> list[RunRow]:
        if is_begun_again and changes:
            changes.clear()
            for file in (LOG_NAME, REPORT_NAME):
                (job.run_dir / file).unlink()
            store.refresh()
        found = read(query)
        if changes:
            changes.clear()
            run.train(3).flush()
            store.refresh()
        return found

    monkeypatch.setattr(store, "runs", read_and_change)
    assert sorted(names(index)) == ["a", "b", "job"]
    changes.append(True)
    if not is_begun_again:
        shutil.rmtree(job.run_dir)
        store.refresh()
        run = RecordedRun(job.run_dir, start=time.time())
    else:
        run.train(3).flush()
        store.refresh()
    index.look()
    assert index.status_of(job.id)[1] is not None, "it was not said to be gone"


def test_jobs_that_wait_are_rows_before_they_have_a_record(root: Path, index: RunIndex, queue: JobQueue) -> None:
    first = queue.submit(JobRequest("queued first", task="hlbd"))
    second = queue.submit(JobRequest("queued second", task="hlbd", priority=5))
    assert names(index) == [second.name, first.name, "a", "b"]
    row = index.row(first.id)
    assert row is not None
    assert (row.state, row.task, row.step) == ("queued", "hlbd", 0)
    assert row.job is not None
    assert (row.job["position"], row.job["can_stop"], row.job["can_resume"]) == (2, True, False)
    assert names(index, states=("queued",)) == [second.name, first.name]
    assert names(index, states=("finished",)) == ["a", "b"]
    assert names(index, text="SECOND") == [second.name]
    assert names(index, where="step > 3") == ["a", "b"]
    assert names(index, tags=("good",)) == []
    assert names(index, archived=True) == []
    assert names(index, ids=(first.id,)) == [first.name]
    assert names(index, limit=2, offset=1) == [first.name, "a"]
    found = index.find(first.id)
    assert found is not None
    assert found.path == first.run_dir
    index.look()
    status = index.status_of(first.id)[1]
    assert status is not None
    assert status["status"] == "queued"
    assert [row.id for row in index.rows_of([first.id, "0" * 12])] == [first.id]
    queue.delete(second.id, files=True)
    assert names(index, states=("queued",)) == [first.name]


def test_a_job_whose_record_begins_is_found_at_the_next_look(root: Path, index: RunIndex, queue: JobQueue) -> None:
    job = queue.submit(JobRequest("begins", task="hlbd"))
    index.look(search=True)
    RecordedRun(job.run_dir, start=time.time()).train(4).flush()
    index.look()
    row = index.row(job.id)
    assert row is not None
    assert row.step == 4
    assert names(index).count(job.name) == 1


@pytest.mark.parametrize(
    ("of_job", "of_record", "shown"),
    [
        (JobState.STOPPING, "running", "stopping"),
        (JobState.RUNNING, "stalled", "stalled"),
        (JobState.RUNNING, "finished", "running"),  # it saves its model
        (JobState.STOPPED, "lost", "stopped"),
        (JobState.QUEUED, "stopped", "queued"),
    ],
)
def test_the_state_of_whoever_knows_more(
    index: RunIndex, queue: JobQueue, of_job: JobState, of_record: str, shown: str
) -> None:
    job = replace(queue.submit(JobRequest("job", task="hlbd")), state=of_job, reason="why")
    row = replace(index.rows(Query())[0][0], state=of_record)
    assert with_job(row, job, None).state == shown


def test_a_query_that_cannot_be_used_is_the_caller_s_error(index: RunIndex) -> None:
    with pytest.raises(UserError, match="no_such_thing"):
        index.rows(Query(sort="no_such_thing"))


def test_what_was_removed_is_remembered_within_bounds(index: RunIndex) -> None:
    index.look()
    first = index.revision
    rows = [replace(index.rows(Query())[0][0], id=f"{n:012x}") for n in range(MOST_REMOVED + 5)]
    index._publish(rows, there=[row.id for row in rows])
    index._publish([], there=())
    assert index.changes_since(first) is None
    found = index.changes_since(index.revision - 3)
    assert found is not None
    assert len(found[2]) == 3


def test_all_runs_are_looked_at_rarely_and_those_at_work_often(root: Path, index: RunIndex) -> None:
    run = RecordedRun(root / "c", start=time.time()).train(5).flush()
    index.look(search=True)
    run_id = run_id_of(root, run.path)
    whole, before = index._looked_at_all, index.revision

    def step() -> int:
        status = index.status_of(run_id)[1]
        assert status is not None
        found: int = status["step"]
        return found

    run.train(1).flush()
    index._looked_at = time.monotonic() - 2.0
    index.look_if_due()
    assert step() == 5, "nobody watches"
    with index.watched():
        index.look_if_due()
    assert step() == 6
    assert index._looked_at_all == whole, "the other runs were not asked for"
    assert index.changes_since(before) == (before + 1, [run_id], [])
    index._looked_at_all = time.monotonic() - 60.0
    index._rest = 90.0
    index.look_if_due()
    assert index._looked_at_all < time.monotonic() - 50.0, "it rests after a look that took long"
    index._rest = 0.0
    index.look_if_due()
    assert index._looked_at_all > whole
    run.train(1).flush()
    row = index.row(run_id)
    assert row is not None
    assert row.step == 7, "who asks for a run gets it as it is"
    run.train(1).flush()
    assert [row.step for row in index.rows(Query(ids=(run_id,)))[0]] == [8]


def test_a_signal_wakes_all_who_wait_and_is_never_missed() -> None:
    async def wait_for_it() -> None:
        signal = ChangeSignal()
        seen = signal.count
        waiting = [asyncio.create_task(signal.wait(seen, 30.0)) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.to_thread(signal.notify)
        assert await asyncio.gather(*waiting) == [1] * 5
        assert await signal.wait(seen, 30.0) == 1, "what came before the wait ends it at once"
        assert await signal.wait(1, 0.001) == 1, "the time is over"

    asyncio.run(wait_for_it())
