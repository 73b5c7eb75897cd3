"""Starts `train.py` again and again by forking, after the slow imports are done once (tests/support/warm_start.py).

Each line that it reads is a list: `["start", output file, {variable: value}, argument, …]` is answered with the new
process's id, `["poll", id, seconds]` with its exit code, or null where it still runs after that time. It ends when its
input does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))


def start(output: str, variables: dict[str, str], arguments: list[str], answers: int) -> int:
    """The id of a process that runs the front door; the pipe of the answers is not for it."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    process = os.fork()
    if process:
        os.close(file)
        return process
    exit_code = 1
    try:
        os.close(answers)
        os.environ.update(variables)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.argv = [str(ROOT / "train.py"), *arguments]
        from training.launch.worker import leave
        from training.train import main

        leave(main())
    except SystemExit as ended:
        exit_code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def poll(process: int, seconds: float) -> int | None:
    """The exit code of a process, negative where a signal ended it; None while it runs, waited for so long."""
    until = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.005)


def main() -> None:
    answers = os.dup(1)
    os.dup2(2, 1)  # what an import prints is no answer
    for module in sys.argv[1:]:
        __import__(module)
    # What another thread holds when a process forks, stays locked in the child for ever.
    assert threading.active_count() == 1, threading.enumerate()
    for line in sys.stdin:
        verb, *rest = json.loads(line)
        answer = start(rest[0], rest[1], rest[2:], answers) if verb == "start" else poll(*rest)
        os.write(answers, f"{json.dumps(answer)}\n".encode())


if __name__ == "__main__":
    main()
