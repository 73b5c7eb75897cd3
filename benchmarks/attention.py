#!/usr/bin/env python3
"""What autopoietic attention costs: time of an update beside `attention: standard`, in turns in one process.

    python benchmarks/attention.py [--steps 20] [--rounds 7] [--precision auto]

Same data, optimizer and sizes (the default model); the rounds alternate, so that a machine that drifts slows both.
Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import torch

from apt_model.config import ModelConfig
from apt_model.tokenizer import DynamicTagTokenizer
from training import TrainingConfig
from training.engines.torch_engine import TorchEngine
from training.machine.device import pick_precision
from training.machine.ranks import Ranks
from training.tasks.batch_plan import BatchPlan
from training.tasks.hlbd.dataset import HLBDDataset
from training.tasks.hlbd.files import load_corpus
from training.tasks.language_modeling import LanguageModeling


def make_engine(attention: str, config: TrainingConfig, vocab_size: int) -> TorchEngine:
    torch.manual_seed(0)
    model_config = ModelConfig.model_validate({"attention": attention, "vocab_size": vocab_size})
    return TorchEngine(LanguageModeling(model_config).build_model(), config, Ranks(torch.device("cpu")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=20, help="updates a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    options = parser.parse_args()
    corpus = load_corpus(["HLBD_Hardcore_Full.json"])
    tokenizer = DynamicTagTokenizer.from_texts(text for s in corpus.samples for text in s[:2])
    dataset = HLBDDataset(corpus.samples, tokenizer, 256)
    precision = pick_precision(options.precision, torch.device("cpu"))
    config = TrainingConfig.from_dict({"run": {"precision": precision}})
    task = LanguageModeling(ModelConfig())
    plan = BatchPlan(dataset.lengths, 32, 42, 16)
    batches = [
        task.collate([dataset[int(i)] for i in plan.indices(*divmod(step, plan.steps_per_epoch))])
        for step in range(options.steps)
    ]
    engines = {name: make_engine(name, config, tokenizer.vocab_size) for name in ("autopoietic", "standard")}

    def seconds(name: str) -> float:
        started = time.perf_counter()
        for batch in batches:
            engines[name].update([batch], task.loss, 1e-4, batch.weight)
        return time.perf_counter() - started

    for name in engines:
        seconds(name)  # warm-up
    ratios: list[float] = []
    for number in range(options.rounds):
        order = ["autopoietic", "standard"] if number % 2 == 0 else ["standard", "autopoietic"]
        took = {name: seconds(name) for name in order}
        ratios.append(took["autopoietic"] / took["standard"])
        print(
            f"round {number + 1}: autopoietic {took['autopoietic'] / options.steps * 1e3:.1f} ms, "
            f"standard {took['standard'] / options.steps * 1e3:.1f} ms an update",
            flush=True,
        )
    print(f"{precision}, {torch.get_num_threads()} threads, default model, batch 32")
    print(
        f"autopoietic / standard: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})   goal 1.10"
    )


if __name__ == "__main__":
    main()
