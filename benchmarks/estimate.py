#!/usr/bin/env python3
"""What `--dry-run` and `--estimate` say beside what the run then needs: memory and time, over several configurations.

    python benchmarks/estimate.py [--only NAME …] [--memory-only]

Each configuration is estimated in a process of its own and then trained for thirty updates in another, through the
front door; the facts come from the run's own report. Run it on an idle machine (`--memory-only` leaves the times out,
and does not need one). It takes about five minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from training.config import TrainingConfig
from training.layers import flatten, nest
from training.progress import read_report
from training.registry import load
from training.train import with_options

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "wide, standard": {"d_model": 512, "num_layers": 3, "d_ff": 2048, "attention": "standard", "batch_size": 16},
    "bf16": {"d_model": 192, "num_layers": 4, "precision": "bf16"},
    "muon": {"d_model": 320, "num_layers": 4, "d_ff": 1280, "optimizer": "muon"},
    "accumulation": {"num_layers": 3, "batch_size": 16, "gradient_accumulation_steps": 4},
    "checkpointing": {"d_model": 384, "num_layers": 4, "batch_size": 24, "gradient_checkpointing": True},
    "stabilizer, dropout": {"num_layers": 3, "stabilizer": "dbc_dac", "dropout": 0.1},
    "34 million": {"d_model": 512, "num_layers": 8, "d_ff": 2048, "batch_size": 8},
}
COMMON = {
    "datasets": ["HLBD_Hardcore_Full_V2.json"], "validation_split": 0.1, "answer_samples": 0, "device": "cpu",
    "max_steps": 30, "save_interval": None,
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Expected and actual, bytes and seconds."""

    name: str
    computed: float
    measured: float
    peak: float
    expected_seconds: float
    seconds: float
    expected_whole: float
    whole: float


def make_config(settings: dict[str, Any]) -> TrainingConfig:
    config_class = with_options(load("playground"))
    layer = flatten({**COMMON, **settings}, config_class, "benchmark")
    return config_class.from_dict(nest(layer))


def print_figures(settings: dict[str, Any]) -> None:
    """In a process of its own: the estimate as one line of JSON."""
    from training.estimate import estimate

    found = estimate(make_config(settings))
    print(json.dumps({
        "peak": found.peak_bytes, "training": found.training_seconds, "whole": found.total_seconds,
    }))  # fmt: skip


def as_flags(settings: dict[str, Any]) -> list[str]:
    words = []
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        words += [flag] if value is True else [flag, *map(str, value if isinstance(value, list) else [value])]
    return words


def compare(name: str, settings: dict[str, Any]) -> Row:
    command = [sys.executable, str(Path(__file__).resolve()), "--one", json.dumps(settings)]
    asked = subprocess.run(command, capture_output=True, text=True, check=True)
    said = json.loads(asked.stdout.splitlines()[-1])
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "train.py"), *as_flags({**COMMON, **settings}), "--run-dir", folder]
        started = time.perf_counter()
        subprocess.run(command, capture_output=True, text=True, check=True)
        whole = time.perf_counter() - started
        report = read_report(Path(folder))
    assert report is not None
    return Row(
        name=name,
        computed=report["estimate"]["peak_memory_bytes"]["expected"],
        measured=said["peak"],
        peak=max(report["memory"]["peak_bytes"]),
        expected_seconds=said["training"],
        seconds=report["estimate"]["training_seconds"]["actual"],
        expected_whole=said["whole"],
        whole=whole,
    )


def show(row: Row, with_time: bool) -> None:
    def off(expected: float, actual: float) -> str:
        return f"{expected / actual - 1:+6.1%}"

    memory = (
        f"{row.computed / 1e6:8.0f} {off(row.computed, row.peak)} {row.measured / 1e6:8.0f} "
        f"{off(row.measured, row.peak)} {row.peak / 1e6:8.0f}"
    )
    times = (
        f"{row.expected_seconds:8.2f} {off(row.expected_seconds, row.seconds)} {row.seconds:8.2f}"
        f"{row.expected_whole:8.2f} {off(row.expected_whole, row.whole)} {row.whole:8.2f}"
    )
    print(f"{row.name:<20} {memory}  {times if with_time else ''}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=list(CONFIGURATIONS), default=list(CONFIGURATIONS), metavar="NAME")
    parser.add_argument("--memory-only", action="store_true", help="do not show times")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print_figures(json.loads(options.one))
        return
    print(f"{'':<20} {'memory of the run, MB':^41}  {'updates, s':^24} {'whole run, s':^24}")
    print(f"{'':<20} {'dry run':>15} {'estimate':>16} {'fact':>8}  {'estimate':>16} {'fact':>8}{'estimate':>15}   fact")
    rows = []
    for name in options.only:
        rows.append(compare(name, CONFIGURATIONS[name]))
        show(rows[-1], not options.memory_only)
    worst = max(abs(row.measured / row.peak - 1) for row in rows)
    print(f"largest error of memory: estimate {worst:.1%}, dry run", end=" ")
    print(f"{max(abs(row.computed / row.peak - 1) for row in rows):.1%}   goal 15%")
    if not options.memory_only:
        print(f"largest error of time: {max(abs(r.expected_seconds / r.seconds - 1) for r in rows):.1%}   goal 15%")


if __name__ == "__main__":
    main()
