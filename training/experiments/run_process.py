"""A run in a process of its own, by the front door, with the terminal of this one: how experiments train. No torch.

A Ctrl-C at a terminal reaches both processes. The run saves and ends; this one waits for it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from training.machine.stop_signals import StopSignals
from training.settings.tree import TrainingConfig

FRONT_DOOR = Path(__file__).resolve().parents[1] / "train.py"
SECONDS_BETWEEN_LOOKS = 0.1

TrainRun = Callable[[TrainingConfig, Sequence[str]], int]
"""Function (config, further flags of the front door) -> exit code, which trains a run."""


def train_in_own_process(config: TrainingConfig, flags: Sequence[str]) -> int:
    """Train a run and stay until it has ended.

    A stop that this process is asked for is passed on, so that the run saves; it has the signal already where it came
    from a terminal.

    Args:
        config: of the run.
        flags: further flags, such as `--resume`.

    Returns:
        The run's exit code; 128 + the signal's number where a stop was asked for, or the run was killed.

    Raises:
        KeyboardInterrupt: a second Ctrl-C, which the run obeys too.
    """
    with tempfile.TemporaryDirectory(prefix="apt-run-") as folder:
        file = Path(folder) / "config.yaml"
        config.to_yaml(file)
        with (
            StopSignals() as signals,
            subprocess.Popen([sys.executable, str(FRONT_DOOR), "--config", str(file), *flags]) as run,
        ):
            code = _wait(run, signals)
    if code < 0:
        return 128 - code
    return code or (128 + signals.received if signals.received is not None else 0)


def _wait(run: subprocess.Popen[bytes], signals: StopSignals) -> int:
    is_passed_on = False
    while True:
        try:
            return run.wait(SECONDS_BETWEEN_LOOKS)
        except subprocess.TimeoutExpired:
            if signals.received is not None and not is_passed_on and sys.platform != "win32":
                is_passed_on = True
                run.send_signal(signal.SIGTERM)
