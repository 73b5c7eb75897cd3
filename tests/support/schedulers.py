"""Schedulers of a root's jobs, each of which dies by SIGKILL after what it was asked to do, or in the midst of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "tests" / "support" / "programs" / "queued_program.py"


class Schedulers:
    """Starts them, one after the other; to be entered."""

    def __init__(self) -> None:
        program = [sys.executable, str(ROOT / "tests" / "support" / "programs" / "job_schedulers.py")]
        self._server = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def __enter__(self) -> Schedulers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.communicate(timeout=60)

    def run(
        self, root: Path, *operations: tuple[str, dict[str, Any]], slots: int = 1, kill_at: int | None = None
    ) -> tuple[list[Any], int | None]:
        """Let a scheduler carry out operations; return their answers and its number of steps, or None: it was killed.

        Args:
            root: directory that holds all runs.
            operations: name of a method of `JobQueue` with its arguments, or `until` with a job and states.
            slots: of the queue.
            kill_at: number of the step, from 1, at which it is killed; None: after the last.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps([str(root), slots, operations, kill_at]) + "\n")
        self._server.stdin.flush()
        found = json.loads(self._server.stdout.readline())
        assert found["code"] == -9, "it ended by itself; its error is above"
        answers = found["answers"]
        if len(answers) <= len(operations):
            return answers, None
        return answers[:-1], answers[-1]["steps"]


def starts(run_dir: Path) -> list[tuple[int, str, bool]]:
    """Return (pid, GPUs, whether it resumes) of each start of the program that the schedulers' jobs run."""
    try:
        lines = (run_dir / "starts").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [(int(pid), gpus, resumes == "True") for pid, gpus, resumes in map(str.split, lines)]
