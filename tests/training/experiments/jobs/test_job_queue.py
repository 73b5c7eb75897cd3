"""The queue: order, slots, stops, resumes, deletions and what each refuses, with real processes of milliseconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.schedulers import PROGRAM, starts
from training.checkpoints.run_lock import RunLock
from training.errors import UserError
from training.experiments.jobs import job_queue
from training.experiments.jobs.files import JOB_MARK, JobFiles, JobRequest, jobs_directory
from training.experiments.jobs.job_queue import (
    Job,
    JobQueue,
    JobStateError,
    KeyTakenError,
    UnknownJobError,
    directory_name_of,
    read_jobs,
)
from training.experiments.jobs.states import ENDED
from training.experiments.store.identity import run_id_of
from training.machine.processes import pids_with, start_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="the processes are POSIX's")]
SECONDS = 300.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def make(root: Path) -> Iterator[Callable[..., JobQueue]]:
    """`make(slots=2)`: a queue on the root; all that it has started has ended when the test is over."""
    made: list[JobQueue] = []

    def one(slots: int = 1) -> JobQueue:
        made.append(JobQueue(root, slots, program=PROGRAM))
        return made[-1]

    yield one
    for queue in made:
        queue.close()
    queue = JobQueue(root, program=PROGRAM)
    for job in queue.jobs():
        if job.state not in ENDED:
            queue.stop(job.id, at_once=True)
    queue.close()


@pytest.fixture
def queue(make: Callable[..., JobQueue]) -> JobQueue:
    return make()


def until(queue: JobQueue, job: Job, *states: str) -> Job:
    """Tick until a job is in one of these states."""
    end = time.monotonic() + SECONDS
    while True:
        queue.tick()
        found = queue.job(job.id)
        assert found is not None
        if found.state in states:
            return found
        assert time.monotonic() < end, f"{found}: not {states}; {queue.problem}"
        time.sleep(0.005)


def let_end(job: Job, code: int = 0) -> None:
    (job.run_dir / "end").write_text(str(code))


def states(queue: JobQueue) -> dict[str, str]:
    return {job.name: str(job.state) for job in queue.jobs()}


# -- a job's life --------------------------------------------------------------------------------------------------


def test_a_job_waits_runs_and_finishes_in_a_process_that_nobody_owns(queue: JobQueue, root: Path) -> None:
    job = queue.submit(JobRequest("first", {"run.epochs": 3}, backend="playground", task="hlbd", model="apt"))
    assert (job.state, job.id, job.attempt) == ("queued", run_id_of(root, root / "first"), 1)
    assert queue.position(job.id) == 1
    job = until(queue, job, "running")
    assert queue.position(job.id) is None
    assert job.slots == ("cpu-0",)
    assert queue.used_slots() == {"cpu-0"}
    assert job.process is not None
    assert os.getsid(job.process.pid) == job.process.pid, "a Ctrl-C at the server's terminal does not reach it"
    assert Path(f"/proc/{job.process.pid}/fd/1").readlink() == job.output
    let_end(job)
    job = until(queue, job, "finished")
    assert (job.exit_code, job.slots, job.can_resume, job.can_stop) == (0, (), False, False)
    assert job.output.read_text() == "done\n"
    assert start_of(job.process.pid if job.process else 0) is None
    settings = JobFiles(jobs_directory(root) / job.id).settings
    assert settings.read_text() == "run.epochs: 3\n"
    assert list(read_jobs(root)) == queue.jobs()


def test_a_job_that_fails_says_why(queue: JobQueue) -> None:
    job = until(queue, queue.submit(JobRequest("one")), "running")
    let_end(job, 2)
    job = until(queue, job, "failed")
    assert (job.exit_code, job.reason, job.can_resume) == (2, "error: it ended with 2", True)


def test_a_program_that_cannot_be_run_fails_with_its_error(root: Path) -> None:
    queue = JobQueue(root, program=root / "no such program.py")
    job = until(queue, queue.submit(JobRequest("one")), "failed")
    assert "FileNotFoundError" in job.reason
    queue.close()


def test_a_stop_interrupts_the_program_once_and_a_resume_is_a_new_attempt(queue: JobQueue) -> None:
    job = until(queue, queue.submit(JobRequest("one")), "running")
    queue.stop(job.id)
    queue.stop(job.id)  # again, by a client that had no answer
    assert queue.job(job.id).state == "stopping"  # type: ignore[union-attr]
    job = until(queue, job, "stopped")
    assert (job.exit_code, job.can_resume) == (130, True)
    assert job.output.read_text().startswith("stopped; a checkpoint was saved")
    with pytest.raises(JobStateError, match=r"job one has ended already \(stopped\)"):
        queue.stop(job.id)
    queue.resume(job.id)
    job = until(queue, job, "running")
    assert [resumes for _, _, resumes in starts(job.run_dir)] == [False, True]
    assert job.attempt == 2
    with pytest.raises(JobStateError, match="job one cannot be resumed: it is running"):
        queue.resume(job.id)


def test_a_job_that_waits_is_stopped_without_having_begun(queue: JobQueue) -> None:
    job = queue.submit(JobRequest("one"))
    queue.stop(job.id)
    queue.tick()
    assert states(queue) == {"one": "stopped"}
    assert not job.run_dir.exists()
    queue.resume(job.id)
    job = until(queue, job, "running")
    assert [resumes for _, _, resumes in starts(job.run_dir)] == [True]


def test_at_once_kills_all_processes_of_a_job_in_whatever_session(
    queue: JobQueue, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WITH_RANKS", "2")
    job = until(queue, queue.submit(JobRequest("one")), "running")
    start = JobFiles(jobs_directory(root) / job.id).attempt(1).start()
    assert start is not None
    assert len(list(pids_with(JOB_MARK, start.mark))) == 3
    queue.stop(job.id, at_once=True)
    assert list(pids_with(JOB_MARK, start.mark)) == []
    assert until(queue, job, "stopped").exit_code in (None, -signal.SIGKILL)


def test_ranks_that_outlive_their_front_door_keep_the_slot(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WITH_RANKS", "1")
    monkeypatch.setenv("RANK_HAS_RUN", "1")  # as rank 0 of a launch: it holds the run directory
    job = until(queue, queue.submit(JobRequest("one")), "running")
    other = queue.submit(JobRequest("other"))
    assert job.process is not None
    job.process.send(signal.SIGKILL)
    job = until(queue, job, "stopping")
    assert job.slots == ("cpu-0",)
    queue.tick()
    assert states(queue) == {"one": "stopping", "other": "queued"}
    let_end(job)  # the rank has saved
    until(queue, job, "lost")
    until(queue, other, "running")


def test_a_job_that_was_killed_is_lost_and_can_go_on(queue: JobQueue) -> None:
    job = until(queue, queue.submit(JobRequest("one")), "running")
    assert job.process is not None
    job.process.send(signal.SIGKILL)
    job = until(queue, job, "lost")
    end = time.monotonic() + SECONDS
    while (found := queue.job(job.id)) is None or found.exit_code is None:
        queue.tick()
        assert time.monotonic() < end
    assert found.reason == f"its process (pid {job.process.pid}) was killed by SIGKILL"  # type: ignore[union-attr]
    assert queue.resume(job.id).state == "queued"


# -- who is next ---------------------------------------------------------------------------------------------------


def test_jobs_start_by_priority_and_then_in_order(queue: JobQueue) -> None:
    names = ["a", "b", "c", "d"]
    jobs = {name: queue.submit(JobRequest(name, priority=5 if name == "c" else 0)) for name in names}
    queue.set_priority(jobs["b"].id, -1)
    assert [queue.position(jobs[name].id) for name in names] == [2, 4, 1, 3]
    order: list[str] = []
    while len(order) < 4:
        queue.tick()
        for job in queue.jobs():
            if job.state == "running" and not (job.run_dir / "end").exists():
                order.append(job.name)
                let_end(job)
    assert order == ["c", "a", "d", "b"]


def test_a_job_that_needs_two_slots_waits_for_two_and_is_not_passed_by_smaller_ones(
    make: Callable[..., JobQueue],
) -> None:
    queue = make(slots=2)
    first = until(queue, queue.submit(JobRequest("small")), "running")
    large = queue.submit(JobRequest("large", slots=2))
    last = queue.submit(JobRequest("last"))
    queue.tick()
    assert states(queue) == {"small": "running", "large": "queued", "last": "queued"}
    let_end(first)
    large = until(queue, large, "running")
    assert large.slots == ("cpu-0", "cpu-1")
    assert states(queue)["last"] == "queued"
    let_end(large)
    until(queue, last, "running")


def test_a_job_that_needs_more_slots_than_there_are_gets_them_all(queue: JobQueue) -> None:
    assert until(queue, queue.submit(JobRequest("one", slots=4)), "running").slots == ("cpu-0",)


def test_a_gpu_is_given_by_its_uuid(make: Callable[..., JobQueue], monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = ("GPU-0f5b2a4e-1b2c-3d4e-5f60-718293a4b5c6", "GPU-1f5b2a4e-1b2c-3d4e-5f60-718293a4b5c6")
    monkeypatch.setattr(job_queue, "slots_of_machine", lambda cpu_slots: gpus)  # no machine of the suite has two
    queue = make()
    one, two = (until(queue, queue.submit(JobRequest(name)), "running") for name in ("one", "two"))
    assert [(job.slots, starts(job.run_dir)[0][1]) for job in (one, two)] == [((gpu,), gpu) for gpu in gpus]


# -- the same request twice ----------------------------------------------------------------------------------------


def test_the_same_key_is_the_same_job_also_after_a_restart(make: Callable[..., JobQueue]) -> None:
    queue = make()
    request = JobRequest("one", {"data.datasets": ["a.json"], "run.learning_rate": 1e-3}, key="k")
    job = queue.submit(request)
    assert queue.submit(request) == job
    queue.close()
    queue = make()
    assert queue.submit(request) == job
    with pytest.raises(KeyTakenError, match=rf"idempotency key 'k' was used for another request \(job {job.id}\)"):
        queue.submit(JobRequest("one", {"run.learning_rate": 1e-2}, key="k"))
    queue.delete(job.id, files=True)
    assert queue.submit(JobRequest("two", key="k")).name == "two"


def test_a_name_that_is_taken_gets_a_number(queue: JobQueue, root: Path) -> None:
    (root / "one").mkdir()
    assert [queue.submit(JobRequest("one")).name for _ in range(2)] == ["one-2", "one-3"]


@pytest.mark.parametrize(
    ("name", "directory"),
    [
        ("a", "a"),
        ("My first run (lr=1e-3)", "My-first-run-lr-1e-3"),
        ("../../etc/passwd", "etc-passwd"),
        (".hidden", "hidden"),
        ("  中文 运行  ", "中文-运行"),
        ("x" * 300, "x" * 80),
        ("文" * 300, "文" * 66),
    ],
)
def test_the_name_of_a_run_is_one_directory_below_the_root(name: str, directory: str) -> None:
    assert directory_name_of(name) == directory


@pytest.mark.parametrize(
    "name", ["", "..", " / ", "\x1b[2J"[:1], "checkpoint_best", "abandoned_at_step_3", "__pycache__"]
)
def test_a_name_that_cannot_be_a_runs_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="a run cannot be called so"):
        directory_name_of(name)


@pytest.mark.parametrize("priority", [-1001, 1001])
def test_a_priority_out_of_range_is_refused(queue: JobQueue, priority: int) -> None:
    with pytest.raises(UserError, match="priority must be from -1000 to 1000"):
        queue.submit(JobRequest("one", priority=priority))


def test_a_setting_that_no_file_can_hold_is_refused_and_nothing_is_left(queue: JobQueue, root: Path) -> None:
    with pytest.raises(UserError, match="settings of 'one'"):
        queue.submit(JobRequest("one", {"run.learning_rate": float("nan")}))
    assert queue.jobs() == []
    assert [path.name for path in jobs_directory(root).iterdir()] == [".lock"]


# -- runs without a server -----------------------------------------------------------------------------------------


@pytest.fixture
def terminal_run(root: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A run that somebody has started without the queue, and its process."""
    run_dir = root / "by hand"
    run_dir.mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "-P", str(PROGRAM), "--run-dir", str(run_dir)],
        env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[3])},
        stdout=subprocess.DEVNULL,
    )
    end = time.monotonic() + SECONDS
    while not (run_dir / "checkpoint_step_1").exists():
        assert time.monotonic() < end
        time.sleep(0.005)
    yield run_dir, process
    process.kill()
    process.wait()


def test_a_run_of_a_terminal_can_be_stopped_and_resumed_as_a_job(
    queue: JobQueue, root: Path, terminal_run: tuple[Path, subprocess.Popen[bytes]]
) -> None:
    run_dir, process = terminal_run
    run_id = run_id_of(root, run_dir)
    assert queue.job(run_id) is None
    with pytest.raises(JobStateError, match="run by hand cannot be resumed: a process is training in it"):
        queue.resume(run_id, run_dir=run_dir)
    with pytest.raises(JobStateError, match="a process is training in by hand; stop it first"):
        queue.delete(run_id, files=True, run_dir=run_dir)
    queue.stop(run_id, run_dir=run_dir)
    assert process.wait(SECONDS) in (-signal.SIGTERM, 128 + signal.SIGTERM)
    with pytest.raises(JobStateError, match="run by hand does not run; there is nothing to stop"):
        queue.stop(run_id, run_dir=run_dir)
    job = queue.resume(run_id, run_dir=run_dir, backend="playground")
    assert (job.id, job.name) == (run_id, "by hand")
    job = until(queue, job, "running")
    assert [resumes for _, _, resumes in starts(run_dir)] == [False, True]


def test_a_job_goes_on_from_the_checkpoint_that_is_named(queue: JobQueue, make: Callable[..., JobQueue]) -> None:
    job = until(queue, queue.submit(JobRequest("one")), "running")
    with pytest.raises(JobStateError, match="job one cannot be resumed: it is running"):
        queue.resume(job.id, checkpoint="checkpoint_step_1")
    let_end(job)
    until(queue, job, "finished")
    (job.run_dir / "checkpoint_step_2").mkdir()
    (job.run_dir / "end").unlink()
    for name in ("checkpoint_step_3", "../one/checkpoint_step_1", "final_model", ""):
        with pytest.raises(JobStateError, match="there is checkpoint_step_1, checkpoint_step_2"):
            queue.resume(job.id, checkpoint=name)
    assert queue.resume(job.id, checkpoint="checkpoint_step_1").state == "queued"
    queue.close()
    queue = make()  # the next one on the same root knows it too
    until(queue, job, "running")
    assert (job.run_dir / "resumed_from").read_text() == "checkpoint_step_1"
    queue.stop(job.id)
    until(queue, job, "stopped")
    (job.run_dir / "resumed_from").unlink()
    until(queue, queue.resume(job.id), "running")
    assert not (job.run_dir / "resumed_from").exists(), "that was for one time"


def test_a_run_of_a_terminal_goes_on_from_the_checkpoint_that_is_named(
    queue: JobQueue, root: Path, terminal_run: tuple[Path, subprocess.Popen[bytes]]
) -> None:
    run_dir, process = terminal_run
    run_id = run_id_of(root, run_dir)
    queue.stop(run_id, run_dir=run_dir)
    process.wait(SECONDS)
    with pytest.raises(JobStateError, match="by hand has no checkpoint 'checkpoint_best'; there is checkpoint_step_1"):
        queue.resume(run_id, run_dir=run_dir, checkpoint="checkpoint_best")
    until(queue, queue.resume(run_id, run_dir=run_dir, checkpoint="checkpoint_step_1"), "running")
    assert (run_dir / "resumed_from").read_text() == "checkpoint_step_1"


def test_a_job_that_somebody_resumes_at_a_terminal_runs_and_can_be_stopped(
    queue: JobQueue, root: Path, terminal_run: tuple[Path, subprocess.Popen[bytes]]
) -> None:
    run_dir, process = terminal_run
    queue.stop(run_id_of(root, run_dir), run_dir=run_dir)
    process.wait(SECONDS)
    job = until(queue, queue.resume(run_id_of(root, run_dir), run_dir=run_dir), "running")
    queue.stop(job.id)
    until(queue, job, "stopped")
    lock = RunLock.take(run_dir)  # this process trains in it now
    assert lock is not None
    assert until(queue, job, "running").slots == ()
    with pytest.raises(JobStateError, match="cannot be resumed: it is running"):
        queue.resume(job.id)
    lock.release()
    assert until(queue, job, "stopped")


def test_what_is_not_there_is_refused(queue: JobQueue, tmp_path: Path) -> None:
    for act in (
        lambda: queue.stop("0" * 12),
        lambda: queue.resume("0" * 12),
        lambda: queue.delete("0" * 12, files=False),
        lambda: queue.set_priority("0" * 12, 1),
    ):
        with pytest.raises(UnknownJobError, match="there is no job 000000000000"):
            act()
    (tmp_path / "runs" / "empty").mkdir()
    with pytest.raises(JobStateError, match="it has no checkpoint"):
        queue.resume("0" * 12, run_dir=tmp_path / "runs" / "empty")


# -- deletion ------------------------------------------------------------------------------------------------------


def test_what_is_alive_is_never_deleted(queue: JobQueue, root: Path) -> None:
    job = until(queue, queue.submit(JobRequest("one")), "running")
    for files in (False, True):
        with pytest.raises(JobStateError, match="job one is at work; stop it first"):
            queue.delete(job.id, files=files)
    queue.stop(job.id)
    job = until(queue, job, "stopped")
    queue.delete(job.id, files=False)
    assert queue.jobs() == []
    assert (job.run_dir / "progress.jsonl").exists(), "only the job is gone, not its run"


def test_a_job_that_waits_can_be_deleted(queue: JobQueue, root: Path) -> None:
    job = queue.submit(JobRequest("one"))
    queue.delete(job.id, files=True)
    queue.tick()
    assert list(read_jobs(root)) == []


# -- damage and others ---------------------------------------------------------------------------------------------


def test_one_process_has_the_queue_of_a_root_and_the_other_says_which(queue: JobQueue, root: Path) -> None:
    with pytest.raises(
        UserError, match=rf"another server \(pid {os.getpid()}, since \d\d:\d\d\) has the jobs of this root"
    ):
        JobQueue(root)
    queue.close()
    JobQueue(root).close()


@pytest.mark.parametrize(
    "damage", [b"", b"{", b'{"id": 1}', json.dumps({"id": "0" * 12, "path": "../.."}).encode(), b"\xff" * 99]
)
def test_a_damaged_job_is_left_alone_and_named(make: Callable[..., JobQueue], root: Path, damage: bytes) -> None:
    queue = make()
    good, bad = queue.submit(JobRequest("good")), queue.submit(JobRequest("bad"))
    queue.close()
    path = jobs_directory(root) / bad.id / "job.json"
    path.write_bytes(damage)
    queue = make()
    assert [job.name for job in queue.jobs()] == ["good"]
    [error] = queue.unreadable
    assert str(path.parent) in str(error)
    until(queue, good, "running")
    assert path.read_bytes() == damage


def test_a_job_whose_directory_was_moved_under_another_id_is_refused(make: Callable[..., JobQueue], root: Path) -> None:
    queue = make()
    job = queue.submit(JobRequest("one"))
    queue.close()
    path = jobs_directory(root) / job.id
    document = json.loads((path / "job.json").read_text()) | {"path": "../outside"}
    (path / "job.json").write_text(json.dumps(document))
    unreadable: list[UserError] = []
    assert list(read_jobs(root, unreadable)) == []
    assert "does not belong to this id" in str(unreadable[0])


def test_a_queue_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UserError, match="it cannot be written to"):
        JobQueue(tmp_path / "runs")
