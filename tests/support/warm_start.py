"""`train.py` in a process of its own that need not import torch and transformers anew: they were, before it was forked.

What it does from there on is what `python train.py` does, and it can be killed like any process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class WarmStart:
    """Starts runs; to be entered.

    Args:
        modules: imported before the first run.
        variables: of the environment in which they are imported, and in which all runs are.
    """

    def __init__(self, *modules: str, variables: Mapping[str, str] | None = None) -> None:
        program = [sys.executable, str(ROOT / "tests" / "support" / "programs" / "warm_start.py"), *modules]
        self._outputs = tempfile.TemporaryDirectory()
        self._server = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(variables or {})},
        )
        self._started = 0

    def __enter__(self) -> WarmStart:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.communicate(timeout=60)
        self._outputs.cleanup()

    def ask(self, *question: Any) -> Any:
        """The server's answer."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(self, arguments: list[str], variables: Mapping[str, str] | None = None) -> WarmProcess:
        """A process that runs `train.py` with these arguments, and with further variables in its environment."""
        self._started += 1
        output = Path(self._outputs.name) / f"{self._started}.txt"
        return WarmProcess(self, self.ask("start", str(output), dict(variables or {}), *arguments), output)


class WarmProcess:
    """What the tests need of `subprocess.Popen`."""

    def __init__(self, server: WarmStart, process_id: int, output: Path) -> None:
        self._server, self.pid, self._output = server, process_id, output
        self.returncode: int | None = None

    def poll(self, seconds: float = 0.0) -> int | None:
        """The exit code, or None while it runs, waited for so long."""
        if self.returncode is None:
            self.returncode = self._server.ask("poll", self.pid, seconds)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = 300) -> str:
        """Until it has ended; all that it printed."""
        if self.poll(timeout) is None:
            self.kill()
            raise AssertionError(f"it took longer than {timeout:.0f} s:\n{self._told()}")
        return self._told()

    def _told(self) -> str:
        return self._output.read_text(encoding="utf-8")
