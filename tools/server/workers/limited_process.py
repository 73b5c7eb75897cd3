"""Work for a client in a process of its own, within bounds of time and memory: reading data, and forecasts.

Such work may import torch and transformers, read gigabytes or meet a damaged file. In a process of its own it can take
the server neither its memory nor its interpreter, and it ends when its time is up.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.server.gate.problems import Problem
from training.errors import UserError
from training.language.messages import Message
from training.storage.json_files import parse_json

ROOT = Path(__file__).resolve().parents[3]
MOST_AT_ONCE = 2
"""Such processes at a time: each may take a processor and gigabytes."""
MOST_ASKED = 8
"""Such requests at a time, those that wait included: each holds a thread of the server."""
MEMORY_BYTES = 8 * 10**9
LONGEST_ANSWER = 4 * 2**20
_SECONDS_BETWEEN = 0.05
_now = time.monotonic
_places = threading.BoundedSemaphore(MOST_AT_ONCE)
_requests = threading.BoundedSemaphore(MOST_ASKED)


def run_limited(module: str, request: Mapping[str, Any], seconds: float, stopping: threading.Event) -> Any:
    """Run a module with a JSON document on its standard input, and return the one on its standard output.

    Args:
        module: `package.module`, whose main part calls `answer_within_limits`.
        request: plain data.
        seconds: longest time.
        stopping: ends the process when it is set.

    Raises:
        Problem: the work cannot be done (422), too much is asked for already (503), it takes too long (504), or it
            failed (500).
    """
    if not _requests.acquire(blocking=False):
        busy = Message("{count} forecasts or readings of data are asked for already; try again", count=MOST_ASKED)
        raise Problem(503, "", busy, headers={"retry-after": "5"})
    try:
        with _places, tempfile.TemporaryDirectory(prefix="apt_server_") as folder:
            code, answer = _run(module, request, seconds, stopping, Path(folder))
    finally:
        _requests.release()
    if code == 0 and isinstance(answer, dict) and "error" in answer:
        raise Problem(422, "The request cannot be carried out", str(answer["error"]))
    if code != 0 or not isinstance(answer, dict):
        raise Problem(
            500,
            "",
            Message(
                "the process that did the work failed (exit code {code}); it may have needed more than the {memory} GB "
                "of memory that it may have: try it from the command line",
                code=code,
                memory=MEMORY_BYTES // 10**9,
            ),
        )
    return answer["result"]


def _run(
    module: str, request: Mapping[str, Any], seconds: float, stopping: threading.Event, folder: Path
) -> tuple[int, Any]:
    """Return exit code and answer. All files of the process lie in a folder that goes with it."""
    asked, answered = folder / "request.json", folder / "answer.json"
    asked.write_text(json.dumps({**request, "answer": str(answered), "seconds": seconds}), encoding="utf-8")
    environment = {
        **os.environ,
        "APT_TRAINER_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "TMPDIR": str(folder),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(asked)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )
    ends = _now() + seconds
    try:
        while process.poll() is None:
            if stopping.is_set():
                raise Problem(503, "", Message("the server ends; ask the next one"))
            if _now() > ends:
                late = Message(
                    "it takes longer than {seconds:g} s; try it from the command line, where it may take any time",
                    seconds=seconds,
                )
                raise Problem(504, "", late)
            time.sleep(_SECONDS_BETWEEN)
    finally:
        with contextlib.suppress(ProcessLookupError):  # also what it has started itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    try:
        with answered.open("rb") as file:
            return process.returncode, parse_json(file.read(LONGEST_ANSWER + 1))
    except (OSError, ValueError):
        return process.returncode or 1, None


def answer_within_limits(answer: Any) -> int:
    """Answer the request that the command line names; the main part of a module that `run_limited` runs.

    Args:
        answer: function from the request to plain data.

    Returns:
        The exit code.
    """
    import resource

    request = parse_json(Path(sys.argv[1]).read_bytes())
    # Not the address space, of which CUDA reserves terabytes that it does not use.
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    cpu = int(request["seconds"]) * max(1, os.cpu_count() or 1) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    os.nice(5)
    try:
        document = {"result": answer(request)}
    except UserError as error:
        document = {"error": str(error)}
    Path(request["answer"]).write_text(json.dumps(document), encoding="utf-8")
    return 0
