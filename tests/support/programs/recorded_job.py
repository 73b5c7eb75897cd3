"""A job that keeps a record as a training does, with the project's own reporter, and goes on with it if started again.

python recorded_job.py RUN_DIR STEPS EXIT_CODE FIRST_LOSS [GATE]

With GATE it waits after its first epoch until there is a file of that name.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from training.errors import UserError
from training.record.reporter import ProgressReporter, read_report

STEPS_PER_EPOCH = 10


def main(run_dir: Path, steps: int, exit_code: int, first_loss: float, gate: Path | None) -> int:
    """Train, as far as the record can tell; the exit code."""
    run_dir.mkdir(parents=True, exist_ok=True)
    reporter = ProgressReporter(run_dir, report_batches=1)
    facts = {"run_id": "r1", "curve_hash": "c1", "total_steps": steps, "num_epochs": steps // STEPS_PER_EPOCH}
    past = read_report(run_dir)
    # As a run does, it goes on from its last checkpoint: the end of an epoch.
    first = 0 if past is None else past["step"] // STEPS_PER_EPOCH * STEPS_PER_EPOCH
    if past is None:
        reporter.run_started(**facts)
    else:
        reporter.run_resumed(first, **facts)
    print(f"training from step {first}", flush=True)
    for step in range(first + 1, steps + 1):
        while step == STEPS_PER_EPOCH + 1 and gate is not None and not gate.exists():
            time.sleep(0.02)
        epoch = (step - 1) // STEPS_PER_EPOCH + 1
        reporter.step(
            **{"step": step, "epoch": epoch, "batch": step, "loss": first_loss - 0.01 * step, "accuracy": 0.5},
            **{"learning_rate": 1e-3, "forward_ms": 1.0, "backward_ms": 2.0, "tokens": 10},
        )
        if step % STEPS_PER_EPOCH == 0:
            reporter.evaluation(step=step, epoch=epoch, loss=first_loss - 1 - 0.01 * step, accuracy=0.5)
            reporter.flush()
    if exit_code:
        error = UserError("the data ended in the middle")
        reporter.run_failed(error)
        print(f"error: {error}", flush=True)
        return exit_code
    (run_dir / "final_model").mkdir(exist_ok=True)
    (run_dir / "final_model" / "config.json").write_text('{"model_type": "apt"}')
    reporter.run_finished(reason="all steps done")
    return 0


if __name__ == "__main__":
    run_dir, steps, exit_code, first_loss, *gate = sys.argv[1:]
    sys.exit(main(Path(run_dir), int(steps), int(exit_code), float(first_loss), Path(gate[0]) if gate else None))
