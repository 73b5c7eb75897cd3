"""A run with three trackers that is killed while they still have work: `track_and_die.py RUN_DIR STEPS`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from training import TrainingConfig
from training.record.reporter import ProgressReporter
from training.tracking.choice import trackers_for


def killed_config(run_dir: Path) -> TrainingConfig:
    """All three trackers, none of which needs a network."""
    return TrainingConfig.from_dict({
        "run": {"run_dir": run_dir},
        "track": {"track": "wandb,tensorboard,mlflow", "wandb_mode": "offline"},
    })  # fmt: skip


def tell(reporter: ProgressReporter, steps: range) -> None:
    """Updates, with a validation at every fifth."""
    for step in steps:
        figures = {"loss": 1.0 / step, "accuracy": 0.5, "grad_norm": 2.0, "learning_rate": 1e-3}
        reporter.step(step=step, epoch=1, tokens=64, tokens_per_second=1e3, forward_ms=1.0, backward_ms=2.0, **figures)
        if step % 5 == 0:
            reporter.evaluation(step=step, epoch=1, loss=2.0 / step, accuracy=0.25)


def main() -> None:
    """Begin, let the trackers tell of the first half, hand over the other in haste, and be killed."""
    run_dir, steps = Path(sys.argv[1]), int(sys.argv[2])
    run_dir.mkdir(parents=True)
    config = killed_config(run_dir)
    reporter = ProgressReporter(run_dir, 10, trackers_for(config))
    reporter.run_started(run_id="r", curve_hash=config.curve_hash(), backend="playground", steps_per_epoch=10)
    tell(reporter, range(1, steps // 2 + 1))
    while '"mlflow"' not in trackers_json(run_dir):  # the last to be ready
        time.sleep(0.05)
    time.sleep(2.5)
    tell(reporter, range(steps // 2 + 1, steps + 1))
    reporter.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def trackers_json(run_dir: Path) -> str:
    """The trackers' names for the run, as far as they are known."""
    path = run_dir / "trackers.json"
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    main()
