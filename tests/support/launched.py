"""A front door that launches small scripts as workers, in processes of its own: what the tests of launches share."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_WORKER = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from training.errors import UserError
from training.machine.stop_signals import StopSignals
from training.machine.terminal import terminal_size
from training.launch.worker import work
rank = int(os.environ["RANK"])
here = Path({here!r})

def mark(name):
    (here / f"{{name}}_{{rank}}").touch()

def after(name, other):
    while not (here / f"{{name}}_{{other}}").exists():
        time.sleep(0.02)

def wait(seconds=60.0):
    with StopSignals() as signals:
        mark("started")
        until = time.monotonic() + seconds
        while time.monotonic() < until and signals.received is None:
            time.sleep(0.02)
    if signals.received is None:
        raise TimeoutError("nobody stopped this rank")
    mark("saved")
    return 128 + signals.received

def run():
{body}
    return 0

work(Path(sys.argv[sys.argv.index("--launch-dir") + 1]), run)
"""

_FRONT_DOOR = """
import sys
sys.path.insert(0, {root!r})
from training.errors import UserError
from training.backends.protocol import LAUNCH_DIR, LaunchPlan, RunRequest
from training import TrainingConfig
from training.launch.launcher import launch
command = ({launcher} + [{script!r}])
plan = LaunchPlan(tuple(command), {{"OMP_NUM_THREADS": "1"}}, processes=2, device="cpu")
try:
    code = launch(plan, RunRequest(TrainingConfig()))
except UserError as error:
    print(f"error: {{error}}", file=sys.stderr)
    code = 2
except KeyboardInterrupt:
    print("stopped at once", file=sys.stderr)
    code = 130
assert "torch" not in sys.modules
sys.exit(code)
"""

TORCHRUN = (
    '[sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "--local-addr", '
    '"127.0.0.1", "--log-dir", LAUNCH_DIR + "/torchrun"]'
)


class Launched:
    """A front door at work.

    Args:
        words: its command.
        cwd: where it runs; its temporary files go to `cwd/tmp`, by which its processes are known.
        env: further variables.
        terminal: a terminal's file for its output; None: two pipes.
    """

    def __init__(
        self,
        words: Sequence[str | Path],
        cwd: Path,
        env: Mapping[str, str] | None = None,
        terminal: int | None = None,
    ) -> None:
        self.temporary = cwd / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self._out, self._err = cwd / "front_door.out", cwd / "front_door.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [str(word) for word in words],
                cwd=cwd,
                env={**os.environ, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out if terminal is None else terminal,
                stderr=err if terminal is None else terminal,
            )

    def end(self, seconds: float = 100.0) -> int:
        """Wait for its end. Returns the exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it hangs; it said: {self.stdout}{self.stderr}") from None

    def send(self, number: signal.Signals) -> None:
        """Send the front door a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Leave nothing behind, also when a test fails."""
        self.process.kill()
        self.process.wait()
        for pid in self.left():
            os.kill(pid, signal.SIGKILL)

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._out.read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """The same of its stderr."""
        return self._err.read_text(encoding="utf-8")

    def left(self) -> list[int]:
        """Process ids of the launch that still live."""
        shown = subprocess.run(["ps", "axeww", "-o", "pid=,stat=,args="], capture_output=True, text=True, check=True)
        lines = [line.split(None, 2) for line in shown.stdout.splitlines() if f"TMPDIR={self.temporary}" in line]
        return [int(pid) for pid, state, _ in lines if not state.startswith("Z")]

    def is_gone_within(self, seconds: float) -> bool:
        """Whether no process of the launch is left after that time, at most."""
        return happens(lambda: not self.left(), seconds)

    def kept(self) -> list[Path]:
        """Directories of launches that are left."""
        return sorted(self.temporary.glob("apt-launch-*"))

    def pid_of_launcher(self) -> int:
        """The launcher's process id."""
        shown = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
        pairs = [line.split() for line in shown.stdout.splitlines()]
        return next(int(pid) for pid, parent in pairs if int(parent) == self.process.pid)


def launch_scripts(tmp_path: Path, body: str, launcher: str = TORCHRUN, terminal: int | None = None) -> Launched:
    """Launch two workers whose work is `body`, with `rank`, `mark(name)`, `after(name, rank)` and `wait()` at hand."""
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    (tmp_path / "worker.py").write_text(_WORKER.format(root=str(ROOT), here=str(tmp_path), body=indented))
    program = _FRONT_DOOR.format(root=str(ROOT), launcher=launcher, script=str(tmp_path / "worker.py"))
    (tmp_path / "front_door.py").write_text(program)
    return Launched([sys.executable, tmp_path / "front_door.py"], tmp_path, terminal=terminal)


def happens(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether something comes true within that time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def without_directory(line: str) -> str:
    """A message with the name of the launch's directory left out."""
    return re.sub(r"\S*apt-launch-\w+", "DIR", line)
