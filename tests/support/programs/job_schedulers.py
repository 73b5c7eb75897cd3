"""Schedulers of a root's jobs that all die by SIGKILL, each forked from this process, where the imports are done once.

A line that it reads is a list: root, slots, operations, and the number of the step at which the scheduler is killed, or
null: after the last one. A step is a file opened to be written, a rename, a directory made or removed, a file deleted,
or a process started: all by which a scheduler changes the world. The answer is what the operations have returned, and
how many steps were made. It ends when its input does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from training.errors import UserError  # noqa: E402
from training.experiments.jobs.files import JobRequest  # noqa: E402
from training.experiments.jobs.job_queue import Job, JobQueue  # noqa: E402
from training.settings import yaml_files  # noqa: E402, F401  # a submission imports it
from training.storage.run_files import run_files  # noqa: E402

PROGRAM = Path(__file__).resolve().with_name("queued_program.py")
STEPS = frozenset({"os.rename", "os.mkdir", "os.rmdir", "os.remove", "subprocess.Popen"})
SECONDS_TO_WAIT = 300.0


class Steps:
    """Counts the steps of this process, and kills it at one of them."""

    def __init__(self, root: str, kill_at: int | None) -> None:
        self.count = 0
        self._root, self._kill_at = root, kill_at
        sys.addaudithook(self._notice)

    def _notice(self, event: str, arguments: tuple[Any, ...]) -> None:
        is_written = event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if not is_written and event not in STEPS:
            return
        path = arguments[0]
        if event != "subprocess.Popen":
            if not isinstance(path, str | bytes | os.PathLike) or not os.fsdecode(path).startswith(self._root):
                return
            if os.fsdecode(path).endswith(".lock"):  # the scheduler's own, and looks at others'
                return
        self.count += 1
        if self.count == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def perform(queue: JobQueue, name: str, arguments: dict[str, Any]) -> object:
    """Carry out one operation and return its answer as plain data."""
    if name == "tick":
        queue.tick()
        return None
    if name == "until":
        return until(queue, arguments["job"], arguments["states"])
    found = getattr(queue, name)(**({"request": JobRequest(**arguments)} if name == "submit" else arguments))
    return shown(found) if isinstance(found, Job) else found


def until(queue: JobQueue, job_id: str, states: list[str]) -> object:
    """Tick until a job is in one of these states."""
    end = time.monotonic() + SECONDS_TO_WAIT
    while True:
        queue.tick()
        job = queue.job(job_id)
        if job is None or job.state in states:
            return None if job is None else shown(job)
        assert time.monotonic() < end, f"{job} is not {states}; {queue.problem}"
        time.sleep(0.005)


def shown(job: Job) -> dict[str, Any]:
    """Return a job as plain data."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(job), default=str))
    return plain


def schedule(root: str, slots: int, operations: list[list[Any]], kill_at: int | None, answers: int) -> None:
    """Be a scheduler; an operation that is refused is answered with its line."""
    steps = Steps(root, kill_at)
    queue = JobQueue(Path(root), slots, program=PROGRAM)
    for name, arguments in operations:
        try:
            answer = perform(queue, name, arguments)
        except UserError as error:
            answer = {"refused": f"{type(error).__name__}: {error}"}
        os.write(answers, f"{json.dumps(answer)}\n".encode())
    os.write(answers, f"{json.dumps({'steps': steps.count})}\n".encode())


def main() -> None:
    """Fork a scheduler for each line."""
    run_files()  # a deletion imports all that declare files
    for line in sys.stdin:
        root, slots, operations, kill_at = json.loads(line)
        mine, its = os.pipe()
        process = os.fork()
        if process == 0:
            try:
                schedule(root, slots, operations, kill_at, its)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                sys.stderr.flush()
                os._exit(1)
            os.kill(os.getpid(), signal.SIGKILL)
        os.close(its)
        with os.fdopen(mine, encoding="utf-8") as file:
            lines = file.read().splitlines()
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        print(json.dumps({"code": code, "answers": [json.loads(one) for one in lines]}), flush=True)


if __name__ == "__main__":
    main()
