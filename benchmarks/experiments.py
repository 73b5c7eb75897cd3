#!/usr/bin/env python3
"""Experiment store on many long runs: time of the first look, of a look that finds nothing new, and of a list.

    python benchmarks/experiments.py [--runs 200] [--steps 10000]

The records are written by the reporter itself, then copied, each with a seed of its own. All times but the command's
are of calls in one process, with the files in the page cache. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.monitor import Recorder
from benchmarks.workload import parse
from training.experiments.store.index import ExperimentStore
from training.experiments.store.query import Query
from training.record.reporter import LOG_NAME, REPORT_NAME

NEW_UPDATES = 10
SETTLED_SECONDS = 2.1
"""Time after which a look no longer takes the files for new."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=7)
    options = parse(parser, {"runs": 4, "steps": 200, "repetitions": 1}, argv)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        recorder = Recorder(root / "run_000", options.steps)
        recorder.train(options.steps)
        copies(root, options.runs)
        size = (root / "run_000" / LOG_NAME).stat().st_size
        print(f"{options.runs} runs of {options.steps:,} steps, {options.runs * size / 1e6:.0f} MB of logs")
        with ExperimentStore(root) as store:
            looks(store, recorder, options.repetitions)
            lists(store, options.repetitions)
        command(root, options.repetitions)


def copies(root: Path, count: int) -> None:
    """Copy the first run, with another seed each."""
    first = root / "run_000"
    config = (first / "config.yaml").read_text(encoding="utf-8")
    for n in range(1, count):
        copy = root / f"run_{n:03d}"
        copy.mkdir()
        for name in (LOG_NAME, REPORT_NAME):
            (copy / name).write_bytes((first / name).read_bytes())
        (copy / "config.yaml").write_text(config.replace("seed: 42", f"seed: {n}"), encoding="utf-8")


def timed(act: Callable[[], object], repetitions: int) -> str:
    """Return the median and the range of the times that a call takes: `12.3 ms (11.8 to 14.1)`."""
    taken = []
    for _ in range(repetitions):
        started = time.perf_counter()
        act()
        taken.append(1e3 * (time.perf_counter() - started))
    return f"{statistics.median(taken):.2f} ms ({min(taken):.2f} to {max(taken):.2f})"


def looks(store: ExperimentStore, recorder: Recorder, repetitions: int) -> None:
    """Time the first look, one that finds nothing new, and one that finds new updates in one run."""
    started = time.perf_counter()
    changes = store.refresh()
    print(f"first look: {time.perf_counter() - started:.3f} s, {changes.bytes_read / 1e6:.2f} MB read")
    time.sleep(SETTLED_SECONDS)
    store.refresh()
    print(f"look, nothing new: {timed(lambda: store.refresh(search=False), repetitions)}")
    print(f"look, with a search for new runs: {timed(store.refresh, repetitions)}")
    recorder.train(NEW_UPDATES)
    started = time.perf_counter()
    changes = store.refresh(search=False)
    seconds = time.perf_counter() - started
    print(f"look, {NEW_UPDATES} updates more in one run: {1e3 * seconds:.2f} ms, {changes.bytes_read:,} bytes read")


def lists(store: ExperimentStore, repetitions: int) -> None:
    """Time lists."""
    query = Query(where="run.seed < 150 and learning_rate <= 1e-2 and val_loss < 10", sort="val_loss,-run.seed")
    print(f"list of all runs: {timed(store.runs, repetitions)}, target: under 100 ms")
    print(f"list of {store.count(query)} runs by a condition, sorted: {timed(lambda: store.runs(query), repetitions)}")
    print(f"list in groups: {timed(lambda: store.groups('run.seed'), repetitions)}")


def command(root: Path, repetitions: int) -> None:
    """Time the whole command, including Python's start."""
    words = [sys.executable, str(ROOT / "tools" / "experiments.py"), "list", "--root", str(root)]
    print(f"command `list`: {timed(lambda: subprocess.run(words, check=True, capture_output=True), repetitions)}")


if __name__ == "__main__":
    main()
