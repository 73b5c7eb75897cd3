"""Work for `tools.server.workers.limited_process` that keeps to its limits, or goes beyond one of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.server.workers.limited_process import MEMORY_BYTES, answer_within_limits
from training.errors import UserError


def answer(request: Mapping[str, Any]) -> Any:
    """Do what the request names."""
    kind = request["kind"]
    if kind == "refuse":
        raise UserError("the file cannot be read; give another one")
    if kind == "memory":
        return len(bytearray(MEMORY_BYTES + 2**20))
    if kind == "fault":
        raise RuntimeError("a fault of the program")
    if kind == "signal":
        os.abort()
    if kind == "wait":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(request["mark"]).write_text(f"{os.getpid()} {child.pid}")
        time.sleep(600)
    return {"place": str(Path.cwd()), "cache": os.environ["APT_TRAINER_CACHE"]}


if __name__ == "__main__":
    sys.exit(answer_within_limits(answer))
