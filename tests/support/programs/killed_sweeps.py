"""Kill a sweep again and again and let it go on each time: `python killed_sweeps.py FOLDER DATA`.

Each life is a fork that trains the sweep and its trials in itself and is killed at one of its writes, so a kill ends
the sweep and its trial in the same instant. The undisturbed sweep is in FOLDER/whole, the other in FOLDER/killed.
Prints the places at which it was killed, and then the exit code of the last life.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from tests.support.sweeps import small_sweep, train_here

EVENTS = {"open": 0, "os.rename": 1}
"""Audit events of a file that is opened or renamed, and the argument that names it."""
KILLS = (2, 3, 12, 30, 45, 80, 25, 90, 60, 40)
"""Number of the write at which each life is killed; the first two are those of the sweep's own file."""


def kill_at_write(directory: Path, number: int) -> None:
    """End this process, without a chance to do anything about it, when it makes its n-th write below a directory."""
    writes = 0

    def notice(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal writes
        if event not in EVENTS or (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        path = arguments[EVENTS[event]]
        path = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if not path.startswith(f"{directory}/"):
            return
        writes += 1
        if writes == number:
            os.write(1, (json.dumps(f"{event} {path.removeprefix(f'{directory}/')}") + "\n").encode())
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(notice)


def live(directory: Path, data: Path, kill_at: int | None = None) -> int:
    """Let the sweep go on in a fork; return its exit code, or minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        if kill_at is not None:
            kill_at_write(directory, kill_at)
        with contextlib.redirect_stdout(io.StringIO()):
            code = small_sweep(directory, data, resume=True).run(train_here)
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def import_what_is_slow() -> None:
    """Import once, and not in each fork, what a run imports; an optimizer's first step imports torch's compiler."""
    for module in ("training.run", "training.train_hlbd_playground"):
        importlib.import_module(module)
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    torch.optim.AdamW([weight]).step()


def main() -> None:
    """Train both sweeps."""
    folder, data = Path(sys.argv[1]), Path(sys.argv[2])
    import_what_is_slow()
    assert live(folder / "whole", data) == 0
    for number in KILLS:
        if live(folder / "killed", data, kill_at=number) != -signal.SIGKILL:
            break
    code = live(folder / "killed", data)
    print(json.dumps(code), flush=True)


if __name__ == "__main__":
    main()
