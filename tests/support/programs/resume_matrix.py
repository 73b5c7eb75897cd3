"""Whole runs, and runs that go on elsewhere, all in this process or these ranks.

Run by tests/end_to_end/test_resume_matrix.py and test_resume_matrix_language.py:

[… torch.distributed.run --nproc-per-node 2] tests/support/programs/resume_matrix.py FOLDER JOB [JOB …]

JOB is `CASE/KIND`, a whole run, or `CASE/SOURCE-KIND`: KIND goes on from the checkpoint of SOURCE's whole run. What a
case of a language model starts from lies in FOLDER: a model and data, by the names in `CASES`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import torch

from training.backends.prepare import config_class
from training.backends.protocol import RunRequest
from training.backends.registry import BACKENDS
from training.engines.torch_engine import TorchEngine
from training.machine.ranks import Ranks
from training.run import run_task
from training.settings.tree import TrainingConfig

KINDS = ("playground", "ddp", "zero1", "zero2", "zero3", "hf", "hf_zero2")
ON_ONE_RANK = ("playground", "hf")


@dataclass(frozen=True)
class Case:
    """Data, settings. The first checkpoint is written at `half`, an epoch ends behind it, and the run at `whole`."""

    half: int
    end_of_epoch: int
    whole: int
    settings: Mapping[str, Any]
    task: str = "hlbd"
    model: str = "apt"
    """A family, or the name of a model's directory in the folder."""
    starts_from: tuple[str, ...] = field(default=())
    """Names of files in the folder that are the data."""


SMALL = {"batch_size": 9, "global_batch_size": 26}
CASES: Mapping[str, Case] = {
    # Three micro-batches of unequal size an update, two on each of two ranks. An epoch ends in the second half, with a
    # smaller update, validation (without the smoothing) and a restart of the rate; the run ends in the next, and
    # validates again.
    "hlbd": Case(20, 22, 32, {
        "d_model": 32, "num_layers": 2, "num_heads": 2, "d_ff": 64, "datasets": ["HLBD_Hardcore_Full.json"],
        "validation_split": 0.04, "label_smoothing": 0.1, **SMALL,
    }),
    # The average of the weights, in what every kind validates, saves and goes on from.
    "hlbd_average": Case(3, 22, 6, {
        "d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 32, "datasets": ["HLBD_Hardcore_Full.json"],
        "validation_split": 0.04, "ema_decay": 0.9, **SMALL,
    }),
    "text_whole_packed": Case(3, 5, 7, {
        "max_seq_len": 64, "packing": True, "validation_split": 0.1, **SMALL,
    }, "text", "llama", ("topics.jsonl",)),
    "chat_lora": Case(4, 5, 8, {
        "lora": True, "lora_rank": 4, "lora_modules_to_save": ["lm_head"], "validation_split": 0.1, "batch_size": 3,
        "global_batch_size": 8,
    }, "chat", "qwen2", ("chats.jsonl",)),
    "text_lora": Case(4, 7, 8, {
        "max_seq_len": 48, "lora": True, "lora_rank": 4, "gradient_checkpointing": True, "validation_split": 0.1,
        **SMALL,
    }, "text", "gpt2", ("topics.jsonl",)),
    "chat_whole_packed": Case(3, 6, 7, {
        "max_seq_len": 96, "packing": True, "validation_split": 0.1, "label_smoothing": 0.1, "freeze": ["*embed*"],
        "batch_size": 1, "global_batch_size": 4,
    }, "chat", "qwen2", ("chats.jsonl",)),
    "chat_lora_noisy": Case(4, 5, 8, {
        "lora": True, "lora_dropout": 0.2, "neftune_alpha": 5.0, "validation_split": 0.1, "batch_size": 3,
        "global_batch_size": 8,
    }, "chat", "llama", ("chats.jsonl",)),
    # Noise, levels and left-out classes are drawn for each sample, whatever rank has it.
    "diffusion": Case(4, 5, 8, {
        "datasets": ["circle:60"], "width": 16, "num_blocks": 2, "dropout": 0.0, "validation_split": 0.2,
        "batch_size": 3, "global_batch_size": 10, "prediction": "v", "loss_weighting": "min_snr", "sample_count": 0,
    }, "diffusion", "denoising_mlp"),
}  # fmt: skip


def config_of(case: str, kind: str, folder: Path, run_dir: Path) -> TrainingConfig:
    """The same run whatever the kind; only where and how differ."""
    by_kind = {"zero": "deepspeed", "hf": "huggingface", "hf_zero": "huggingface"}
    backend = by_kind.get(kind.rstrip("0123"), "playground")
    options: dict[str, Any] = {"zero_stage": int(kind[-1])} if backend == "deepspeed" else {}
    if kind == "hf_zero2":
        options = {"deepspeed": "ds_config.json"}
    learned = CASES[case]
    model = str(folder / learned.model) if (folder / learned.model).is_dir() else learned.model
    data = {"datasets": [str(folder / name) for name in learned.starts_from]} if learned.starts_from else {}
    return config_class(BACKENDS.load(backend), task=learned.task, model=model).from_dict({
        **learned.settings, **data, "backend": backend, "length_window": 4, "learning_rate": 3e-3,
        "run_dir": str(run_dir), "max_steps": learned.whole, "restart_epochs": 1.0, "save_steps": learned.half,
        "save_interval": None, "snapshots": 0, "answer_samples": 0, "fingerprints": True,
        backend: {"device": "cpu", **options},
    })  # fmt: skip


def checkpoint_of(case: str, kind: str, folder: Path) -> Path:
    """Where the whole run of a kind left its state after half of its steps."""
    half = CASES[case].half
    return folder / case / kind / (f"checkpoint-{half}" if kind.startswith("hf") else f"checkpoint_step_{half}")


def train(request: RunRequest, ranks: Ranks) -> None:
    """As the backend's own `run` does, but in ranks that stay for the next run."""
    if request.config.backend == "deepspeed":
        from training.engines.deepspeed.engine import DeepSpeedEngine

        run_task(request, ranks, lambda model, config, family: DeepSpeedEngine(model, config, ranks, family))
    elif request.config.backend == "huggingface":
        from training.loop.transformers_loop import transformers_loop
        from training.train_hf_trainer import checkpoint_name, engine_of

        run_task(request, ranks, engine_of(request.config, ranks), transformers_loop, checkpoint_name)
    else:
        run_task(request, ranks, lambda model, config, family: TorchEngine(model, config, ranks, family))


def main() -> None:
    folder, jobs = Path(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    ranks = Ranks.join(torch.device("cpu"))
    for job in jobs:
        case, _, name = job.partition("/")
        source, is_rest, kind = name.rpartition("-")
        config = config_of(case, kind, folder, folder / case / name)
        from_there = checkpoint_of(case, source, folder) if is_rest else None
        train(RunRequest(config, resume=bool(is_rest), resume_from=from_there), ranks)
    ranks.barrier()
    sys.stdout.flush()
    os._exit(0)  # as DeepSpeed's own backend does: its threads abort the interpreter's way out now and then


if __name__ == "__main__":
    main()
