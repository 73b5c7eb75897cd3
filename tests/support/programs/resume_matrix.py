"""Whole runs, and runs that go on elsewhere, all in this process or these ranks.

Run by tests/end_to_end/test_resume_matrix.py:

[… torch.distributed.run --nproc-per-node 2] tests/support/programs/resume_matrix.py FOLDER WHAT [WHAT] KIND [KIND …]

WHAT is `whole` or `rest`, in this order if both: the rest goes on from the checkpoints of all kinds' whole runs.
"""

from __future__ import annotations

import itertools
import os
import sys
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
HALF, END_OF_EPOCH, WHOLE = 20, 22, 32


def config_of(kind: str, run_dir: Path) -> TrainingConfig:
    """The same run whatever the kind; only where and how differ."""
    backend = {"zero": "deepspeed", "hf": "huggingface", "hf_zero": "huggingface"}.get(kind.rstrip("123"), "playground")
    options: dict[str, Any] = {"zero_stage": int(kind[-1])} if backend == "deepspeed" else {}
    if kind == "hf_zero2":
        options = {"deepspeed": "ds_config.json"}
    return config_class(BACKENDS.load(backend)).from_dict({
        "backend": backend,
        "model": {"d_model": 32, "num_layers": 2, "num_heads": 2, "d_ff": 64},
        "data": {"datasets": ["HLBD_Hardcore_Full.json"], "length_window": 4, "validation_split": 0.04},
        "optimizer": {"learning_rate": 3e-3},
        # Three micro-batches of unequal size an update, two on each of two ranks. An epoch ends in the second half,
        # with a smaller update, validation and a restart of the rate; the run ends in the next, and validates again.
        "run": {"run_dir": str(run_dir), "batch_size": 9, "global_batch_size": 26, "max_steps": WHOLE},
        "schedule": {"restart_epochs": 1.0},
        "checkpoint": {"save_steps": HALF, "save_interval": None, "snapshots": 0},
        "report": {"answer_samples": 0, "fingerprints": True},
        backend: {"device": "cpu", **options},
    })  # fmt: skip


def checkpoint_of(kind: str, folder: Path) -> Path:
    """Where the whole run of a kind left its state after half of its steps."""
    return folder / kind / (f"checkpoint-{HALF}" if kind.startswith("hf") else f"checkpoint_step_{HALF}")


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
    folder, words = Path(sys.argv[1]), sys.argv[2:]
    kinds = [word for word in words if word in KINDS]
    torch.set_num_threads(1)
    ranks = Ranks.join(torch.device("cpu"))

    if "whole" in words:
        for kind in kinds:
            train(RunRequest(config_of(kind, folder / kind)), ranks)
    if "rest" in words:
        for kind, source in itertools.product(kinds, KINDS):
            config = config_of(kind, folder / f"{source}-{kind}")
            train(RunRequest(config, resume=True, resume_from=checkpoint_of(source, folder)), ranks)
    ranks.barrier()
    sys.stdout.flush()
    os._exit(0)  # as DeepSpeed's own backend does: its threads abort the interpreter's way out now and then


if __name__ == "__main__":
    main()
