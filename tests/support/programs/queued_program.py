"""A program that a job runs in the tests of the queue: `python queued_program.py … --run-dir DIR`, in milliseconds.

It behaves towards the queue as a training does: it claims the run directory, begins a record, and ends with 130 where
it is interrupted. It notes each of its starts, with its GPUs, in `starts`, and ends when `DIR/end` is there, with the
exit code in it. With WITH_RANKS in its environment it starts as many processes, each in a session of its own, as a
launcher starts ranks; with RANK_HAS_RUN the first of them holds the run directory in its place.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from training.checkpoints.run_lock import RunLock
from training.record.log import LOG_NAME

SLEEP = "import time; time.sleep(60)"


def main() -> int:
    words = sys.argv[1:]
    flag = "--run-dir" if "--run-dir" in words else "--resume"
    run_dir = Path(words[words.index(flag) + 1])
    run_dir.mkdir(parents=True, exist_ok=True)
    ranks = int(os.environ.pop("WITH_RANKS", 0))
    for _ in range(ranks):
        command = [sys.executable, __file__, *words] if "RANK_HAS_RUN" in os.environ else [sys.executable, "-c", SLEEP]
        subprocess.Popen(command, start_new_session=True)
    if ranks and "RANK_HAS_RUN" in os.environ:
        time.sleep(60)
    lock = RunLock.take(run_dir)
    if lock is None:
        print("error: another process is training in it")
        return 2
    with (run_dir / "starts").open("a") as file:
        file.write(f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')} {'--resume' in words}\n")
    with (run_dir / LOG_NAME).open("a") as file:
        file.write("{}\n")
    (run_dir / "checkpoint_step_1").mkdir(exist_ok=True)
    try:
        while not (run_dir / "end").exists():
            time.sleep(0.01)
        code = int((run_dir / "end").read_text() or 0)
    except KeyboardInterrupt:
        print("stopped; a checkpoint was saved")
        code = 130
    print(f"error: it ended with {code}" if code else "done")
    lock.release()
    return code


if __name__ == "__main__":
    sys.exit(main())
