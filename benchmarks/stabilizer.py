#!/usr/bin/env python3
"""DBC-DAC compared with plain training and plain clipping, on a clean run and on one with gradient spikes.

    python benchmarks/stabilizer.py [--steps 400] [--seeds 2] [--optimizer adamw]

A spike multiplies one matrix's gradient by 1e4; it hits 1 % of the steps, the same steps and matrices in every variant.
The loss is measured after training, in fp32, on 1,000 training rows of HLBD_Hardcore_Full_V2 (at 400 steps it is far
from zero, so that a ratio means something). The cost of an update is measured in turns in one process.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import torch
from torch import Tensor

from benchmarks.workload import (
    MINIATURE_MODEL,
    load_rows,
    make_trainer,
    objective_for,
    parse,
    seconds_per_update,
    spread,
)
from tools.landscape.probe import Probe
from training.loop.trainer import Trainer
from training.tasks.batch_plan import mix
from training.tasks.hlbd.dataset import HLBDDataset

FACTOR = 1e4
EVERY = 100
"""Number of steps of which one has a spike."""
STABILIZERS = ["dbc_dac", "none"]


def add_spikes(trainer: Trainer) -> None:
    """Multiply one matrix's gradient by FACTOR on some of the following steps."""
    matrices = [p for name, p in trainer.engine.model().named_parameters() if p.ndim == 2 and "blocks" in name]
    for number, parameter in enumerate(matrices):

        def hook(gradient: Tensor, number: int = number) -> Tensor:
            at = mix(99, trainer.step // EVERY) % EVERY
            which = mix(98, trainer.step // EVERY) % len(matrices)
            return gradient * FACTOR if trainer.step % EVERY == at and number == which else gradient

        parameter.register_hook(hook)  # type: ignore[no-untyped-call]


def train(dataset: HLBDDataset, probe: Probe, spikes: bool, settings: Mapping[str, Any]) -> float:
    """Return the loss on the probe's rows after training."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(dataset, {"schedule": "linear", "min_lr": 1e-5, **settings}, folder)
        if spikes:
            add_spikes(trainer)
        trainer.train()
        return probe.loss(trainer.engine.model())


def main(argv: Sequence[str] | None = None) -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="rounds that measure the cost of an update")
    parser.add_argument("--optimizer", choices=["adamw", "muon"], default="adamw")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--rank", type=int, nargs="+", default=[32])
    options = parse(parser, {"steps": 30, "seeds": 1, "rounds": 2, "rank": [8]}, argv)
    dataset = load_rows("HLBD_Hardcore_Full_V2.json", 64 if options.miniature else None)
    probe = Probe(objective_for(dataset), dataset, 1000, 0, torch.device("cpu"))
    model = MINIATURE_MODEL if options.miniature else {}
    base = {
        "num_layers": 2, "max_steps": options.steps, "precision": "auto", "optimizer": options.optimizer,
        "learning_rate": options.learning_rate, **model,
    }  # fmt: skip
    arms: dict[str, tuple[bool, dict[str, Any]]] = {
        "clean, clipping": (False, {}),
        "spikes, clipping": (True, {}),
        "spikes, no clipping": (True, {"max_grad_norm": None}),
    }
    for rank in options.rank:
        arms[f"clean, DBC-DAC rank {rank}"] = (False, {"stabilizer": "dbc_dac", "dbc_rank": rank})
        arms[f"spikes, DBC-DAC rank {rank}"] = (True, {"stabilizer": "dbc_dac", "dbc_rank": rank})
    losses: dict[str, list[float]] = {name: [] for name in arms}
    for seed in range(1, options.seeds + 1):
        for name, (spikes, settings) in arms.items():
            losses[name].append(train(dataset, probe, spikes, {**base, **settings, "seed": seed}))
            print(f"seed {seed}: {name:<28} loss {losses[name][-1]:.4f}", flush=True)
    clean = losses["clean, clipping"]
    print(f"\n{options.optimizer}, {options.steps} steps, {options.seeds} seeds: loss over the clean run's")
    for name, values in losses.items():
        ratios = [value / reference for value, reference in zip(values, clean, strict=True)]
        print(f"  {name:<28} {statistics.mean(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    cost = []
    for number in range(options.rounds):
        took = {
            name: seconds_per_update(
                dataset, {"precision": "bf16", "optimizer": options.optimizer, **model, "stabilizer": name}, 10
            )
            for name in (STABILIZERS if number % 2 == 0 else STABILIZERS[::-1])
        }
        cost.append(took["dbc_dac"] / took["none"])
    size = "miniature" if options.miniature else "default model"
    print(f"time of an update with DBC-DAC / without ({size}): {spread(cost)}")


if __name__ == "__main__":
    main()
