#!/usr/bin/env python3
"""Cost of autopoietic attention: time of an update compared with `attention: standard`, in turns in one process.

    python benchmarks/attention.py [--steps 20] [--rounds 7] [--precision auto]

Same data, optimizer and sizes (the default model); the rounds alternate, so that a machine whose speed drifts affects
both. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import torch

from benchmarks.workload import MINIATURE_MODEL, load_rows, parse, seconds_per_update, spread
from training.machine.device import pick_precision

NAMES = ["autopoietic", "standard"]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="timed updates per round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    options = parse(parser, {"steps": 3, "rounds": 2}, argv)
    dataset = load_rows("HLBD_Hardcore_Full.json", 64 if options.miniature else None)
    precision = pick_precision(options.precision, torch.device("cpu"))
    settings = {"precision": precision, **(MINIATURE_MODEL if options.miniature else {})}
    ratios: list[float] = []
    for number in range(options.rounds):
        order = NAMES if number % 2 == 0 else NAMES[::-1]
        took = {name: seconds_per_update(dataset, {**settings, "attention": name}, options.steps) for name in order}
        ratios.append(took["autopoietic"] / took["standard"])
        print(
            f"round {number + 1}: autopoietic {took['autopoietic'] * 1e3:.1f} ms, "
            f"standard {took['standard'] * 1e3:.1f} ms per update",
            flush=True,
        )
    model = "miniature" if options.miniature else "default model"
    print(f"{precision}, {torch.get_num_threads()} threads, {model}, batch 32")
    print(f"autopoietic / standard: {spread(ratios)}   goal 1.10")


if __name__ == "__main__":
    main()
