#!/usr/bin/env python3
"""What a backend costs beside playground: the same config through each front door, in turns.

    python benchmarks/backends.py [--backends huggingface deepspeed] [--rounds 3] [--steps 60]

Each run is a process of its own on the default model; its figure is the median time from one update's record to the
next, without the first ten. Run it on an idle machine; it takes about five minutes on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 10


def seconds_per_update(backend: str, steps: int, folder: Path) -> float:
    """The median of a run's updates."""
    run_dir = folder / backend
    command = [
        *(sys.executable, str(ROOT / "train.py"), "--backend", backend, "--datasets", "HLBD_Hardcore_Full_V2.json"),
        *("--run-dir", str(run_dir), "--overwrite", "--max-steps", str(steps), "--device", "cpu"),
        *("--answer-samples", "0", "--save-interval", "none", "--report-batches", str(steps)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{backend}: {done.stderr.strip()}")
    events = map(json.loads, (run_dir / "progress.jsonl").read_text(encoding="utf-8").splitlines())
    times = [e["time"] for e in events if e["event"] == "step"][WARM_UP:]
    return float(statistics.median(b - a for a, b in itertools.pairwise(times)))


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backends", nargs="+", default=["huggingface", "deepspeed"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    names = ["playground", *options.backends]
    found: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            for name in names if number % 2 == 0 else names[::-1]:
                found[name].append(seconds_per_update(name, options.steps, Path(folder)))
    print(f"{'':<14}{'ms an update':>14}{'of playground':>16}   (each round)")
    for name in names:
        ratios = [theirs / ours for theirs, ours in zip(found[name], found["playground"], strict=True)]
        told = " ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"{name:<14}{statistics.median(found[name]) * 1e3:>14.1f}{statistics.median(ratios):>16.3f}   ({told})")


if __name__ == "__main__":
    main()
