"""A tracker that keeps everything it is told, events to tell it, and a line that is trained while it listens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from training import TrainingConfig
from training.loop.trainer import Trainer
from training.record.reporter import LOG_NAME, read_events
from training.tasks.objective import ModuleObjective
from training.tracking.background import Trackers
from training.tracking.figures import flat
from training.tracking.tracker import Held, Point, RunStart, Tracker


class Book:
    """A tracker that keeps everything, and can be cut back to what a kill would have left of it."""

    name: ClassVar[str] = "book"
    seconds_between_calls: ClassVar[float] = 0.005

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.starts: list[RunStart] = []
        self.ends: list[str] = []

    def start(self, run: RunStart) -> Held:
        self.starts.append(run)
        return Held(self.points[-1].step if self.points else 0)

    def whereabouts(self) -> str:
        return "here"

    def log(self, points: Sequence[Point]) -> None:
        self.points += points

    def finish(self, state: str, report: Path) -> None:
        self.ends.append(f"{state}, report {'there' if report.exists() else 'missing'}")

    def steps(self, figure: str = "train/loss") -> list[int]:
        return [point.step for point in self.points if figure in point.figures]


def started(**facts: Any) -> dict[str, Any]:
    return {"event": "run_started", "time": 0.0, "run_id": "r", "curve_hash": "c", "backend": "playground", **facts}


def step_event(step: int, **more: Any) -> dict[str, Any]:
    figures = {"loss": 1.0 / step, "accuracy": 0.5, "learning_rate": 1e-3, "tokens_per_second": 10.0}
    return {"event": "step", "time": float(step), "step": step, "epoch": 1, **figures, **more}


def eval_event(step: int) -> dict[str, Any]:
    return {"event": "eval", "time": float(step), "step": step, "epoch": 1, "loss": 1.0, "accuracy": 0.5}


def figures_of(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in ("event", "time")}


ROWS = [{"x": torch.tensor([n / 10.0, 1.0]), "y": torch.tensor(n / 5.0)} for n in range(20)]


def squared_error(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    loss: torch.Tensor = ((model(batch["x"]).squeeze(1) - batch["y"]) ** 2).sum()
    return loss


def train_a_line(run_dir: Path, *trackers: Tracker) -> list[tuple[int, float]]:
    """Thirty real updates; returns the curve in the record."""
    config = TrainingConfig.from_dict({"run": {"run_dir": run_dir, "epochs": 3, "batch_size": 2}})
    task = ModuleObjective(model=lambda: nn.Linear(2, 1), loss=squared_error)
    sinks = [Trackers(trackers, run_dir, flat(config.to_dict()), seconds_to_finish=0.3)]
    result = Trainer(config, ROWS, objective=task, sinks=sinks).train()
    assert (result.state, result.step) == ("finished", 30)
    return [(e["step"], e["loss"]) for e in read_events(run_dir / LOG_NAME) if e["event"] == "step"]
