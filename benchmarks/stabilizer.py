#!/usr/bin/env python3
"""DBC-DAC beside plain training and plain clipping, on a clean run and on one with spiking gradients.

    python benchmarks/stabilizer.py [--steps 400] [--seeds 2] [--optimizer adamw]

A spike multiplies one matrix's gradient by 1e4; it hits 1 % of the steps, the same steps and matrices in every arm.
The loss is measured after training, in fp32, on 1,000 training rows of HLBD_Hardcore_Full_V2 (at 400 steps it is far
from zero, so that a ratio means something). The cost of a step is measured in turns in one process.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import torch
from torch import Tensor

from apt_model.config import ModelConfig
from apt_model.model import APT
from apt_model.tokenizer import DynamicTagTokenizer
from training import TrainingConfig
from training.engines.results import UpdateResult
from training.engines.torch_engine import TorchEngine
from training.loop.callbacks import Callback, RunView
from training.loop.trainer import Trainer
from training.machine.ranks import Ranks
from training.settings.yaml_files import flatten, nest
from training.tasks.batch_plan import mix
from training.tasks.hlbd.dataset import HLBDDataset
from training.tasks.hlbd.files import load_corpus
from training.tasks.language_modeling import LanguageModeling

FACTOR = 1e4
EVERY = 100
"""One step in a hundred has a spike."""


class SpikingTask(LanguageModeling):
    """Language modelling in which, on chosen steps, one matrix's gradient is multiplied by FACTOR."""

    def __init__(self, config: ModelConfig, spikes: bool) -> None:
        super().__init__(config)
        self.spikes = spikes
        self.step = 0

    def build_model(self) -> APT:
        model = super().build_model()
        matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "blocks" in name]
        for number, parameter in enumerate(matrices):

            def hook(gradient: Tensor, number: int = number) -> Tensor:
                at, which = mix(99, self.step // EVERY) % EVERY, mix(98, self.step // EVERY) % len(matrices)
                hit = self.spikes and self.step % EVERY == at and number == which
                return gradient * FACTOR if hit else gradient

            parameter.register_hook(hook)  # type: ignore[no-untyped-call]
        return model


class CountSteps(Callback):
    def __init__(self, task: SpikingTask) -> None:
        self.task = task

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        self.task.step = trainer.step


def train(dataset: HLBDDataset, probe: HLBDDataset, spikes: bool, settings: dict[str, Any]) -> float:
    """Loss on the probe rows after training."""
    with tempfile.TemporaryDirectory() as folder:
        values = {"run_dir": folder + "/run", "save_interval": None, "schedule": "linear", "min_lr": 1e-5, **settings}
        config = TrainingConfig.from_dict(nest(flatten(values, TrainingConfig, "benchmark")))
        task = SpikingTask(config.model.network(dataset.tokenizer.vocab_size), spikes)
        trainer = Trainer(config, dataset, objective=task, device="cpu", callbacks=[CountSteps(task)])
        trainer.train()
        rows = sorted(range(len(probe)), key=probe.lengths.__getitem__)
        batches = (task.collate([probe[i] for i in rows[at : at + 100]]) for at in range(0, len(rows), 100))
        exact = config.model_copy(update={"run": config.run.model_copy(update={"precision": "fp32"})})
        engine = TorchEngine(trainer.engine.model(), exact, Ranks(torch.device("cpu")))
        return engine.evaluate(batches, task.loss).loss


def step_cost(dataset: HLBDDataset, optimizer: str) -> list[float]:
    """Seconds of an update with DBC-DAC over seconds without, in alternating rounds; the default model."""
    task = LanguageModeling(ModelConfig(vocab_size=dataset.tokenizer.vocab_size))
    batch = task.collate([dataset[i] for i in range(32)])
    engines = []
    for stabilizer in ("dbc_dac", "none"):
        config = TrainingConfig.from_dict({
            "run": {"precision": "bf16"}, "optimizer": {"stabilizer": stabilizer, "optimizer": optimizer},
        })  # fmt: skip
        engines.append(TorchEngine(task.build_model(), config, Ranks(torch.device("cpu"))))

    def seconds(engine: TorchEngine) -> float:
        started = time.perf_counter()
        for _ in range(10):
            engine.update([batch], task.loss, 1e-4, batch.weight)
        return time.perf_counter() - started

    for engine in engines:
        seconds(engine)
    return [seconds(engines[0]) / seconds(engines[1]) for _ in range(5)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--optimizer", choices=["adamw", "muon"], default="adamw")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--rank", type=int, nargs="+", default=[32])
    options = parser.parse_args()
    corpus = load_corpus(["HLBD_Hardcore_Full_V2.json"])
    tokenizer = DynamicTagTokenizer.from_texts(text for s in corpus.samples for text in s[:2])
    dataset = HLBDDataset(corpus.samples, tokenizer, 256)
    probe = HLBDDataset(corpus.samples[::5], tokenizer, 256)
    base = {
        "num_layers": 2, "max_steps": options.steps, "precision": "auto", "optimizer": options.optimizer,
        "learning_rate": options.learning_rate,
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
    cost = step_cost(dataset, options.optimizer)
    spread = f"{statistics.median(cost):.3f} ({min(cost):.3f} to {max(cost):.3f})"
    print(f"time of an update with DBC-DAC / without (default model): {spread}")


if __name__ == "__main__":
    main()
