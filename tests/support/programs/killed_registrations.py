"""Registrations that are killed at each change of the disk, and two processes that register at once.

    python killed_registrations.py FOLDER kill    # a line for each kill: what was there, and what after a next one
    python killed_registrations.py FOLDER race    # the numbers that each of two processes got

FOLDER holds the models `model_0`, `model_1`, …
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from training.experiments.model_versions.local_registry import LocalRegistry

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
WRITES = os.O_WRONLY | os.O_RDWR


def die_before_change(number: int) -> None:
    """From here on this process is killed as it is about to change the disk for the numberth time."""
    left = number

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in CHANGES or (event == "open" and bool(arguments[2] & WRITES)):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def kill_each_change(folder: Path) -> None:
    """Register a second version in a fork, once for each change that it makes, and a third one after each kill."""
    first = folder / "first"
    LocalRegistry(first).register("m", folder / "model_0")
    for number in itertools.count(1):
        root = folder / f"registry_{number}"
        shutil.copytree(first, root)
        child = os.fork()
        if child == 0:
            die_before_change(number)
            LocalRegistry(root).register("m", folder / "model_1")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        registry = LocalRegistry(root)
        numbers = registry.numbers("m")
        faults = [fault.path for checked in registry.verify() for fault in checked.faults]
        again = registry.register("m", folder / "model_1").version.number
        registry.register("m", folder / "model_2")
        left = [path.name for path in (root / "m").iterdir() if path.name.endswith((".tmp", ".old"))]
        print(json.dumps([os.WIFSIGNALED(status), numbers, faults, again, registry.numbers("m"), left]), flush=True)
        shutil.rmtree(root)
        if not os.WIFSIGNALED(status):
            return


def race(folder: Path) -> None:
    """Register all models from two processes at once, each half of them."""
    models = sorted(folder.glob("model_*"))
    reading, writing = os.pipe()
    for half in (0, 1):
        if os.fork() == 0:
            os.close(writing)
            os.read(reading, 1)  # both wait here until the writing end is closed
            registry = LocalRegistry(folder / "race")
            got = [registry.register("m", model).version.number for model in models[half::2]]
            (folder / f"got_{half}").write_text(json.dumps(got), encoding="utf-8")
            os._exit(0)
    os.close(writing)
    codes = [os.waitpid(-1, 0)[1] for _ in (0, 1)]
    print(json.dumps([codes, *(json.loads((folder / f"got_{half}").read_text("utf-8")) for half in (0, 1))]))


if __name__ == "__main__":
    {"kill": kill_each_change, "race": race}[sys.argv[2]](Path(sys.argv[1]))
