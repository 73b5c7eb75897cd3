"""What one rank alone sees is decided by all (run by tests/training/machine/test_ranks.py). A JSON line each.

python -m torch.distributed.run --nproc-per-node 2 tests/support/programs/decide_together.py FOLDER WHAT [WHAT …]
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import torch
from torch import Tensor, nn

from training import TrainingConfig
from training.engines.results import UpdateResult
from training.loop.callbacks import Callback, RunView
from training.loop.trainer import Trainer
from training.machine.ranks import Ranks
from training.tasks.objective import ModuleObjective


class Points:
    """Eight points of a line; one of them is so far out that its loss overflows."""

    def __init__(self, outlier: int | None) -> None:
        self.x = torch.arange(8.0)[:, None] / 8
        if outlier is not None:
            self.x[outlier] = float("inf")

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": self.x[index]}


class AskToStop(Callback):
    """Only rank 0 has callbacks that are called."""

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        if trainer.step == 3:
            trainer.stop()


class SignalRank1(Callback):
    """A signal reaches one rank only."""

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        if trainer.step == 3:
            pid = int(Path(os.environ["PID_FILE"]).read_text())
            os.kill(pid, signal.SIGTERM)


def loss(module: nn.Module, tensors: dict[str, Tensor]) -> Tensor:
    summed: Tensor = (module(tensors["x"]) ** 2).sum()
    return summed


def train(what: str, run_dir: Path, ranks: Ranks) -> None:
    """A run in which something befalls one rank; both ranks tell how it ended for them."""
    settings: dict[str, dict[str, object]] = {
        "optimizer": {"learning_rate": 0.01},
        "run": {"run_dir": str(run_dir), "epochs": 5, "batch_size": 4},
        "schedule": {"schedule": "constant"},
    }
    if what == "patience":
        # With this rate the validation loss only grows, so patience runs out.
        settings["optimizer"] = {"learning_rate": 50.0, "max_grad_norm": None}
        settings["schedule"] = {"schedule": "constant", "min_lr": 0.0}
        settings["checkpoint"] = {"early_stopping_patience": 2}
        settings["run"]["epochs"] = 50
    callbacks: dict[str, list[Callback]] = {"callback": [AskToStop()], "signal": [SignalRank1()]}
    trainer = Trainer(
        TrainingConfig.from_dict(settings),
        Points(5 if what == "skip" else None),
        Points(None) if what == "patience" else None,
        objective=ModuleObjective(lambda: nn.Linear(1, 1), loss),
        ranks=ranks,
        callbacks=callbacks.get(what, []),
        progress=False,
    )
    result = trainer.train()
    weights = [p.tolist() for p in trainer.engine.model().parameters()]
    told = ranks.gather({"rank": ranks.rank, "state": result.state, "step": trainer.step, "weights": weights})
    if ranks.is_main:
        print(json.dumps(told), flush=True)


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    ranks = Ranks.join(torch.device("cpu"))
    os.environ["PID_FILE"] = str(folder / "rank_1.pid")
    if ranks.rank == 1:
        Path(os.environ["PID_FILE"]).write_text(str(os.getpid()))
    ranks.barrier()
    for what in sys.argv[2:]:
        train(what, folder / what, ranks)
    ranks.leave()


if __name__ == "__main__":
    main()
