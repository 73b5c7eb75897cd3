#!/usr/bin/env python3
"""Quality of digits drawn by `--task diffusion` after some minutes of training on a CPU.

    python benchmarks/diffusion_digits.py [--minutes 10] [--guidance 1.0]

scikit-learn's 1,797 digits (8 by 8 pixels of 0 to 16) are cut into two random halves. A small UNet2DModel of diffusers
learns the first half, with the digit as the condition. Then as many samples are drawn as the second half has digits, of
the same digits, and compared with the second half, which the network never saw:

    Fréchet distance     of the 64 pixels, beside the distance of the two real halves
    classifier           an SVC taught on samples alone and tested on the real second half, beside one taught on the
                         real first half
    two-sample test      how often the nearest neighbour tells a sample from a real digit, beside the two real halves;
                         0.5 is chance
    memorised            share of samples nearer to a training digit than 99 % of the second half's digits are (0.01
                         if nothing is copied), and the share of samples whose nearest digit was trained on

Time is that of the training alone; nothing else should run meanwhile. `--picture FILE` draws the ten digits on their
way from noise, and what each sampler makes of the same noise in 1 to 50 steps (docs/images/diffusion_samples.png).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.diffusion_runs import HALF, Digits, TrainedRun, digit_halves, draw, train, updates_in
from benchmarks.sample_quality import NEAR, frechet_distance, memorised, taught_accuracy, two_sample_accuracy
from benchmarks.workload import parse
from training.tasks.diffusion.drawing import Sampling

WAY, WAY_SHOWN = 20, (0, 8, 12, 16, 18, 20)
"""Steps of the way that the picture shows, and those of them that it shows."""
PICTURED, STEPS_SHOWN = ("ddim", "dpmpp_2m", "heun"), (1, 2, 5, 10, 50)
"""Samplers and numbers of steps of the picture."""
GOAL = 0.95
"""Accuracy that a classifier taught on samples should have on real digits."""


def settings_of(options: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Return the settings of the training, without its length."""
    return {
        "model": "unet", "datasets": [str(data)], "condition_on": "class", "prediction": options.prediction,
        "block_channels": options.block_channels, "layers_per_block": options.layers, "norm_groups": 8,
        "batch_size": options.batch_size, "epochs": 10**6, "optimizer": options.optimizer,
        "learning_rate": options.learning_rate, "schedule": "cosine", "min_lr": 0.0, "ema_decay": options.ema_decay,
        "sample_count": 0,
    }  # fmt: skip


def report(samples_ND: NDArray[np.float64], train_half: Digits, held_out: Digits) -> None:
    """Print the figures of samples of the held-out half's digits."""
    count = len(held_out.pixels)
    print(
        f"Fréchet distance of {count} digits to the real second half: samples "
        f"{frechet_distance(samples_ND, held_out.pixels):.2f}, real first half "
        f"{frechet_distance(train_half.pixels, held_out.pixels):.2f}"
    )
    of_samples = taught_accuracy(samples_ND, held_out.labels, held_out.pixels, held_out.labels)
    of_real = taught_accuracy(train_half.pixels, train_half.labels, held_out.pixels, held_out.labels)
    print(f"classifier on real digits, taught on: samples {of_samples:.4f}, real digits {of_real:.4f}   goal {GOAL}")
    print(
        "two-sample test against the real second half: "
        f"samples {two_sample_accuracy(samples_ND, held_out.pixels):.4f}, "
        f"real first half {two_sample_accuracy(train_half.pixels, held_out.pixels):.4f}"
    )
    found = memorised(samples_ND, train_half.pixels, held_out.pixels)
    print(
        f"memorised: {found.share:.2%} of the samples ({NEAR:.0%} if nothing is copied); nearest digit trained on: "
        f"{found.nearer:.2%}",
        flush=True,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train, draw and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="time of the training")
    parser.add_argument("--prediction", default="v", choices=["epsilon", "v", "x0", "edm"])
    parser.add_argument("--block-channels", nargs="+", type=int, default=[32, 64])
    parser.add_argument("--layers", type=int, default=1, help="layers of a block")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--optimizer", default="adamw", choices=["adamw", "muon"])
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--ema-decay", type=float, default=0.995)
    parser.add_argument("--sampler", default="heun")
    parser.add_argument("--sampling-steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--digits", type=int, default=HALF, help="digits of each half")
    parser.add_argument("--picture", type=Path, default=None, help="file for a picture of samples by step")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    small = {
        "minutes": 0.002,
        "digits": 120,
        "block_channels": [8, 8],
        "batch_size": 16,
        "sampling_steps": 2,
        "threads": 1,
    }
    options = parse(parser, small, argv)
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        with tempfile.TemporaryDirectory() as name:
            measure(Path(name), options)
    finally:
        torch.set_num_threads(threads)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Train, draw and print the figures."""
    train_half, held_out = (half.of(options.digits) for half in digit_halves())
    data = folder / "digits.npz"
    np.savez(data, images=train_half.images, labels=train_half.labels)
    settings = settings_of(options, data)
    updates = updates_in(options.minutes * 60, settings, folder / "timed")
    run = train({**settings, "max_steps": updates}, folder / "run")
    print(
        f"{len(train_half.labels)} digits, UNet2DModel with {run.parameters:,} parameters, {run.updates:,} updates of "
        f"{options.batch_size} in {run.seconds:.2f} s"
    )
    started = time.perf_counter()
    how = Sampling(options.sampler, options.sampling_steps, options.guidance, seed=1)
    images = draw(run, len(held_out.labels), how, held_out.labels.tolist()).values
    print(
        f"{len(images)} samples by {options.sampler} in {options.sampling_steps} steps, guidance {options.guidance:g}: "
        f"{time.perf_counter() - started:.2f} s"
    )
    # Back to pixels of 0 to 16, in whole numbers as the real ones are.
    pixels = np.rint(np.clip((images.reshape(len(images), -1) + 1) * 8, 0, 16))
    report(pixels.astype(np.float64), train_half, held_out)
    if options.picture is not None:
        draw_picture(run, options)
        print(f"picture: {options.picture}")


def draw_picture(run: TrainedRun, options: argparse.Namespace) -> None:
    """Draw the digits 0 to 9: their way in twenty steps, and the end by several samplers and numbers of steps."""
    from matplotlib.figure import Figure

    digits = list(range(10))
    way = draw(run, 10, Sampling("ddim", WAY, options.guidance, seed=7), digits, with_frames=True).frames
    columns = {f"{step}\nof {WAY}": way[step] for step in WAY_SHOWN}
    for sampler in PICTURED:
        for steps in STEPS_SHOWN:
            title = f"{sampler}\n{steps} step{'s' if steps > 1 else ''}"
            columns[title] = draw(run, 10, Sampling(sampler, steps, options.guidance, seed=7), digits).values
    figure = Figure(figsize=(0.62 * len(columns), 0.62 * 10 + 0.5), dpi=100)
    axes = figure.subplots(10, len(columns), gridspec_kw={"wspace": 0.06, "hspace": 0.06})
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.005, top=0.93)
    for (title, images), column in zip(columns.items(), axes.T, strict=True):
        column[0].set_title(title, fontsize=6)
        for image, axis in zip(images, column, strict=True):
            axis.imshow(image[0], cmap="gray", vmin=-1, vmax=1)
            axis.axis("off")
    figure.savefig(options.picture)


if __name__ == "__main__":
    main()
