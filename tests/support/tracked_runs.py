"""Real runs that trackers follow, and what the trackers hold of them, read back by their own means."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests.support.tracker_record import ROWS, squared_error
from training import TrainingConfig
from training.engines.results import UpdateResult
from training.loop.callbacks import Callback, RunView
from training.loop.trainer import Trainer
from training.record.log import counted
from training.record.reporter import LOG_NAME, read_events
from training.tasks.objective import ModuleObjective

SLOW = [
    pytest.mark.slow,
    # What the services' packages themselves import is not ours to mend.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
Curve = list[tuple[int, float]]


@contextlib.contextmanager
def machine_of_its_own(home: Path, wandb_url: str) -> Iterator[None]:
    """No account, no settings and no variables of whoever runs the tests; W&B is the stand-in."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
            patch.delenv(name)
        for name, value in {
            "HOME": str(home),
            "NETRC": str(home / ".netrc"),
            "WANDB_BASE_URL": wandb_url,
            "WANDB_API_KEY": "0" * 40,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_SILENT": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        }.items():
            patch.setenv(name, value)
        yield
        if "wandb" in sys.modules:
            sys.modules["wandb"].teardown()


class StopAt(Callback):
    """Asks for a stop after an update."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        if trainer.step == self._step:
            trainer.stop()


def config_of(run_dir: Path, **track: Any) -> TrainingConfig:
    return TrainingConfig.from_dict({
        "run": {"run_dir": run_dir, "epochs": 3, "batch_size": 4},
        "optimizer": {"learning_rate": 0.02},
        "checkpoint": {"save_steps": 4},
        "track": track,
    })  # fmt: skip


def train(config: TrainingConfig, callback: Callback | None = None, resume: bool = False) -> str:
    """Fifteen updates, five an epoch, with a validation after each epoch."""
    trainer = Trainer(
        config,
        ROWS,
        ROWS[:5],
        objective=ModuleObjective(model=lambda: nn.Linear(2, 1), loss=squared_error),
        callbacks=[callback] if callback else [],
        resume=resume,
    )
    return trainer.train().state


def train_in_two_parts(config: TrainingConfig) -> tuple[Curve, Curve]:
    """Stopped after 10 updates; its last checkpoint is lost, so 9 and 10 are done again. Returns what the record says:
    the training's losses and the validation's, by step."""
    run_dir = config.run.run_dir
    assert train(config, callback=StopAt(10)) == "stopped"
    for file in sorted((run_dir / "checkpoint_step_10").iterdir()):
        file.unlink()
    (run_dir / "checkpoint_step_10").rmdir()
    assert train(config, resume=True) == "finished"
    return recorded(run_dir)


def recorded(run_dir: Path) -> tuple[Curve, Curve]:
    events = counted(read_events(run_dir / LOG_NAME))
    training, validation = ([(e["step"], e["loss"]) for e in events if e["event"] == kind] for kind in ("step", "eval"))
    return training, validation


def assert_same(found: Sequence[tuple[int, float]], expected: Curve, precision: float = 1e-12) -> None:
    assert [step for step, _ in found] == [step for step, _ in expected]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], rel=precision)


def scalars(run_dir: Path, tag: str) -> Curve:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run_dir / "logs"), size_guidance={"scalars": 0})
    board.Reload()
    return [(scalar.step, scalar.value) for scalar in board.Scalars(tag)]


def in_mlflow(uri: str, run_dir: Path) -> tuple[Any, Callable[[str], Curve], Any]:
    """(the client, metric -> its history by step, the run) of what `trackers.json` names."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    name = json.loads((run_dir / "trackers.json").read_text())["mlflow"]["run"]

    def history(metric: str) -> Curve:
        return sorted((m.step, m.value) for m in client.get_metric_history(name, metric))

    return client, history, client.get_run(name)


def wandb_name(run_dir: Path) -> str:
    name: str = json.loads((run_dir / "trackers.json").read_text())["wandb"]["id"]
    return name


def column(found: Sequence[dict[str, Any]], figure: str) -> Curve:
    return [(row["_step"], row[figure]) for row in found if figure in row]
