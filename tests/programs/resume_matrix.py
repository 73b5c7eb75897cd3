"""Run by torchrun in tests/test_resume_matrix.py: whole runs, and runs that go on elsewhere, all in these ranks.

python -m torch.distributed.run --nproc-per-node N tests/programs/resume_matrix.py FOLDER whole|rest KIND [KIND …]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from training import registry
from training.backend import RunRequest
from training.config import TrainingConfig
from training.engine import Engine, TorchEngine
from training.hlbd_run import train_hlbd
from training.ranks import Ranks
from training.train import with_options

KINDS = ("playground", "ddp", "zero1", "zero2", "zero3")
HALF, WHOLE = 20, 40


def config_of(kind: str, run_dir: Path) -> TrainingConfig:
    """The same run whatever the kind; only where and how differ."""
    backend = "deepspeed" if kind.startswith("zero") else "playground"
    return with_options(registry.load(backend)).from_dict({
        "backend": backend,
        "model": {"d_model": 32, "num_layers": 2, "num_heads": 2, "d_ff": 64},
        "data": {"datasets": ["HLBD_Hardcore_Full.json"], "length_window": 4},
        "optimizer": {"learning_rate": 3e-3},
        # 575 samples: the 25th update of an epoch is a smaller one, and validation falls into both halves.
        "run": {"run_dir": str(run_dir), "batch_size": 5, "global_batch_size": 23, "max_steps": WHOLE},
        "schedule": {"restart_epochs": 1.0},
        "checkpoint": {"save_steps": HALF, "save_interval": None},
        "report": {"answer_samples": 0, "fingerprints": True},
        **({"deepspeed": {"zero_stage": int(kind[-1]), "device": "cpu"}} if backend == "deepspeed" else {}),
    })  # fmt: skip


def main() -> None:
    folder, what, *kinds = Path(sys.argv[1]), sys.argv[2], *sys.argv[3:]
    torch.set_num_threads(1)
    ranks = Ranks.join(torch.device("cpu"))

    def make_engine(model: torch.nn.Module, config: TrainingConfig) -> Engine:
        if config.backend == "deepspeed":
            from training.deepspeed_engine import DeepSpeedEngine

            return DeepSpeedEngine(model, config, ranks)
        return TorchEngine(model, config, ranks)

    for kind in kinds:
        if what == "whole":
            train_hlbd(RunRequest(config_of(kind, folder / kind)), ranks, make_engine)
            continue
        for source in KINDS:
            start = folder / source / f"checkpoint_step_{HALF}"
            config = config_of(kind, folder / f"{source}-{kind}")
            train_hlbd(RunRequest(config, resume=True, resume_from=start), ranks, make_engine)
    ranks.barrier()
    sys.stdout.flush()
    os._exit(0)  # as DeepSpeed's own backend does: its threads abort the interpreter's way out now and then


if __name__ == "__main__":
    main()
