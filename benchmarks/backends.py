#!/usr/bin/env python3
"""Cost of a backend compared with playground: the same config through each front door, in turns.

    python benchmarks/backends.py [--backends huggingface deepspeed] [--rounds 3] [--steps 60]

Each run is a process of its own on the default model; its figure is the median time between the records of two updates,
without the first ten updates. Run it on an idle machine; it takes about five minutes on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.workload import MINIATURE_MODEL, as_flags, parse

WARM_UP = 10


def seconds_per_update(backend: str, steps: int, flags: Sequence[str], folder: Path) -> float:
    """Return the median over a run's updates."""
    run_dir = folder / backend
    command = [
        *(sys.executable, str(ROOT / "train.py"), "--backend", backend, "--datasets", "HLBD_Hardcore_Full_V2.json"),
        *("--run-dir", str(run_dir), "--overwrite", "--max-steps", str(steps), "--device", "cpu"),
        *("--answer-samples", "0", "--save-interval", "none", "--report-batches", str(steps), *flags),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{backend}: {done.stderr.strip()}")
    events = map(json.loads, (run_dir / "progress.jsonl").read_text(encoding="utf-8").splitlines())
    times = [e["time"] for e in events if e["event"] == "step"][WARM_UP:]
    return float(statistics.median(b - a for a, b in itertools.pairwise(times)))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["huggingface", "deepspeed"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    options = parse(parser, {"backends": ["huggingface"], "rounds": 1, "steps": WARM_UP + 4}, argv)
    if options.steps < WARM_UP + 2:
        parser.error(f"--steps must be at least {WARM_UP + 2}, since the first {WARM_UP} updates do not count")
    flags = as_flags(MINIATURE_MODEL) if options.miniature else []
    names = ["playground", *options.backends]
    found: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            for name in names if number % 2 == 0 else names[::-1]:
                found[name].append(seconds_per_update(name, options.steps, flags, Path(folder)))
    print(f"{'':<14}{'ms per update':>14}{'of playground':>16}   (each round)")
    for name in names:
        ratios = [theirs / ours for theirs, ours in zip(found[name], found["playground"], strict=True)]
        shown = " ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"{name:<14}{statistics.median(found[name]) * 1e3:>14.1f}{statistics.median(ratios):>16.3f}   ({shown})")


if __name__ == "__main__":
    main()
