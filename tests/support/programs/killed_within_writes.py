"""Kill a resumed run within each of its writes and at each rename, and resume it: `python … FOLDER FINISHED_RUN DATA`.

Prints a line for each kill: the file, as it is called in the run directory, and what was found after it.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from tests.conftest import enter_front_door
from training.checkpoints.finished_model import load_trained_model
from training.checkpoints.single_file import digest, load_single_file
from training.settings.yaml_files import read_yaml

EVENTS = {"open": 0, "os.rename": 1}
"""Audit events of a file that is opened or renamed, and the argument that names it."""


class Writes:
    """Names the writes below a directory as they come, once each, and kills this process at one of them."""

    def __init__(self, run_dir: Path, kill_at: str | None = None) -> None:
        self.found: list[str] = []
        self._run_dir, self._kill_at = str(run_dir), kill_at
        sys.addaudithook(self._notice)

    def _notice(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in EVENTS or (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        path = arguments[EVENTS[event]]
        path = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if not path.startswith(self._run_dir + "/"):
            return
        name = f"{event} {path.removeprefix(self._run_dir + '/')}"
        if name in self.found or name.endswith(".py"):  # a finished model's files of code are written alike
            return
        self.found.append(name)
        if name != self._kill_at:
            return
        if event != "open":
            os.kill(os.getpid(), signal.SIGKILL)
        # The file is about to be opened: the kernel ends the process within the first write to any file from now on.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def train(run_dir: Path, data: Path) -> int:
    """Train one epoch more of the run."""
    return enter_front_door(["--resume", run_dir, "--datasets", data, "--epochs", "3", "--snapshots", "0"]).exit_code


def in_a_process(run_dir: Path, data: Path, kill_at: str | None = None) -> tuple[int, list[str]]:
    """Train in a fork; return how it ended, and the writes of a run that was not killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        writes = Writes(run_dir, kill_at)
        code = train(run_dir, data)
        os.write(writing, json.dumps(writes.found).encode())
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        found = pipe.read()
    return os.waitpid(child, 0)[1], json.loads(found or "[]")


def what_is_torn(run_dir: Path) -> list[str]:
    """Name the files that bear their final name and are not whole."""
    torn = []
    readers: dict[str, Any] = {
        "config.yaml": lambda path: read_yaml(path)["run"]["epochs"],
        "experiment_report.json": lambda path: json.loads(path.read_text(encoding="utf-8"))["step"],
        "final_model.pt": load_single_file,
        "final_model": load_trained_model,
    }
    for name, read in readers.items():
        try:
            if (run_dir / name).exists():
                read(run_dir / name)
        except Exception as error:
            torn.append(f"{name} ({error})")
    return torn


def main() -> None:
    """Do it for every write of the run."""
    folder, finished, data = (Path(word) for word in sys.argv[1:])
    shutil.copytree(finished, folder / "warm")
    train(folder / "warm", data)  # what it imports and compiles, every fork has
    shutil.copytree(finished, folder / "whole")
    _, writes = in_a_process(folder / "whole", data)
    expected = digest(load_single_file(folder / "whole" / "final_model.pt")["model"])
    for number, write in enumerate(writes):
        run_dir = folder / str(number)
        shutil.copytree(finished, run_dir)
        status, _ = in_a_process(run_dir, data, kill_at=write.replace(str(folder / "whole"), str(run_dir)))
        torn = what_is_torn(run_dir)
        resumed, _ = in_a_process(run_dir, data)
        same = digest(load_single_file(run_dir / "final_model.pt")["model"]) == expected
        left = sorted(path.name for path in run_dir.glob(".*"))
        print(json.dumps([write, os.WIFSIGNALED(status), torn, resumed, same, left]), flush=True)
        shutil.rmtree(run_dir)


if __name__ == "__main__":
    main()
