#!/usr/bin/env python3
"""First loss and tokens per second of `--task chat` and of TRL's SFTTrainer: same rows, model and settings.

    python benchmarks/chat_against_trl.py [--rounds 5] [--rows 192] [--gradient-checkpointing]

First it compares the loss of the first update, in messages whose template has generation tags (TRL's
assistant_only_loss) and in prompts with completions (completion_only_loss); a difference above 1e-5 ends it. Then it
trains an epoch by each way in turns, in fp32 and with two threads:

    same batches      TRL gets the rows in the order of our plan, so each update of both has the same samples
    unlike lengths    ours with length windows, and packed, against TRL as it is by default: batches of random rows
    TRL packed        its own packing, which isolates samples here too, though it warns about it without flash attention

Real tokens are counted, never padding. TRL recomputes activations by default; here both do, or neither. Each ratio is
the median over the rounds, with the least and the largest. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
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

from benchmarks.language_data import Chat, chats, make_llama, write_rows
from benchmarks.workload import UpdateTimes, config_of, parse, spread, trainer_of
from training.engines.results import UpdateResult
from training.loop.callbacks import RunView
from training.machine.environment import variables_set
from training.models.transformers_library import quiet_transformers
from training.tasks.chat.built_in_templates import BUILT_IN
from training.tasks.protocol import Prepared, task_of

TOLERANCE = 1e-5
WARM_UP = 3
LONGEST = 1024
LEARNING_RATE, BETA2 = 3e-4, 0.95
AFTER_ALL = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}{{- message['content'] + '<|im_end|>' }}{% endgeneration %}
    {%- else %}{{- message['content'] + '<|im_end|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}
"""
"""ChatML without a line end behind the token that ends a turn: TRL's completion is all that follows the prompt, so in
ChatML it trains that line end too, and ours does not (nobody asks a model for it)."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """Figures of a training."""

    losses: list[float]
    """Mean loss over the trained tokens of each update."""
    tokens: int
    """Number of real tokens of the timed updates."""
    seconds: float
    """Duration of the timed updates."""

    @property
    def speed(self) -> float:
        """Return real tokens per second."""
        return self.tokens / self.seconds


def refuse_short(updates: int, warm_up: int) -> None:
    """Refuse an epoch in which nothing is left to time.

    Raises:
        SystemExit: all its updates are warm-up.
    """
    if updates <= warm_up:
        raise SystemExit(
            f"an epoch has only {updates} updates, of which the first {warm_up} are not timed: raise --rows"
        )


class Measurement(UpdateTimes):
    """Callback that collects the losses and the real tokens of our updates beside their times."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.tokens: list[int] = []

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        """Record the update."""
        epoch, index = divmod(trainer.step - 1, trainer.plan.steps_per_epoch)
        self.tokens.append(int(trainer.plan.lengths[trainer.plan.indices(epoch, index)].sum()))
        self.losses.append(result.loss)
        super().on_step(trainer, result)

    def measured(self, warm_up: int) -> Measured:
        """Return the figures; the first `warm_up` updates are not timed."""
        refuse_short(len(self.losses), warm_up)
        return Measured(self.losses, sum(self.tokens[warm_up:]), sum(self.seconds[warm_up:]))


def prepare_ours(rows: Path, model: Path, folder: str, options: argparse.Namespace, **settings: Any) -> Prepared:
    """Return rows of chats as our task prepares them, with the settings that TRL gets too."""
    config = config_of(
        {
            "task": "chat", "datasets": [str(rows)], "model": "huggingface", "base_model": str(model),
            "max_seq_len": LONGEST, "batch_size": options.batch_size, "epochs": 1, "learning_rate": LEARNING_RATE,
            "weight_decay": 0.0, "adam_beta2": BETA2, "length_window": 1,
            "gradient_checkpointing": options.gradient_checkpointing, **settings,
        },
        folder,
    )  # fmt: skip
    return task_of(config).prepare(config)


def train_ours(prepared: Prepared, folder: str, warm_up: int) -> Measured:
    """Train what was prepared in a new run directory."""
    with tempfile.TemporaryDirectory(dir=folder) as run_dir:
        run = prepared.config.run.model_copy(update={"run_dir": Path(run_dir) / "run"})
        measurement = Measurement()
        prepared = dataclasses.replace(prepared, config=prepared.config.model_copy(update={"run": run}))
        trainer = trainer_of(prepared, measurement)
        try:
            trainer.make_updates()
        finally:
            trainer.close()
    return measurement.measured(warm_up)


def train_trl(
    rows: Sequence[Mapping[str, Any]],
    model: Path,
    folder: str,
    options: argparse.Namespace,
    warm_up: int,
    **settings: Any,
) -> Measured:
    """Train rows by TRL's SFTTrainer for an epoch, or as `settings` for SFTConfig say."""
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    losses: list[torch.Tensor] = []
    marks: list[float] = []
    tokens: list[int] = []

    class Recorded(SFTTrainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Mapping[str, Any], *rest: Any, **named: Any) -> Any:
            mask = inputs.get("attention_mask")
            tokens.append(inputs["input_ids"].numel() if mask is None else int(mask.sum()))
            losses.append(super().training_step(model, inputs, *rest, **named))
            return losses[-1]

    class Marks(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *args: Any, **named: Any) -> None:
            marks.append(time.perf_counter())

        def on_step_end(self, *args: Any, **named: Any) -> None:
            marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory(dir=folder) as output, quiet_transformers(), variables_set(DS_ACCELERATOR="cpu"):
        arguments = SFTConfig(
            **{
                "output_dir": output, "per_device_train_batch_size": options.batch_size, "num_train_epochs": 1,
                "learning_rate": LEARNING_RATE, "lr_scheduler_type": "constant", "weight_decay": 0.0,
                "adam_beta2": BETA2, "max_grad_norm": 1.0, "bf16": False, "use_cpu": True, "max_length": LONGEST,
                "gradient_checkpointing": options.gradient_checkpointing, "report_to": [], "save_strategy": "no",
                "logging_strategy": "no", "disable_tqdm": True, "dataloader_pin_memory": False, **settings,
            }
        )  # fmt: skip
        trainer = Recorded(
            model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
            args=arguments,
            train_dataset=Dataset.from_list([dict(row) for row in rows]),
            processing_class=AutoTokenizer.from_pretrained(model),
            callbacks=[Marks()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    refuse_short(len(losses), warm_up)
    return Measured([float(loss) for loss in losses], sum(tokens[warm_up:]), marks[-1] - marks[warm_up])


def in_our_order(rows: Sequence[Mapping[str, Any]], prepared: Prepared) -> list[Mapping[str, Any]]:
    """Return the rows in the order in which our run takes them in its first epoch."""
    from training.tasks.batch_plan import BatchPlan

    run = prepared.config.run
    plan = BatchPlan(prepared.train.lengths, run.samples_per_update, run.seed, prepared.config.data.length_window)
    return [rows[int(n)] for index in range(plan.steps_per_epoch) for n in plan.indices(0, index)]


def as_prompt(messages: Chat) -> dict[str, Any]:
    """Return a conversation as a prompt with its last answer as the completion."""
    return {"prompt": messages[:-1], "completion": messages[-1:]}


def compare_first_losses(folder: str, options: argparse.Namespace) -> None:
    """Print the losses of the first update of both.

    Raises:
        SystemExit: they differ.
    """
    talks = chats(options.batch_size)
    cases = (
        ("messages with generation tags", BUILT_IN["chatml"].source, [{"messages": talk} for talk in talks],
         {"loss_on": "assistant"}, {"assistant_only_loss": True}),
        ("prompt and completion", AFTER_ALL, [as_prompt(talk) for talk in talks],
         {"loss_on": "completion"}, {"completion_only_loss": True}),
    )  # fmt: skip
    for number, (name, template, rows, ours_only, trl_only) in enumerate(cases):
        model = build_model(Path(folder) / f"first_{number}", template, options)
        path = write_rows(Path(folder) / f"first_{number}.jsonl", rows)
        ours = train_ours(prepare_ours(path, model, folder, options, max_steps=1, **ours_only), folder, 0).losses[0]
        theirs = train_trl(rows, model, folder, options, 0, max_steps=1, **trl_only).losses[0]
        difference = abs(ours - theirs)
        print(f"first loss, {name}: ours {ours:.7f}, TRL {theirs:.7f}, difference {difference:.1e}", flush=True)
        if not difference <= TOLERANCE:
            raise SystemExit(f"the first losses differ by more than {TOLERANCE:g}: they do not train the same tokens")


def build_model(directory: Path, template: str, options: argparse.Namespace) -> Path:
    """Write a new Llama of the size that the options say."""
    return make_llama(
        directory, vocabulary=options.vocabulary, width=options.width, layers=options.layers, longest=LONGEST,
        template=template,
    )  # fmt: skip


def compare_speeds(folder: str, options: argparse.Namespace) -> None:
    """Print the tokens per second of each way, and the ratios."""
    rows = [{"messages": talk} for talk in chats(options.rows)]
    model = build_model(Path(folder) / "model", BUILT_IN["chatml"].source, options)
    path = write_rows(Path(folder) / "rows.jsonl", rows)
    plain = prepare_ours(path, model, folder, options)
    mean = plain.train.lengths.mean()
    # As many tokens in an update of packed rows as in one of single ones.
    packed_rows = max(1, round(options.batch_size * mean / LONGEST))
    windows = prepare_ours(path, model, folder, options, length_window=16)
    packed = prepare_ours(path, model, folder, options, packing=True, batch_size=packed_rows)
    trl = {"assistant_only_loss": True}
    ways = {
        "ours, same batches": lambda: train_ours(plain, folder, WARM_UP),
        "TRL, same batches": lambda: train_trl(
            in_our_order(rows, plain), model, folder, options, WARM_UP, train_sampling_strategy="sequential", **trl
        ),
        "ours, length windows": lambda: train_ours(windows, folder, WARM_UP),
        "ours, packed": lambda: train_ours(packed, folder, WARM_UP),
        "TRL, by default": lambda: train_trl(rows, model, folder, options, WARM_UP, **trl),
        "TRL, packed": lambda: train_trl(
            rows, model, folder, options, WARM_UP, packing=True, per_device_train_batch_size=packed_rows, **trl
        ),
    }
    size = sum(p.numel() for p in plain.objective.build_model().parameters())
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, fp32, Llama with {size:,} parameters, "
        f"{len(rows)} chats of {plain.train.lengths.min()} to {plain.train.lengths.max()} tokens, {mean:.0f} on average"
    )
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.rounds):
        measured = {}
        for name in list(ways) if number % 2 == 0 else list(ways)[::-1]:
            measured[name] = ways[name]()
            speeds[name].append(measured[name].speed)
        check_same_losses(measured["ours, same batches"].losses, measured["TRL, same batches"].losses)
        shown = ", ".join(f"{name} {values[-1]:,.0f}" for name, values in speeds.items())
        print(f"round {number + 1}, tokens/s: {shown}", flush=True)
    for ours, theirs, goal in (
        ("ours, same batches", "TRL, same batches", "   goal 1"),
        ("ours, length windows", "TRL, by default", "   goal 1.5"),
        ("ours, packed", "TRL, by default", "   goal 1.5"),
        ("ours, packed", "TRL, packed", ""),
    ):
        ratios = [a / b for a, b in zip(speeds[ours], speeds[theirs], strict=True)]
        print(f"{f'{ours} / {theirs}:':<42}{spread(ratios)}{goal}")


def check_same_losses(ours: Sequence[float], theirs: Sequence[float]) -> None:
    """Refuse to compare the speed of two trainings that are not the same.

    Raises:
        SystemExit: an update's losses differ by more than a thousandth.
    """
    differences = [abs(a - b) / abs(a) for a, b in zip(ours, theirs, strict=True)]
    if max(differences) > 1e-3:
        step = differences.index(max(differences)) + 1
        raise SystemExit(
            f"update {step} has a loss of {ours[step - 1]:.6f} in ours and of {theirs[step - 1]:.6f} in TRL"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Print the losses and the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=192, help="conversations of an epoch")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of both")
    parser.add_argument("--width", type=int, default=256, help="width of the model")
    parser.add_argument("--layers", type=int, default=6, help="layers of the model")
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--gradient-checkpointing", action="store_true", help="both recompute activations")
    small = {"rounds": 1, "rows": 20, "batch_size": 4, "width": 64, "layers": 2, "vocabulary": 1024, "threads": 1}
    options = parse(parser, small, argv)
    logging.getLogger("trl").setLevel(logging.ERROR)
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        with tempfile.TemporaryDirectory() as folder, variables_set(APT_TRAINER_CACHE=folder):
            compare_first_losses(folder, options)
            compare_speeds(folder, options)
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
