"""transformers' Trainer with a DeepSpeed file, beside playground.

Run by tests/training/engines/transformers/test_deepspeed_file.py:

python tests/support/programs/hf_deepspeed_precisions.py FOLDER PRECISION [PRECISION …]

The runs of a precision lie in FOLDER/PRECISION; all are made in this process, so that it is started once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import torch

from training.backends.prepare import config_class
from training.backends.protocol import RunRequest
from training.backends.registry import BACKENDS
from training.engines.torch_engine import TorchEngine
from training.loop.transformers_loop import transformers_loop
from training.machine.ranks import Ranks
from training.run import run_task
from training.settings.tree import TrainingConfig
from training.train_hf_trainer import checkpoint_name, engine_of


def config_of(backend: str, run_dir: Path, precision: str, **options: Any) -> TrainingConfig:
    """Sixteen updates of three micro-batches each, with a checkpoint after eight."""
    return config_class(BACKENDS.load(backend)).from_dict({
        "backend": backend,
        "model": {"d_model": 32, "num_layers": 2, "num_heads": 2, "d_ff": 64},
        "data": {"datasets": ["HLBD_Hardcore_Full.json"]},
        "optimizer": {"learning_rate": 3e-3},
        "run": {
            "run_dir": str(run_dir), "batch_size": 8, "global_batch_size": 24, "max_steps": 16, "precision": precision,
        },
        "checkpoint": {"save_steps": 8, "save_interval": None, "snapshots": 0},
        "report": {"answer_samples": 0},
        backend: {"device": "cpu", **options},
    })  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    ranks = Ranks.join(torch.device("cpu"))
    for precision in sys.argv[2:]:
        train(Path(sys.argv[1]) / precision, precision, ranks)
    sys.stdout.flush()
    os._exit(0)  # DeepSpeed's threads abort the interpreter's way out now and then


def train(folder: Path, precision: str, ranks: Ranks) -> None:
    """playground's run, the same by transformers with DeepSpeed, and that again from its middle."""
    plain = config_of("playground", folder / "playground", precision)
    run_task(RunRequest(plain), ranks, lambda model, config, family: TorchEngine(model, config, ranks, family))
    for name, start in (("whole", None), ("rest", folder / "whole" / "checkpoint-8")):
        config = config_of("huggingface", folder / name, precision, deepspeed="ds_config.json")
        request = RunRequest(config, resume=start is not None, resume_from=start)
        run_task(request, ranks, engine_of(config, ranks), transformers_loop, checkpoint_name)


if __name__ == "__main__":
    # The front door refuses fp16 without a GPU, for its slowness; the arithmetic is there on a CPU too.
    with mock.patch("training.loop.trainer.pick_precision", lambda precision, device: precision):
        main()
