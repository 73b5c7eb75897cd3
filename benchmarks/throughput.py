#!/usr/bin/env python3
"""Tokens per second of our loop beside a bare PyTorch loop and beside transformers' Trainer, in one process, in turns.

    python benchmarks/throughput.py [--steps 40] [--rounds 3] [--precision fp32]

Real tokens are counted (prompt and answer, never padding). The bare loop has the same model, batches, loss, optimizer
and clipping, and nothing else. The Trainer has a GPT-2 of as many parameters, the same rows and batch size, padding to
the longest of the batch and a loss on the answer's tokens, as its users have it. Our loop and the bare one train the
very same batches, a step of one and a step of the other in turns; their ratio is the median over the steps. The other
ratios are of rounds that ran next to each other. Run it on an idle machine.
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
from torch import nn

from apt_model.tokenizer import DynamicTagTokenizer
from training import TrainingConfig
from training.engines.optimizers import build_optimizers
from training.engines.torch_engine import TorchEngine
from training.loop.trainer import Trainer
from training.machine.device import pick_precision
from training.record.reporter import ProgressReporter
from training.settings.yaml_files import flatten, nest
from training.tasks.batch_plan import BatchPlan
from training.tasks.hlbd.dataset import HLBDDataset
from training.tasks.hlbd.files import load_corpus
from training.tasks.language_modeling import LanguageModeling

WARMUP_STEPS = 5


def make_config(steps: int, precision: str, run_dir: str) -> TrainingConfig:
    settings = {
        "max_steps": WARMUP_STEPS + steps, "precision": precision, "run_dir": run_dir, "schedule": "constant",
        "save_interval": None, "learning_rate": 1e-3,
    }  # fmt: skip
    return TrainingConfig.from_dict(nest(flatten(settings, TrainingConfig, "benchmark")))


class TimedReporter(ProgressReporter):
    """Adds up the seconds that the step path spends in the reporter."""

    seconds = 0.0

    def step(self, **figures: Any) -> None:
        start = time.perf_counter()
        super().step(**figures)
        self.seconds += time.perf_counter() - start


class Ours:
    """The product's loop with its reporter on disk, one step at a time."""

    def __init__(self, dataset: HLBDDataset, steps: int, precision: str, folder: str) -> None:
        self.trainer = Trainer(make_config(steps, precision, folder), dataset, device="cpu")
        self.trainer.reporter.__class__ = TimedReporter

    def step(self, number: int) -> float:
        """Seconds of one pass through the loop's body."""
        started = time.perf_counter()
        trainer = self.trainer
        assert trainer.step == number
        batch = trainer.next_batch()
        assert isinstance(trainer.engine, TorchEngine)
        result = trainer.engine.update(batch.micro_batches, trainer.task.loss, batch.learning_rate, batch.weight)
        trainer.updated(batch, result)
        return time.perf_counter() - started

    def reporter_seconds(self) -> float:
        reporter = self.trainer.reporter
        assert isinstance(reporter, TimedReporter)
        return reporter.seconds


class Bare:
    """The shortest loop that trains the same model on the same batches."""

    def __init__(self, dataset: HLBDDataset, steps: int, precision: str) -> None:
        config = make_config(steps, precision, "unused")
        torch.manual_seed(config.run.seed)
        self.dataset, self.precision = dataset, precision
        vocab_size = dataset.tokenizer.vocab_size
        self.task = LanguageModeling(config.model.network(vocab_size))
        self.model = self.task.build_model()
        self.optimizers = build_optimizers(self.model, config.optimizer, torch.device("cpu")).optimizers.values()
        self.plan = BatchPlan(dataset.lengths, config.run.batch_size, config.run.seed, config.data.length_window)

    def step(self, number: int) -> tuple[float, int]:
        """(seconds, tokens) of one step."""
        started = time.perf_counter()
        indices = self.plan.indices(*divmod(number, self.plan.steps_per_epoch))
        batch = self.task.collate([self.dataset[int(i)] for i in indices])
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            loss = self.task.loss(self.model, batch).loss / batch.weight
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        loss.item()
        return time.perf_counter() - started, batch.tokens


def run_both(dataset: HLBDDataset, steps: int, precision: str) -> tuple[list[float], list[float], int, float]:
    """(our seconds, the bare loop's seconds, tokens of each, our seconds in the reporter), the steps in turns."""
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = Ours(dataset, steps, precision, str(Path(folder) / "run")), Bare(dataset, steps, precision)
        own: list[float] = []
        theirs: list[float] = []
        tokens = 0
        for number in range(WARMUP_STEPS + steps):
            if number % 2:  # neither is always the one that comes after the other
                own.append(ours.step(number))
            seconds, read = bare.step(number)
            theirs.append(seconds)
            if number % 2 == 0:
                own.append(ours.step(number))
            tokens += read if number >= WARMUP_STEPS else 0
        return own[WARMUP_STEPS:], theirs[WARMUP_STEPS:], tokens, ours.reporter_seconds()


def run_transformers(dataset: HLBDDataset, steps: int) -> tuple[float, int]:
    """(tokens/s, parameters) of transformers' Trainer with a GPT-2 of equal size on the same rows."""
    from torch.utils.data import Dataset
    from transformers import GPT2Config, GPT2LMHeadModel, TrainerCallback, TrainingArguments
    from transformers import Trainer as TransformersTrainer

    class Rows(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(dataset)

        def __getitem__(self, index: int) -> dict[str, Any]:
            sample = dataset[index]
            labels = sample.tokens.astype("int64")
            labels[: sample.loss_start] = -100
            return {"input_ids": sample.tokens.astype("int64"), "labels": labels}

    read = [0]

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        width = max(len(r["input_ids"]) for r in rows)
        out = {"input_ids": torch.zeros(len(rows), width, dtype=torch.long)}
        out["attention_mask"] = torch.zeros_like(out["input_ids"])
        out["labels"] = torch.full_like(out["input_ids"], -100)
        for i, row in enumerate(rows):
            length = len(row["input_ids"])
            out["input_ids"][i, :length] = torch.from_numpy(row["input_ids"])
            out["attention_mask"][i, :length] = 1
            out["labels"][i, :length] = torch.from_numpy(row["labels"])
        read[0] += int(out["attention_mask"].sum()) - len(rows)  # as we count: nothing is predicted from the last one
        return out

    marks: dict[int, tuple[float, int]] = {}

    class Marks(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            marks[state.global_step] = (time.perf_counter(), read[0])

    torch.manual_seed(0)
    # n_inner is chosen so that a block has as many weights as APT's with its three-matrix SwiGLU of 1024.
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=dataset.tokenizer.vocab_size, n_positions=256, n_embd=256, n_layer=6, n_head=8, n_inner=1536,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=2, eos_token_id=4,
        )
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=32, max_steps=WARMUP_STEPS + steps, learning_rate=1e-3,
            use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        TransformersTrainer(
            model=model, args=arguments, train_dataset=Rows(), data_collator=collate, callbacks=[Marks()]
        ).train()
    (start, first), (end, last) = marks[WARMUP_STEPS], marks[WARMUP_STEPS + steps]
    return (last - first) / (end - start), model.num_parameters()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=40, help="timed updates a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    options = parser.parse_args()
    corpus = load_corpus(["HLBD_Hardcore_Full.json"])
    tokenizer = DynamicTagTokenizer.from_texts(text for s in corpus.samples for text in s[:2])
    dataset = HLBDDataset(corpus.samples, tokenizer, 256)
    precision = pick_precision(options.precision, torch.device("cpu"))
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, default model (256 x 6), batch 32, {precision}"
    )
    rows: list[tuple[float, float, float, float]] = []
    steps: list[float] = []
    for number in range(options.rounds):
        own, bare, tokens, reporter = run_both(dataset, options.steps, precision)
        steps += [b / o for o, b in zip(own, bare, strict=True)]
        in_fp32 = tokens / sum(run_both(dataset, options.steps, "fp32")[0])
        theirs, size = run_transformers(dataset, options.steps)
        rows.append((tokens / sum(own), in_fp32, theirs, reporter / sum(own)))
        print(
            f"round {number + 1}: ours {rows[-1][0]:,.0f} tokens/s, bare loop {tokens / sum(bare):,.0f}, "
            f"ours in fp32 {in_fp32:,.0f}, transformers' Trainer {theirs:,.0f} ({size:,} parameters)",
            flush=True,
        )

    def middle(values: list[float]) -> str:
        return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"

    quarters = statistics.quantiles(steps, n=4)
    half = f"{quarters[1]:.3f} ({quarters[0]:.3f} to {quarters[2]:.3f}, the middle half)"
    print(f"ours / bare loop, step by step:          {half}   goal 0.97")
    print(f"ours / transformers' Trainer:            {middle([r[0] / r[2] for r in rows])}   goal 2")
    print(f"ours in fp32 / transformers' Trainer:    {middle([r[1] / r[2] for r in rows])}")
    print(f"share of the time in the reporter:       {middle([r[3] for r in rows])}   goal 0.01")


if __name__ == "__main__":
    main()
