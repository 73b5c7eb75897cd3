"""Schedulers that are killed between any two of their steps: each attempt runs once, and nothing is left over."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.support.schedulers import Schedulers, starts
from training.experiments.jobs.files import JobFiles, jobs_directory
from training.experiments.jobs.job_queue import Job, read_jobs
from training.experiments.jobs.states import ENDED, JobState
from training.machine.processes import kill_all_with, start_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="processes are forked")]

SUBMIT = ("submit", {"name": "one", "key": "the same"})


@pytest.fixture(scope="module")
def schedulers() -> Iterator[Schedulers]:
    with Schedulers() as started:
        yield started


def leftovers(root: Path) -> list[str]:
    return [str(path) for path in jobs_directory(root).rglob(".*") if path.name != ".lock"]


def end_all(root: Path) -> None:
    """Kill what a test has left running."""
    for path in jobs_directory(root).glob("[0-9a-f]*"):
        for attempt in JobFiles(path).attempts():
            if (start := attempt.start()) is not None:
                kill_all_with("APT_TRAINER_JOB", start.mark)


def test_a_submission_is_whole_or_has_not_happened(schedulers: Schedulers, tmp_path: Path) -> None:
    [job], steps = schedulers.run(tmp_path / "0", SUBMIT)
    assert steps is not None
    for step in range(1, steps + 1, 2):  # every second one: each takes a tenth of a second
        root = tmp_path / str(step)
        assert schedulers.run(root, SUBMIT, kill_at=step) == ([], None)
        [found], _ = schedulers.run(root, SUBMIT)
        assert (found["id"], found["state"], found["attempt"]) == (job["id"], "queued", 1)
        assert len(list(read_jobs(root))) == 1
        assert leftovers(root) == []


def test_an_attempt_runs_once_wherever_the_scheduler_is_killed(schedulers: Schedulers, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    [job], _ = schedulers.run(root, SUBMIT)
    one, running = {"job_id": job["id"]}, ("until", {"job": job["id"], "states": ["running"]})
    run_dir = root / "one"
    # Each scheduler is killed at the end too: here before the process that it has started knows who it is.
    _, first = schedulers.run(root, ("tick", {}))
    schedulers.run(root, running)
    assert len(starts(run_dir)) == 1
    again: list[tuple[str, dict[str, Any]]]
    # A tick may find that the last attempt still holds its lock: the next one starts the job.
    begun = ("until", {"job": job["id"], "states": ["starting", "running"]})
    again = [("stop", one), ("until", {"job": job["id"], "states": ["stopped"]}), ("resume", one), begun]
    _, steps = schedulers.run(root, *again)
    assert first is not None
    assert steps is not None
    assert steps >= first + 4, "the stop and the new attempt are steps of their own"
    attempt = 2
    for step in range(1, steps + 1):
        schedulers.run(root, running)
        schedulers.run(root, *again, kill_at=step)
        [found], _ = schedulers.run(root, ("until", {"job": job["id"], "states": ["running", "stopped"]}))
        if found["state"] == "stopped":
            schedulers.run(root, ("resume", one))
        [found], _ = schedulers.run(root, running)
        assert found["attempt"] in (attempt, attempt + 1)
        attempt = found["attempt"]
        assert len(starts(run_dir)) == attempt
        assert [resumes for _, _, resumes in starts(run_dir)] == [False] + [True] * (attempt - 1)
    schedulers.run(root, ("stop", {**one, "at_once": True}))
    assert leftovers(root) == []
    assert all(start_of(pid) is None for pid, _, _ in starts(run_dir))


def test_a_deletion_can_be_finished_after_a_kill_and_spares_the_users_own_files(
    schedulers: Schedulers, tmp_path: Path
) -> None:
    def make(root: Path) -> tuple[str, Path]:
        [job, *_], _ = schedulers.run(root, SUBMIT)
        run_dir = root / "one"
        (run_dir / "checkpoint_step_1").mkdir(parents=True)
        for name in ("progress.jsonl", "config.yaml", "checkpoint_step_1/manifest.json", "my notes.txt"):
            (run_dir / name).write_text("{}\n")
        return job["id"], run_dir

    job_id, run_dir = make(tmp_path / "0")
    delete = ("delete", {"job_id": job_id, "files": True})
    _, steps = schedulers.run(tmp_path / "0", delete)
    assert steps is not None
    for step in range(1, steps + 1):
        root = tmp_path / str(step)
        _, run_dir = make(root)
        schedulers.run(root, delete, kill_at=step)
        schedulers.run(root, delete)
        assert list(read_jobs(root)) == []
        assert [path.name for path in run_dir.iterdir()] == ["my notes.txt"]
        assert leftovers(root) == []


class Machine(RuleBasedStateMachine):
    """Any order of what users, programs and killers can do to the jobs of a root with two slots."""

    schedulers: Schedulers
    folder: Path
    count = 0

    def __init__(self) -> None:
        super().__init__()
        Machine.count += 1
        self.root = self.folder / str(Machine.count)
        self.root.mkdir()
        self.kill_at: int | None = None

    def act(self, name: str, /, **arguments: Any) -> Any:
        """Let a scheduler do one thing, and be killed in the midst of it or after it."""
        answers, _ = self.schedulers.run(self.root, (name, arguments), slots=2, kill_at=self.kill_at)
        self.kill_at = None
        return answers[0] if answers else None

    def jobs(self) -> list[Job]:
        return list(read_jobs(self.root))

    def some(self, number: int) -> Iterator[Job]:
        """Yield one of the jobs, if there is any: what may be drawn must not depend on how fast processes are."""
        jobs = sorted(self.jobs(), key=lambda job: job.name)
        if jobs:
            yield jobs[number % len(jobs)]

    @rule(step=st.integers(1, 25))
    def kill_the_next_scheduler(self, step: int) -> None:
        self.kill_at = step

    @rule(slots=st.integers(1, 3), priority=st.integers(-1, 1), key=st.sampled_from(["a", "b", None]))
    def submit(self, slots: int, priority: int, key: str | None) -> None:
        if len(self.jobs()) < 4:
            self.act("submit", name="job", slots=slots, priority=priority, key=key)

    @rule()
    def tick(self) -> None:
        self.act("tick")

    @rule(number=st.integers(0, 3), at_once=st.booleans())
    def stop(self, number: int, at_once: bool) -> None:
        for job in self.some(number):
            self.act("stop", job_id=job.id, at_once=at_once)

    @rule(number=st.integers(0, 3))
    def resume(self, number: int) -> None:
        for job in self.some(number):
            self.act("resume", job_id=job.id)

    @rule(number=st.integers(0, 3), files=st.booleans())
    def delete(self, number: int, files: bool) -> None:
        for job in self.some(number):
            answer = self.act("delete", job_id=job.id, files=files)
            if isinstance(answer, dict):
                assert job.state not in ENDED, answer

    @rule(number=st.integers(0, 3), priority=st.integers(-2, 2))
    def set_priority(self, number: int, priority: int) -> None:
        for job in self.some(number):
            self.act("set_priority", job_id=job.id, priority=priority)

    @rule(number=st.integers(0, 3))
    def kill_a_job(self, number: int) -> None:
        for job in self.some(number):
            if job.process is not None:
                job.process.send(signal.SIGKILL)

    @rule(number=st.integers(0, 3), code=st.sampled_from([0, 1, 2]))
    def let_a_job_end(self, number: int, code: int) -> None:
        for job in self.some(number):
            if job.run_dir.is_dir():
                (job.run_dir / "end").write_text(str(code))

    @invariant()
    def no_slot_has_two_jobs_and_no_attempt_two_processes(self) -> None:
        occupied = [slot for job in self.jobs() for slot in job.slots]
        assert len(occupied) == len(set(occupied)) <= 2
        for job in self.jobs():
            ran = starts(job.run_dir)
            assert len(ran) <= job.attempt
            assert len({pid for pid, _, _ in ran}) == len(ran)

    def teardown(self) -> None:
        """Everything comes to an end by itself, and nothing is left: no process, no half-written file."""
        for job in self.jobs():
            if job.state not in ENDED:
                job.run_dir.mkdir(exist_ok=True)
                (job.run_dir / "end").write_text("0")
        states = [str(state) for state in ENDED]
        self.schedulers.run(self.root, *(("until", {"job": job.id, "states": states}) for job in self.jobs()), slots=2)
        assert all(job.state in ENDED and not job.slots for job in self.jobs())
        assert leftovers(self.root) == []
        for job in self.jobs():
            assert all(start_of(pid) is None for pid, _, _ in starts(job.run_dir))
            assert job.state is not JobState.LOST or job.reason


def test_any_order_of_events_and_kills_keeps_slots_and_processes_single(schedulers: Schedulers, tmp_path: Path) -> None:
    Machine.schedulers, Machine.folder = schedulers, tmp_path
    try:
        run_state_machine_as_test(Machine, settings=settings(max_examples=6, stateful_step_count=15))
    finally:
        for root in tmp_path.iterdir():
            end_all(root)
