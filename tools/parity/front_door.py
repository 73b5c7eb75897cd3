"""`train.py` in a process of its own, as a user would start it, with a limit on its time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GRACE_SECONDS = 20.0
"""Seconds that a launcher gets to end its ranks before it is killed."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a call of `train.py`."""

    command: tuple[str, ...]
    exit_code: int | None
    """The process's exit code; None: it took too long and was ended."""
    seconds: float
    log: Path
    """The file with everything that it printed."""

    def complaint(self) -> str:
        """Return why it failed, in one line: its own error line, or the last line that it printed."""
        if self.exit_code is None:
            return f"not done after {self.seconds:.0f} s, so it was ended"
        lines = [line for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        reasons = [line for line in lines if line.startswith("error: ")] or lines
        return f"exit code {self.exit_code}: {reasons[-1].strip() if reasons else 'it printed nothing'}"


def train(arguments: Sequence[str | Path], log: Path, timeout: float) -> Outcome:
    """Run `train.py` to its end; everything that it prints goes into `log`.

    Torch's threads are limited to one per process unless the user's environment says otherwise: the same sums in the
    same order, and ranks that do not fight for the cores.
    """
    command = (sys.executable, str(ROOT / "train.py"), *map(str, arguments))
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        exit_code: int | None = None
        try:
            exit_code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass  # the missing exit code says so
        finally:
            _end(process)
    return Outcome(command, exit_code, time.monotonic() - started, log)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to stop, then kill the rest of its session, so that no rank outlives this process."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
