#!/usr/bin/env python3
"""Images per second and share of a GPU's arithmetic (MFU) of the UNet of DDPM's CIFAR-10 model, in bf16.

    python benchmarks/gpu_diffusion.py [--batch-size 128] [--updates 30]

It needs an NVIDIA GPU. Our loop trains diffusers' UNet2DModel at the size of arXiv 2006.11239, App. B (channels 128,
256, 256, 256; two layers a block, attention at 16 by 16 pixels) on random images of 32 by 32 pixels, with an average of
the weights, as that paper does. Then it draws images. The work of a forward pass is counted by torch
(`FlopCounterMode`), a training step counts as three of them, and is divided by what a large matrix product reaches on
this GPU in the same precision, measured in the same run, and by the data sheet's figure where the GPU is a known one.
"""

from __future__ import annotations

import argparse
import statistics
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
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.diffusion_runs import TrainedRun, draw, prepare
from benchmarks.gpu_language import data_sheet_figure, measured_device, synchronize
from benchmarks.workload import UpdateTimes, parse, trainer_of
from training.tasks.diffusion.drawing import Sampling
from training.tasks.protocol import Prepared

WARM_UP = 5


def work_of_an_image(model: nn.Module, side: int) -> int:
    """Return the floating point operations of an image's forward pass, counted on the CPU."""
    image = torch.zeros(1, 3, side, side)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image, torch.zeros(1))
    return int(counter.get_total_flops())


def prepare_random(folder: Path, options: argparse.Namespace) -> Prepared:
    """Return random images and the UNet as the task prepares them."""
    shape = (8 * options.batch_size, options.side, options.side, 3)
    path = folder / "images.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    levels = len(options.block_channels)
    return prepare(
        {
            "model": "unet", "datasets": [str(path)], "block_channels": options.block_channels, "layers_per_block": 2,
            "attention_levels": [2] if levels > 1 else [], "norm_groups": 8 if options.miniature else 32,
            "batch_size": options.batch_size, "epochs": 10**6, "max_steps": WARM_UP + options.updates,
            "learning_rate": 2e-4, "ema_decay": 0.9999, "precision": options.precision, "sample_count": 0,
            "gradient_checkpointing": options.gradient_checkpointing,
        },
        folder / "run",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Print the UNet's speed and MFU, and the speed of drawing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--updates", type=int, default=30, help="timed updates")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--side", type=int, default=32, help="pixels of an image's side")
    parser.add_argument("--block-channels", nargs="+", type=int, default=[128, 256, 256, 256])
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp16", "fp32"])
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--sampling-steps", type=int, default=50)
    small = {
        "updates": 3, "batch_size": 2, "side": 8, "block_channels": [8, 8], "precision": "fp32", "sampling_steps": 2,
    }  # fmt: skip
    options = parse(parser, small, argv)
    device, speed, name = measured_device("gpu_diffusion", options)
    with tempfile.TemporaryDirectory() as folder:
        measure(prepare_random(Path(folder), options), device, speed, name, options)


def measure(prepared: Prepared, device: torch.device, speed: float, gpu: str, options: argparse.Namespace) -> None:
    """Train the network, draw images, and print the figures."""
    work = work_of_an_image(prepared.objective.build_model(), options.side)
    times = UpdateTimes()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    trainer = trainer_of(prepared, times, device=str(device))
    try:
        trainer.make_updates()
    finally:
        trainer.close()
    seconds = statistics.median(times.seconds[WARM_UP:])
    images = options.batch_size / seconds
    sheet = data_sheet_figure(gpu) if options.precision != "fp32" else None
    of_sheet = f", {3 * work * images / sheet:.1%} of the data sheet" if sheet is not None else ""
    memory = f", {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB" if device.type == "cuda" else ""
    print(
        f"UNet2DModel: {trainer.num_parameters:,} parameters, {work / 1e9:.3g} Gflop a forward pass, "
        f"{seconds * 1e3:.2f} ms per update, {images:,.1f} images/s, MFU {3 * work * images / speed:.3f} of the matrix "
        f"product{of_sheet}{memory}",
        flush=True,
    )
    synchronize(device)
    started = time.perf_counter()
    run = TrainedRun(prepared, trainer.evaluated_model(), trainer.num_parameters, trainer.step, sum(times.seconds))
    draw(run, options.batch_size, Sampling("ddim", options.sampling_steps))
    synchronize(device)
    drawn = options.batch_size / (time.perf_counter() - started)
    print(f"drawing by ddim in {options.sampling_steps} steps: {drawn:,.2f} images/s", flush=True)


if __name__ == "__main__":
    main()
