"""Run by tests/warm_start.py: starts `train.py` again and again by forking, after the slow imports are done once.

Each line that it reads is a list: `["start", output file, argument, …]` is answered with the new process's id,
`["poll", id]` with its exit code or null. It ends when its input does.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def start(output: str, arguments: list[str]) -> int:
    """The id of a process that runs the front door."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    process = os.fork()
    if process:
        os.close(file)
        return process
    exit_code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.argv = [str(ROOT / "train.py"), *arguments]
        from training.train import main
        from training.worker import leave

        leave(main())
    except SystemExit as ended:
        exit_code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def poll(process: int) -> int | None:
    """The exit code of a process, negative where a signal ended it; None while it runs."""
    found, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def main() -> None:
    for module in sys.argv[1:]:
        __import__(module)
    for line in sys.stdin:
        verb, *rest = json.loads(line)
        answer = start(rest[0], rest[1:]) if verb == "start" else poll(rest[0])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
