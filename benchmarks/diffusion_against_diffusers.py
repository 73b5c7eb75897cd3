#!/usr/bin/env python3
"""Updates per second and held-out loss of `--task diffusion` against diffusers' own training script.

    python benchmarks/diffusion_against_diffusers.py [--rounds 5] [--minutes 5]

The peer does what `examples/unconditional_image_generation/train_unconditional.py` of diffusers does in its loop, with
its defaults: a folder of images read by datasets, DDPMScheduler, AdamW and the learning rate through accelerate, EMA by
`EMAModel`, its log. (The script itself needs torchvision for what Pillow does here, and it has no held-out loss.)
Both train the same UNet2DModel on the same folder, scikit-learn's digits as RGB files of 8 by 8 pixels, in batches of
the same size; nothing is saved or drawn during the time.

First the speeds are measured in turns, with both sides' updates doing the same work. Then each side trains for some
minutes. The held-out loss is the mean squared error of the estimated noise on 179 digits that nobody trained on, at
fixed levels of the linear schedule and with fixed noise, whatever the network predicts. Theirs is measured with the
weights and with their average, and the lower figure counts, at the script's own learning rate (1e-4) and at a better
one for so short a run (1e-3). Ours trains once, for half of that time, with the choices that the flags name
(prediction, optimizer, learning rate, average of the weights). Evaluation is not on the clock. Run it on an idle
machine.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.diffusion_runs import TIMED_UPDATES, prepare, updates_in
from benchmarks.workload import WARMUP_UPDATES, parse, spread, trainer_of
from training.diffusion.denoiser import Denoiser
from training.engines.results import UpdateResult
from training.loop.callbacks import Callback, RunView
from training.machine.environment import variables_set
from training.tasks.protocol import Prepared

LEVELS = 1000
HELD_OUT_LEVELS = 10
"""Levels at which each held-out image is measured, spread evenly over the schedule."""
EVALUATIONS = 20
GOAL = 0.5
"""Share of the peer's time in which ours should reach its last held-out loss."""
SIDE, NORM_GROUPS = 8, 8
THEIR_WARM_UP = 500
"""Updates in which the script lets the learning rate rise, at most: here a tenth of all, if that is fewer."""


def write_digits(folder: Path, count: int) -> Tensor:
    """Write nine tenths of so many digits as files for both sides; return the rest in [-1, 1], (N, 3, 8, 8)."""
    from PIL import Image
    from sklearn.datasets import load_digits

    values = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(values))[:count]
    cut = len(order) // 10
    folder.mkdir()
    for number, index in enumerate(order[cut:]):
        Image.fromarray(values[index]).convert("RGB").save(folder / f"{number:04}.png")
    held_out = torch.from_numpy(values[order[:cut]].astype(np.float32) / 127.5 - 1)
    return held_out[:, None].repeat(1, 3, 1, 1)


class HeldOut:
    """Held-out images with fixed noise at fixed levels of the linear schedule.

    Args:
        images: clean images in [-1, 1], (N, C, H, W).
    """

    def __init__(self, images: Tensor) -> None:
        from diffusers import DDPMScheduler

        scheduler = DDPMScheduler(num_train_timesteps=LEVELS, beta_schedule="linear")
        draws = torch.Generator().manual_seed(0)
        self.kept = scheduler.alphas_cumprod
        self._levels = torch.linspace(0, LEVELS - 1, HELD_OUT_LEVELS).round().long().tolist()
        self._noises = [torch.randn(images.shape, generator=draws) for _ in self._levels]
        self._noisy = [
            scheduler.add_noise(images, noise, torch.full((len(images),), level))
            for level, noise in zip(self._levels, self._noises, strict=True)
        ]

    @torch.no_grad()
    def loss(self, noise_of: Callable[[Tensor, int], Tensor]) -> float:
        """Return the mean squared error of the estimated noise.

        Args:
            noise_of: function (noisy images, number of their level) -> estimate of the noise.
        """
        parts = zip(self._levels, self._noisy, self._noises, strict=True)
        return statistics.fmean(float(F.mse_loss(noise_of(noisy, level), noise)) for level, noisy, noise in parts)


class Clock:
    """Clock of the training alone, which stands while the held-out loss is measured.

    Args:
        every: updates between two measurements; 0: none is made.
        last: number of the last update, after which is measured too.
    """

    def __init__(self, every: int = 0, last: int = 0) -> None:
        self.marks: list[float] = []
        """Seconds of training at the end of each update."""
        self.points: list[tuple[float, float]] = []
        """(seconds of training, held-out loss)."""
        self._every, self._last = every, last
        self._passed, self._since = 0.0, time.perf_counter()

    def start(self) -> None:
        """Let the time run."""
        self._since = time.perf_counter()

    def updated(self, measure: Callable[[], float]) -> None:
        """Note the time of an update, and measure where that is due."""
        self._passed += time.perf_counter() - self._since
        self.marks.append(self._passed)
        step = len(self.marks)
        if self._every and (step % self._every == 0 or step == self._last):
            self.points.append((self._passed, measure()))
        self.start()

    @property
    def speed(self) -> float:
        """Return updates a second, from their median time after the warm-up."""
        after = self.marks[WARMUP_UPDATES - 1 :]
        return 1 / statistics.median(b - a for a, b in itertools.pairwise(after))

    @property
    def final(self) -> float:
        """Return the loss at the end."""
        return self.points[-1][1]

    def seconds_to(self, loss: float) -> float | None:
        """Return the time of the first measurement with at most this loss; None: there is none."""
        return next((seconds for seconds, found in self.points if found <= loss), None)


class Timed(Callback):
    """Callback that hands our updates to a clock.

    Args:
        clock: the clock.
        loss_of: function that returns the held-out loss of a network in training or of the average of its weights.
    """

    def __init__(self, clock: Clock, loss_of: Callable[[nn.Module], float]) -> None:
        self._clock, self._loss_of = clock, loss_of

    def on_run_start(self, trainer: RunView) -> None:
        """Start the clock."""
        self._clock.start()

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        """Note the update."""
        self._clock.updated(lambda: self._loss_of(trainer.evaluated_model()))


def our_settings(images: Path, options: argparse.Namespace, **settings: Any) -> dict[str, Any]:
    """Return the settings of our side: the script's own but those in `settings`."""
    return {
        "model": "unet", "datasets": [str(images)], "condition_on": "none", "channels": "3",
        "block_channels": options.block_channels, "layers_per_block": options.layers, "norm_groups": NORM_GROUPS,
        "batch_size": options.batch_size, "epochs": 10**6, "learning_rate": 1e-4, "adam_beta1": 0.95,
        "adam_beta2": 0.999, "weight_decay": 1e-6, "schedule": "cosine", "min_lr": 0.0, "ema_decay": 0.9999,
        "sample_count": 0, **settings,
    }  # fmt: skip


def our_loss(model: nn.Module, prepared: Prepared, held_out: HeldOut) -> float:
    """Return the held-out loss of our network, from its estimate of the clean images."""
    objective: Any = prepared.objective

    def network(samples: Tensor, time: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        found: Tensor = objective.family.denoise(model, samples, time, conditions)
        return found

    denoise = Denoiser(network, objective.schedule, objective.prediction)

    def noise_of(noisy: Tensor, level: int) -> Tensor:
        signal = float(held_out.kept[level]) ** 0.5
        sigma = (1 - signal**2) ** 0.5 / signal
        moved = noisy / signal
        noise: Tensor = (moved - denoise(moved, sigma)) / sigma
        return noise

    was_training = model.training
    model.eval()
    loss = held_out.loss(noise_of)
    model.train(was_training)
    return loss


def train_ours(settings: Mapping[str, Any], held_out: HeldOut, clock: Clock, folder: Path) -> None:
    """Train by our loop."""
    with tempfile.TemporaryDirectory(dir=folder) as run_dir:
        prepared = prepare(settings, Path(run_dir) / "run")
        trainer = trainer_of(prepared, Timed(clock, lambda model: our_loss(model, prepared, held_out)))
        try:
            trainer.make_updates()
        finally:
            trainer.close()


def train_theirs(
    network: nn.Module, images: Path, held_out: HeldOut, clock: Clock, updates: int, learning_rate: float,
    batch_size: int, folder: Path,
) -> None:  # fmt: skip
    """Train as diffusers' script does, by its defaults, with `--use_ema`; nothing is drawn or saved."""
    import datasets
    from accelerate import Accelerator
    from accelerate.utils import ProjectConfiguration
    from diffusers import DDPMScheduler, UNet2DModel
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    datasets.disable_progress_bars()
    torch.manual_seed(0)
    output = Path(tempfile.mkdtemp(dir=folder))
    places = ProjectConfiguration(project_dir=str(output), logging_dir=str(output / "logs"))
    accelerator = Accelerator(cpu=True, log_with="tensorboard", project_config=places)
    average = EMAModel(
        network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=3 / 4, model_cls=UNet2DModel,
        model_config=network.config,
    )  # fmt: skip
    noise_scheduler = DDPMScheduler(num_train_timesteps=LEVELS, beta_schedule="linear", prediction_type="epsilon")
    optimizer: Any = torch.optim.AdamW(
        network.parameters(), lr=learning_rate, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
    )
    dataset = datasets.load_dataset("imagefolder", data_dir=str(images), split="train", cache_dir=str(folder / "cache"))
    dataset.set_transform(lambda rows: {"input": [as_tensor(image, SIDE) for image in rows["image"]]})
    loader: Any = torch.utils.data.DataLoader(dataset, batch_size=batch_size, shuffle=True, num_workers=0)
    rates: Any = get_scheduler(
        "cosine", optimizer=optimizer, num_warmup_steps=min(THEIR_WARM_UP, updates // 10), num_training_steps=updates
    )
    model, optimizer, loader, rates = accelerator.prepare(network, optimizer, loader, rates)
    accelerator.init_trackers("train_unconditional")

    def measure() -> float:
        def noise_of(noisy: Tensor, level: int) -> Tensor:
            found: Tensor = model(noisy, level).sample
            return found

        model.eval()
        losses = [held_out.loss(noise_of)]
        average.store(network.parameters())
        average.copy_to(network.parameters())
        losses.append(held_out.loss(noise_of))
        average.restore(network.parameters())
        model.train()
        return min(losses)

    step = 0
    clock.start()
    while step < updates:
        model.train()
        for batch in loader:
            clean = batch["input"]
            noise = torch.randn(clean.shape, dtype=clean.dtype, device=clean.device)
            levels = torch.randint(0, LEVELS, (len(clean),), device=clean.device).long()
            noisy = noise_scheduler.add_noise(clean, noise, levels)
            with accelerator.accumulate(model):
                loss = F.mse_loss(model(noisy, levels).sample.float(), noise.float())
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                rates.step()
                optimizer.zero_grad()
            average.step(model.parameters())
            step += 1
            logs = {"loss": loss.detach().item(), "lr": rates.get_last_lr()[0], "ema_decay": average.cur_decay_value}
            accelerator.log(logs, step=step)
            clock.updated(measure)
            if step == updates:
                break
    accelerator.end_training()


def as_tensor(image: Any, side: int) -> Tensor:
    """Return an image as the script's transforms do: RGB, resized, cropped at random, in [-1, 1], (3, side, side)."""
    from PIL import Image

    image = image.convert("RGB")
    if min(image.size) != side:
        factor = side / min(image.size)
        image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BILINEAR)
    left, top = (int(torch.randint(0, free + 1, (1,))) if (free := size - side) else 0 for size in image.size)
    image = image.crop((left, top, left + side, top + side))
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
    return (values - 0.5) / 0.5


def compare_speeds(images: Path, held_out: HeldOut, folder: Path, options: argparse.Namespace) -> None:
    """Print the updates per second of both, in turns."""
    updates = WARMUP_UPDATES + options.updates
    settings = our_settings(images, options, max_steps=updates)
    ratios = []
    for number in range(options.rounds):
        clocks = {"ours": Clock(), "diffusers": Clock()}
        for side in sorted(clocks, reverse=bool(number % 2)):
            if side == "ours":
                train_ours(settings, held_out, clocks[side], folder)
            else:
                network = new_network(images, options, folder)
                train_theirs(network, images, held_out, clocks[side], updates, 1e-4, options.batch_size, folder)
        ours, theirs = clocks["ours"].speed, clocks["diffusers"].speed
        ratios.append(ours / theirs)
        print(f"round {number + 1}, updates/s: ours {ours:.3f}, diffusers {theirs:.3f}", flush=True)
    print(f"ours / diffusers, the same updates: {spread(ratios)}   goal 1")


def new_network(images: Path, options: argparse.Namespace, folder: Path) -> nn.Module:
    """Return the network of our side with its first weights."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(dir=folder) as run_dir:
        return prepare(our_settings(images, options), Path(run_dir) / "run").objective.build_model()


def compare_losses(images: Path, held_out: HeldOut, folder: Path, options: argparse.Namespace) -> None:
    """Print the held-out losses, and the time in which ours reaches the peer's last one."""
    seconds = options.minutes * 60
    theirs = []
    for learning_rate in options.their_learning_rates:
        timed = Clock()
        updates = WARMUP_UPDATES + TIMED_UPDATES
        arguments = (learning_rate, options.batch_size, folder)
        train_theirs(new_network(images, options, folder), images, held_out, timed, updates, *arguments)
        updates = max(2, round(seconds * timed.speed))
        theirs.append(Clock(max(1, updates // EVALUATIONS), updates))
        train_theirs(new_network(images, options, folder), images, held_out, theirs[-1], updates, *arguments)
        print_curve(f"diffusers at learning rate {learning_rate:g}", theirs[-1])
    chosen = our_settings(
        images, options, prediction=options.prediction, loss_weighting=options.loss_weighting,
        optimizer=options.optimizer, adam_beta1=0.9, adam_beta2=0.99, weight_decay=0.01, ema_decay=options.ema_decay,
        learning_rate=options.learning_rate,
    )  # fmt: skip
    updates = max(2, updates_in(seconds * GOAL, chosen, folder / "timed"))
    rise = {"max_steps": updates, "warmup_steps": updates // 20}
    clock = Clock(max(1, updates // EVALUATIONS), updates)
    train_ours({**chosen, **rise}, held_out, clock, folder)
    print_curve("ours, in half of the time", clock)
    for learning_rate, their_clock in zip(options.their_learning_rates, theirs, strict=True):
        reached, name = clock.seconds_to(their_clock.final), f"diffusers' loss at learning rate {learning_rate:g}"
        if reached is None:
            print(f"ours does not reach {name} in half of its time   goal {GOAL}")
        else:
            share = reached / their_clock.points[-1][0]
            print(f"ours reaches {name} after {reached:.2f} s, {share:.3f} of its time   goal {GOAL}")


def print_curve(name: str, clock: Clock) -> None:
    """Print the end of a training."""
    seconds, loss = clock.points[-1]
    print(f"{name}: held-out loss {loss:.5f} after {len(clock.marks):,} updates in {seconds:.2f} s", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the speeds and the losses."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns in which the speeds are measured")
    parser.add_argument("--updates", type=int, default=40, help="timed updates of each side in a turn")
    parser.add_argument("--minutes", type=float, default=5.0, help="time of each of the peer's trainings")
    parser.add_argument("--their-learning-rates", nargs="+", type=float, default=[1e-4, 1e-3])
    parser.add_argument("--images", type=int, default=1797, help="digits that take part")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--block-channels", nargs="+", type=int, default=[32, 64])
    parser.add_argument("--layers", type=int, default=1, help="layers of a block")
    parser.add_argument("--prediction", default="epsilon", choices=["epsilon", "v", "x0", "edm"])
    parser.add_argument("--loss-weighting", default="auto", choices=["auto", "plain", "min_snr", "edm"])
    parser.add_argument("--optimizer", default="muon", choices=["adamw", "muon"])
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--ema-decay", type=float, default=0.995)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of both")
    small = {
        "rounds": 1, "updates": 3, "minutes": 0.002, "their_learning_rates": [1e-3], "images": 40, "batch_size": 8,
        "block_channels": [8, 8], "threads": 1,
    }  # fmt: skip
    options = parse(parser, small, argv)
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        with tempfile.TemporaryDirectory() as name, variables_set(DS_ACCELERATOR="cpu"):
            folder = Path(name)
            held_out = HeldOut(write_digits(folder / "images", options.images))
            compare_speeds(folder / "images", held_out, folder, options)
            compare_losses(folder / "images", held_out, folder, options)
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
