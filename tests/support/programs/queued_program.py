"""A program that a job runs in the tests of the queue: `python queued_program.py … --run-dir DIR`, in milliseconds.

It behaves towards the queue as a training does: it claims the run directory, begins a record, and ends with 130 where
it is interrupted. It notes each of its starts, with its GPUs, in `starts`, and ends when `DIR/end` is there, with the
exit code in it. With WITH_RANKS in its environment it starts as many processes, each in a session of its own, as a
launcher starts ranks; with RANK_HAS_RUN the first of them holds the run directory in its place. A checkpoint that it is
to go on from is noted in `resumed_from`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from training.checkpoints.run_lock import RunLock
from training.record.log import LOG_NAME

SLEEP = "import time; time.sleep(60)"


def emit(run_dir: Path, name: str, **fields: object) -> None:
    """Append an event to the record."""
    with (run_dir / LOG_NAME).open("a") as file:
        file.write(json.dumps({"event": name, "time": time.time(), **fields}) + "\n")


def main() -> int:
    words = sys.argv[1:]
    flag = "--run-dir" if "--run-dir" in words else "--resume"
    run_dir = Path(words[words.index(flag) + 1])
    if run_dir.name.startswith("checkpoint"):
        (run_dir.parent / "resumed_from").write_text(run_dir.name)
        run_dir = run_dir.parent
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
    emit(run_dir, "run_resumed" if "--resume" in words else "run_started", step=0, total_steps=2, metrics=[])
    emit(run_dir, "step", step=1, epoch=1, loss=2.5, tokens=10)
    (run_dir / "checkpoint_step_1").mkdir(exist_ok=True)
    try:
        while not (run_dir / "end").exists():
            time.sleep(0.01)
        code = int((run_dir / "end").read_text() or 0)
    except KeyboardInterrupt:
        print("stopped; a checkpoint was saved")
        code = 130
    emit(run_dir, "step", step=2, epoch=1, loss=1.5, tokens=10)
    emit(run_dir, {0: "run_finished", 130: "run_stopped"}.get(code, "run_failed"))
    print(f"error: it ended with {code}" if code else "done")
    lock.release()
    return code


if __name__ == "__main__":
    sys.exit(main())
