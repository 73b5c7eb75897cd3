"""A job's run downloaded again and again, each time from the same beginning and killed (SIGKILL) one change of the disk
later, until one comes through.

python killed_downloads.py HANDLE_DIR BEFORE HOMES

HANDLE_DIR holds the job's handle, BEFORE is what a run directory holds at first; those of the killed downloads are left
in HOMES, called 1, 2, 3, …
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from training.azure.fetch.download import download_run
from training.azure.service.job_file import JobHandle
from training.azure.service.workspace import Workspace

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
WRITES = os.O_WRONLY | os.O_RDWR


def die_before_change(number: int, home: Path) -> None:
    """From here on this process is killed as it is about to change what is below `home` for the numberth time."""
    left = number

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        is_change = event in CHANGES or (event == "open" and bool(arguments[2] & WRITES))
        path = home / str(arguments[0])  # shutil.rmtree tells bare names
        if is_change and path.is_relative_to(home):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def main(handle_dir: Path, before: Path, homes: Path) -> None:
    """Each download in a process of its own; this one has brought in the SDK and found the datastore."""
    handle = JobHandle.read(handle_dir)
    assert handle is not None
    workspace = Workspace.connect(handle.workspace)
    workspace.container(handle.datastore)
    for number in itertools.count(1):
        home = homes / str(number)
        shutil.copytree(before, home)
        child = os.fork()
        if child == 0:
            die_before_change(number, home)
            download_run(workspace, handle, home, "all")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            shutil.rmtree(home)
            sys.exit(os.waitstatus_to_exitcode(status))
        assert os.WTERMSIG(status) == signal.SIGKILL


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
