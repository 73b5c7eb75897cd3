#!/usr/bin/env python3
"""Divergence of generated points from the real ones on 2-D sets, beside the published figures of a small DDPM.

    python benchmarks/diffusion_vectors.py [--sets circle line moons] [--updates 10000] [--peer]

The published figures are the baseline of the template `2d_diffusion` of The AI Scientist (arXiv 2408.06292; circle
0.354, dino 0.989, line 0.161, moons 0.090): 100,000 points, a residual network of 296,450 parameters, 10,000 updates of
256 points, 100 noise levels whose last one keeps 36 % of the data's variance, 10,000 samples, and the divergence by
the fifth neighbours in the maximum norm, in bits. Here are the same distributions (without the dinosaur, which is a
file), sizes and divergence; the network has 300,000 parameters at most. Our choices are the flags' defaults.

`--peer` also trains the published method in the same run, written from its description: what it gets here shows that
sets and divergence are those of the published figures. Beside each figure stands the divergence of as many new real
points, the least that one can expect.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.diffusion_runs import TrainedRun, draw, train
from benchmarks.sample_quality import knn_divergence
from benchmarks.workload import parse
from training.tasks.diffusion.built_in_sets import points as points_of
from training.tasks.diffusion.drawing import Sampling

Points = NDArray[np.float64]
PUBLISHED = {"circle": 0.354, "line": 0.161, "moons": 0.090}
"""Divergence of the published baseline, in bits."""
GOAL = 0.5
"""Share of the published divergence that ours should have at most."""
MOST_PARAMETERS = 300_000


class Sinusoids(nn.Module):
    """Sines and cosines of a number at geometrically falling frequencies.

    Args:
        size: number of values.
        scale: factor of the number.
    """

    def __init__(self, size: int, scale: float = 1.0) -> None:
        super().__init__()
        self.frequencies = nn.Buffer(scale * torch.logspace(0, -4, size // 2), persistent=False)

    def forward(self, values_N: Tensor) -> Tensor:
        """Return (N, size)."""
        angles = values_N[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class PublishedNetwork(nn.Module):
    """Residual network of the published baseline: sinusoids of both coordinates and of the level, three blocks."""

    def __init__(self, width: int = 256, sinusoids: int = 128, blocks: int = 3) -> None:
        super().__init__()
        self.of_point, self.of_level = Sinusoids(sinusoids, 25.0), Sinusoids(sinusoids)
        self.first = nn.Linear(3 * sinusoids, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.last = nn.Linear(width, 2)

    def forward(self, points_N2: Tensor, levels_N: Tensor) -> Tensor:
        """Return the estimate of the noise (N, 2)."""
        parts = [self.of_point(points_N2[:, 0]), self.of_point(points_N2[:, 1]), self.of_level(levels_N.float())]
        hidden = self.first(torch.cat(parts, dim=1))
        for block in self.blocks:
            hidden = hidden + block(hidden.relu())
        found: Tensor = self.last(hidden.relu())
        return found


def train_published(points: Points, options: argparse.Namespace) -> tuple[Points, float]:
    """Train the published method on points; return its samples and the seconds of its training.

    It is a DDPM (arXiv 2006.11239) with 100 levels, betas from 1e-4 to 0.02, AdamW at 3e-4 falling to 0 by a cosine,
    gradients clipped to 0.5, and an average of the weights (0.995, every tenth update, from the hundredth).
    """
    from torch.optim.swa_utils import AveragedModel
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    betas = torch.linspace(1e-4, 0.02, 100)
    kept = (1 - betas).cumprod(0)
    network = PublishedNetwork()
    average = AveragedModel(network, avg_fn=lambda old, new, count: old + _weight_of_new(int(count)) * (new - old))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.updates)
    loader = DataLoader(TensorDataset(torch.from_numpy(points.astype(np.float32))), batch_size=256, shuffle=True)
    started, step = time.perf_counter(), 0
    while step < options.updates:
        for (clean,) in loader:
            if step == options.updates:
                break
            noise, levels = torch.randn_like(clean), torch.randint(100, (len(clean),))
            signal = kept[levels, None]
            loss = F.mse_loss(network(signal.sqrt() * clean + (1 - signal).sqrt() * noise, levels), noise)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            step += 1
            if step % 10 == 0:
                average.update_parameters(network)
    seconds = time.perf_counter() - started
    drawn = torch.randn(options.samples, 2)
    with torch.no_grad():
        for level in reversed(range(100)):
            before = kept[level - 1] if level else torch.tensor(1.0)
            noise = average(drawn, torch.full((len(drawn),), level))
            clean = (drawn - (1 - kept[level]).sqrt() * noise) / kept[level].sqrt()
            mean = betas[level] * before.sqrt() * clean + (1 - before) * (1 - betas[level]).sqrt() * drawn
            spread = (betas[level] * (1 - before) / (1 - kept[level])).sqrt()
            drawn = mean / (1 - kept[level]) + spread * torch.randn_like(drawn)
    return drawn.numpy().astype(np.float64), seconds


def _weight_of_new(count: int) -> float:
    """Return the weight of the new values in the average, at its n-th change: 1 until the hundredth update."""
    past = 10 * (count + 1) - 101
    return 1.0 if past <= 0 else max(1 - 0.995, (1 + past) ** (-2 / 3))


def ours(name: str, options: argparse.Namespace, folder: Path) -> tuple[Points, TrainedRun]:
    """Train `--task diffusion` on a built-in set; return its samples and the run."""
    run = train(
        {
            "model": "denoising_mlp", "datasets": [f"{name}:{options.points}"], "prediction": "edm",
            "width": options.width, "num_blocks": options.blocks, "input_frequencies": options.frequencies,
            "noise_schedule": "karras", "sigma_data": 1.0, "level_mean": options.level_mean,
            "level_deviation": options.level_deviation, "batch_size": options.batch_size, "epochs": 10**6,
            "max_steps": options.updates, "optimizer": options.optimizer, "learning_rate": options.learning_rate,
            "schedule": "cosine", "min_lr": 0.0, "warmup_steps": options.updates // 50, "ema_decay": options.ema_decay,
            "sample_count": 0,
        },
        folder / "run",
    )  # fmt: skip
    return draw(run, options.samples, Sampling(options.sampler, options.sampling_steps, seed=1)).values.astype(
        np.float64
    ), run


def compare(name: str, options: argparse.Namespace) -> None:
    """Print the figures of one set."""
    points, fresh = points_of(name, options.points), points_of(name, options.samples, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        samples, run = ours(name, options, Path(folder))
    if run.parameters > MOST_PARAMETERS:
        raise SystemExit(f"the network has {run.parameters:,} parameters; at most {MOST_PARAMETERS:,} are compared")
    print(f"{name}: {run.parameters:,} parameters, {run.updates:,} updates in {run.seconds:.2f} s")
    found, published = knn_divergence(points, samples), PUBLISHED[name]
    if options.peer:
        theirs, seconds = train_published(points, options)
        print(
            f"{name}: the published method here {knn_divergence(points, theirs):.4f} bits, {options.updates:,} updates "
            f"in {seconds:.2f} s; published {published}"
        )
    print(f"{name}: new real points {knn_divergence(points, fresh):+.4f} bits")
    print(
        f"{name}: ours {found:.4f} bits, published {published}; ours / published {found / published:.3f}   goal {GOAL}",
        flush=True,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print the comparison of each set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(PUBLISHED), choices=list(PUBLISHED))
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=100_000, help="training points of a set")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--width", type=int, default=128, help="features of the network")
    parser.add_argument("--blocks", type=int, default=4, help="residual blocks of the network")
    parser.add_argument("--frequencies", type=int, default=8, help="octaves of the coordinates that it reads")
    parser.add_argument("--optimizer", default="adamw", choices=["adamw", "muon"])
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--ema-decay", type=float, default=0.999)
    parser.add_argument("--level-mean", type=float, default=-2.5, help="mean of ln sigma in training")
    parser.add_argument("--level-deviation", type=float, default=1.5, help="standard deviation of ln sigma")
    parser.add_argument("--sampler", default="heun")
    parser.add_argument("--sampling-steps", type=int, default=40)
    parser.add_argument("--peer", action="store_true", help="train the published method too")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    small = {
        "sets": ["moons"], "updates": 20, "points": 2000, "samples": 200, "batch_size": 64, "sampling_steps": 4,
        "peer": True, "threads": 1,
    }  # fmt: skip
    options = parse(parser, small, argv)
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        for name in options.sets:
            compare(name, options)
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
