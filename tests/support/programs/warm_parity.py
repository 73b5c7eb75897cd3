"""Run by tests/tools/parity/test_faults.py: tools/check_training_backends.py, whose runs need not import torch anew.

It takes the tool's arguments. Each run is still `train.py` in a process of its own (tests/support/warm_start.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.support.warm_start import WarmStart
from tools import check_training_backends
from tools.parity.front_door import Outcome


def main() -> int:
    # torch's optimizers import its compiler's front end at their first use.
    with WarmStart("torch._dynamo", "training.run") as warm:

        def train(arguments: Sequence[str | Path], log: Path, timeout: float) -> Outcome:
            """See `tools.parity.front_door.train`."""
            words = [str(word) for word in arguments]
            started = time.monotonic()
            process = warm.start(words)
            log.write_text(process.wait(timeout), encoding="utf-8")
            return Outcome(("train.py", *words), process.returncode, time.monotonic() - started, log)

        with mock.patch("tools.parity.examination.train", train):
            return check_training_backends.main()


if __name__ == "__main__":
    sys.exit(main())
