#!/usr/bin/env python3
"""Monitor on many long runs: time of the first table, and bytes that a refresh reads.

    python benchmarks/monitor.py [--runs 50] [--steps 10000]

The records are written by the reporter itself, then copied. The first table is timed in a process of its own, from its
start to its end, with the files in the page cache; the refreshes share one process. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import io
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import yaml
from rich.console import Console

from benchmarks.workload import parse
from tools.monitoring.screen import draw
from tools.runs.fleet import Fleet
from training import TrainingConfig
from training.record.reporter import LOG_NAME, ProgressReporter

NEW_UPDATES = 10


class Recorder:
    """Writer of the record of a run of a hundred epochs, with a second between two updates."""

    def __init__(self, run_dir: Path, steps: int) -> None:
        run_dir.mkdir(parents=True)
        (run_dir / "config.yaml").write_text(yaml.safe_dump(TrainingConfig().to_dict()), encoding="utf-8")
        self.reporter = ProgressReporter(run_dir, report_batches=steps)
        self._now = time.time() - steps
        self.reporter._clock = lambda: self._now
        self._per_epoch = max(1, steps // 100)
        self.reporter.run_started(
            run_id="0" * 12, backend="playground", device="cpu", num_parameters=1_000_000, epochs=100,
            steps_per_epoch=self._per_epoch, total_steps=2 * steps, data_fingerprint="0" * 32, vocab_size=500,
        )  # fmt: skip
        self._step = 0

    def train(self, steps: int) -> None:
        """Record `steps` more updates, and write everything to disk."""
        for _ in range(steps):
            self._step += 1
            self._now += 1.0
            loss = 5.0 * math.exp(-self._step / 3000.0) + 0.1 * math.sin(self._step)
            epoch = math.ceil(self._step / self._per_epoch)
            self.reporter.step(
                step=self._step, epoch=epoch, batch=self._step, loss=loss, accuracy=0.5123456789, grad_norm=1.23456789,
                learning_rate=0.000123456789, tokens=1234, loss_tokens=321, tokens_per_second=12345.6,
                forward_ms=12.345, backward_ms=23.456,
            )  # fmt: skip
            if self._step % self._per_epoch == 0:
                self.reporter.evaluation(step=self._step, epoch=epoch, loss=loss, accuracy=0.5)
                self.reporter.emit("best", {"step": self._step, "epoch": epoch, "loss": loss})
        self.reporter.flush()


def main(argv: Sequence[str] | None = None) -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parse(parser, {"runs": 3, "steps": 200, "repetitions": 1}, argv)
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "run_000"
        recorder = Recorder(first, options.steps)
        recorder.train(options.steps)
        for n in range(1, options.runs):
            shutil.copytree(first, Path(folder) / f"run_{n:03d}")
        size = (first / LOG_NAME).stat().st_size
        print(f"{options.runs} runs of {options.steps:,} steps, {options.runs * size / 1e6:.0f} MB of logs")
        first_table(Path(folder), options.repetitions)
        refreshes(Path(folder), first, recorder, size, options.repetitions)


def first_table(folder: Path, repetitions: int) -> None:
    """Time the whole command, including Python's start, and Python's start alone."""

    def seconds(command: list[str]) -> float:
        started = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - started

    script = str(ROOT / "tools" / "monitor_all_trainings.py")
    taken = [seconds([sys.executable, script, str(folder), "--once"]) for _ in range(repetitions)]
    bare = [seconds([sys.executable, "-c", "pass"]) for _ in range(repetitions)]
    print(
        f"first table, whole command: {statistics.median(taken):.3f} s ({min(taken):.3f} to {max(taken):.3f}; "
        f"Python's start alone {statistics.median(bare):.3f} s; target: under 1 s)"
    )


def refreshes(folder: Path, first: Path, recorder: Recorder, size: int, repetitions: int) -> None:
    """Time a refresh in which nothing is new, and one in which every run has new updates."""
    fleet = Fleet([folder])
    console = Console(width=160, height=50, file=io.StringIO())

    def look() -> tuple[float, int]:
        before, started = fleet.bytes_read, time.perf_counter()
        console.print(draw(fleet, "state", console, is_live=True))
        return time.perf_counter() - started, fleet.bytes_read - before

    seconds, read = look()
    print(f"first look, in the process: {seconds:.3f} s, {read / 1e6:.1f} MB read")
    idle = [look() for _ in range(repetitions)]
    print(
        f"refresh, nothing new: {statistics.median(s for s, _ in idle):.6f} s, {max(r for _, r in idle):,} bytes read"
    )
    recorder.train(NEW_UPDATES)
    appended = (first / LOG_NAME).read_bytes()[size:]
    for run_dir in folder.iterdir():
        if run_dir != first:
            with (run_dir / LOG_NAME).open("ab") as log:
                log.write(appended)
    seconds, read = look()
    written = len(appended) * len(fleet.runs)
    print(
        f"refresh, {NEW_UPDATES} updates more in each run: {seconds:.6f} s, {read:,} bytes read of {written:,} written"
    )


if __name__ == "__main__":
    main()
