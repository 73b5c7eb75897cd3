#!/usr/bin/env python3
"""Loss surface compared with its bare forward passes: the cost of moving the weights, publishing and bookkeeping.

    python benchmarks/landscape.py [--resolution 25] [--probe 64] [--rounds 3]

The model is the default one with fresh weights, on HLBD_Hardcore_Full_V2, in random directions. In each round half of
the bare passes come before the surface and half after it, so that a machine that slows down or speeds up favours
neither. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import numpy as np
import torch

from apt_model.config import ModelConfig
from apt_model.model import APT
from benchmarks.workload import MINIATURE_MODEL, load_rows, objective_for, parse, spread
from tools.landscape.directions import random_plane
from tools.landscape.flat_weights import FlatWeights
from tools.landscape.grid import axis, check_resolution
from tools.landscape.measurement import Budget, Measurement
from tools.landscape.path import WeightPath
from tools.landscape.probe import Probe
from tools.landscape.surface import Surface, surface_path, write_surface

TARGET = 1.15


def unmeasured(resolution: int, probe: Probe) -> Surface:
    """Return a surface without any loss yet, whose path is only its centre."""
    values = axis(-1.0, 1.0, resolution)
    return Surface(
        alphas=values,
        betas=values,
        losses=np.full((resolution, resolution), math.nan),
        directions="random",
        explained_variance=None,
        path_steps=np.array([0]),
        path_plane=np.zeros((1, 2)),
        path_distance=np.zeros(1),
        path_loss=np.full(1, math.nan),
        path_plane_loss=np.full(1, math.nan),
        center_step=0,
        center_loss=math.nan,
        center="fresh",
        center_norm=1.0,
        probe_tokens=probe.num_tokens,
        seconds=0.0,
        key="benchmark",
    )


def seconds_of(act: Callable[[], object]) -> float:
    """Return how long `act` takes."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def main(argv: Sequence[str] | None = None) -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--resolution", type=int, default=25)
    parser.add_argument("--probe", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parse(parser, {"resolution": 5, "probe": 8, "rounds": 2}, argv)
    resolution = check_resolution(options.resolution)
    dataset = load_rows("HLBD_Hardcore_Full_V2.json", 64 if options.miniature else None)
    sizes = MINIATURE_MODEL if options.miniature else {}
    torch.manual_seed(0)
    model = APT(ModelConfig(vocab_size=dataset.tokenizer.vocab_size, **sizes)).eval()
    probe = Probe(objective_for(dataset), dataset, options.probe, 0, torch.device("cpu"))
    passes = resolution**2
    print(
        f"{model.num_parameters():,} parameters, {probe.num_samples} samples ({probe.num_tokens} tokens with a loss), "
        f"{passes} points, {torch.get_num_threads()} threads",
        flush=True,
    )

    def bare(count: int) -> None:
        for _ in range(count):
            probe.loss(model)

    def surface(folder: str) -> None:
        file = surface_path(Path(folder), "benchmark")
        weights = FlatWeights(model)
        measurement = Measurement(
            weights,
            lambda: probe.loss(model),
            random_plane(weights, 0),
            WeightPath([], weights),
            unmeasured(resolution, probe),
            lambda grown: write_surface(file, grown),
        )
        assert measurement.run(Budget(math.inf)).finished
        assert measurement.forward_passes == passes

    bare(3)
    ratios: list[float] = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            before = seconds_of(lambda: bare(passes // 2))
            measured = seconds_of(lambda: surface(folder))  # called at once
            after = seconds_of(lambda: bare(passes - passes // 2))
        ratios.append(measured / (before + after))
        print(
            f"round {number + 1}: {measured:.3f} s for the surface, {before + after:.3f} s for {passes} bare forward "
            f"passes: {ratios[-1]:.3f}",
            flush=True,
        )
    print(f"\nsurface / bare forward passes: {spread(ratios)}, target {TARGET}")


if __name__ == "__main__":
    main()
