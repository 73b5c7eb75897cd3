#!/usr/bin/env python3
"""Tokens per second of our loop, a bare PyTorch loop and transformers' Trainer, in one process, in turns.

    python benchmarks/throughput.py [--steps 40] [--rounds 3] [--precision fp32]

Real tokens are counted (prompt and answer, never padding). The bare loop has the same model, batches, loss, optimizer
and clipping, and nothing else. The Trainer has a GPT-2 of the same number of parameters, the same rows and batch size,
padding to the longest row of the batch and a loss on the answer's tokens, as its users have it. Our loop and the bare
one train the same batches, a step of one and a step of the other in turns; their ratio is the median over the steps.
The other ratios compare rounds that ran one after the other. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import torch
from torch import nn

from apt_model.config import ModelConfig
from benchmarks.workload import (
    MINIATURE_MODEL,
    WARMUP_UPDATES,
    UpdateTimes,
    load_rows,
    make_trainer,
    parse,
    spread,
)  # fmt: skip
from training import TrainingConfig
from training.engines.optimizers import build_optimizers
from training.engines.results import UpdateResult
from training.loop.callbacks import RunView
from training.machine.device import pick_precision
from training.record.reporter import ProgressReporter
from training.tasks.batch_plan import BatchPlan
from training.tasks.hlbd.dataset import HLBDDataset
from training.tasks.hlbd.task import prepared_from_datasets


class TimedReporter(ProgressReporter):
    """Reporter that adds up the seconds that the step path spends in it."""

    seconds = 0.0

    def step(self, **figures: Any) -> None:
        """Record an update and time it."""
        start = time.perf_counter()
        super().step(**figures)
        self.seconds += time.perf_counter() - start


class Bare:
    """Shortest loop that trains the same model on the same batches."""

    def __init__(self, dataset: HLBDDataset, config: TrainingConfig) -> None:
        torch.manual_seed(config.run.seed)
        self.dataset, self.precision = dataset, config.run.precision
        prepared = prepared_from_datasets(config, dataset)
        self.objective = prepared.objective
        self.model = self.objective.build_model()
        groups = prepared.family.parameter_groups(self.model)
        built = build_optimizers(self.model, groups, config.optimizer, torch.device("cpu"))
        self.optimizers = built.optimizers.values()
        self.plan = BatchPlan(dataset.lengths, config.run.batch_size, config.run.seed, config.data.length_window)
        self.seconds: list[float] = []
        self.tokens: list[int] = []
        self.losses: list[float] = []

    def step(self) -> None:
        """Make one update."""
        started = time.perf_counter()
        indices = self.plan.indices(*divmod(len(self.seconds), self.plan.steps_per_epoch))
        batch = self.objective.collate([self.dataset[int(i)] for i in indices])
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            loss = self.objective.loss(self.model, batch).loss / batch.weight
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.losses.append(loss.item())
        self.seconds.append(time.perf_counter() - started)
        self.tokens.append(batch.tokens)


class InTurns(UpdateTimes):
    """Callback that times our updates and runs as many of the bare loop's: bare, ours, ours, bare, bare, ours, …

    In this order neither loop always comes after the other.
    """

    def __init__(self, bare: Bare) -> None:
        super().__init__()
        self.bare = bare
        self.losses: list[float] = []

    def on_run_start(self, trainer: RunView) -> None:
        """Run the first update of the bare loop."""
        self.bare.step()
        super().on_run_start(trainer)

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        """Record the time of our update; after every second one, run two updates of the bare loop."""
        super().on_step(trainer, result)
        self.losses.append(result.loss)
        if trainer.step % 2 == 0:
            for _ in range(min(2, trainer.total_steps - len(self.bare.seconds))):
                self.bare.step()
            self.resume()


def run_both(
    dataset: HLBDDataset, settings: Mapping[str, Any], steps: int
) -> tuple[list[float], list[float], int, float]:
    """Return (our seconds, the bare loop's seconds, tokens of each, our seconds in the reporter)."""
    with tempfile.TemporaryDirectory() as folder:
        values = {**settings, "max_steps": WARMUP_UPDATES + steps, "learning_rate": 1e-3}
        trainer = make_trainer(dataset, values, folder)
        trainer.reporter.__class__ = TimedReporter
        bare = Bare(dataset, trainer.config)
        turns = InTurns(bare)
        trainer.callbacks.append(turns)
        trainer.train()
        assert isinstance(trainer.reporter, TimedReporter)
        # Two loops that do not train the same weights cannot be compared.
        assert len(bare.losses) == len(turns.losses)
        assert all(abs(a - b) <= 0.01 * abs(a) for a, b in zip(bare.losses, turns.losses, strict=True))
        timed = slice(WARMUP_UPDATES, None)
        return turns.seconds[timed], bare.seconds[timed], sum(bare.tokens[timed]), trainer.reporter.seconds


def run_transformers(dataset: HLBDDataset, shape: ModelConfig, steps: int) -> tuple[float, int]:
    """Return (tokens/s, parameters) of transformers' Trainer with a GPT-2 of equal size on the same rows."""
    from torch.utils.data import Dataset
    from transformers import GPT2Config, GPT2LMHeadModel, TrainerCallback, TrainingArguments
    from transformers import Trainer as TransformersTrainer

    class Rows(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(dataset)

        def __getitem__(self, index: int) -> dict[str, Any]:
            sample = dataset[index]
            labels = sample.tokens.astype("int64")
            labels[~sample.trained] = -100
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
        read[0] += int(out["attention_mask"].sum()) - len(rows)  # as our loop: nothing is predicted from the last one
        return out

    marks: dict[int, tuple[float, int]] = {}

    class Marks(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            marks[state.global_step] = (time.perf_counter(), read[0])

    torch.manual_seed(0)
    # n_inner is chosen so that a block has as many weights as APT's with its three-matrix SwiGLU.
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=dataset.tokenizer.vocab_size, n_positions=shape.max_seq_len, n_embd=shape.d_model,
            n_layer=shape.num_layers, n_head=shape.num_heads, n_inner=shape.d_ff * 3 // 2,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=2, eos_token_id=4,
        )
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=32, max_steps=WARMUP_UPDATES + steps, learning_rate=1e-3,
            use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        TransformersTrainer(
            model=model, args=arguments, train_dataset=Rows(), data_collator=collate, callbacks=[Marks()]
        ).train()
    (start, first), (end, last) = marks[WARMUP_UPDATES], marks[WARMUP_UPDATES + steps]
    return (last - first) / (end - start), model.num_parameters()


def main(argv: Sequence[str] | None = None) -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="timed updates per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    options = parse(parser, {"steps": 6, "rounds": 1}, argv)
    dataset = load_rows("HLBD_Hardcore_Full.json", 64 if options.miniature else None)
    model = MINIATURE_MODEL if options.miniature else {}
    shape = ModelConfig(**model)
    precision = pick_precision(options.precision, torch.device("cpu"))
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{'miniature' if options.miniature else 'default'} model ({shape.d_model} x {shape.num_layers}), batch 32, "
        f"{precision}"
    )
    rows: list[tuple[float, float, float, float]] = []
    steps: list[float] = []
    for number in range(options.rounds):
        own, bare, tokens, reporter = run_both(dataset, {**model, "precision": precision}, options.steps)
        steps += [b / o for o, b in zip(own, bare, strict=True)]
        in_fp32 = tokens / sum(run_both(dataset, {**model, "precision": "fp32"}, options.steps)[0])
        theirs, size = run_transformers(dataset, shape, options.steps)
        rows.append((tokens / sum(own), in_fp32, theirs, reporter / sum(own)))
        print(
            f"round {number + 1}: ours {rows[-1][0]:,.0f} tokens/s, bare loop {tokens / sum(bare):,.0f}, "
            f"ours in fp32 {in_fp32:,.0f}, transformers' Trainer {theirs:,.0f} ({size:,} parameters)",
            flush=True,
        )
    quarters = statistics.quantiles(steps, n=4)
    half = f"{quarters[1]:.3f} ({quarters[0]:.3f} to {quarters[2]:.3f}, the middle half)"
    print(f"ours / bare loop, step by step:          {half}   goal 0.97")
    print(f"ours / transformers' Trainer:            {spread([r[0] / r[2] for r in rows])}   goal 2")
    print(f"ours in fp32 / transformers' Trainer:    {spread([r[1] / r[2] for r in rows])}")
    print(f"share of the time in the reporter:       {spread([r[3] for r in rows])}   goal 0.01")


if __name__ == "__main__":
    main()
