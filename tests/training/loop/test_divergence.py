"""A run whose loss or weights are not finite is no success, and leaves no such weights behind."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training import TrainingConfig
from training.checkpoints.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from training.engines.results import UpdateResult
from training.errors import UserError
from training.loop.callbacks import Callback, RunView
from training.loop.trainer import Trainer
from training.record.reporter import read_report
from training.tasks.objective import ModuleObjective

ROWS = [{"x": torch.tensor([n / 10.0, 1.0]), "y": torch.tensor(n / 5.0)} for n in range(20)]


class Net(nn.Linear):
    """A linear layer with a constant that is infinite, as a mask may be."""

    def __init__(self) -> None:
        super().__init__(2, 1)
        self.register_buffer("mask", torch.tensor([-math.inf]))


def squared_error(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    loss: Tensor = ((model(batch["x"]).squeeze(1) - batch["y"]) ** 2).sum()
    return loss


class At(Callback):
    """Does something to the model after an update."""

    def __init__(self, step: int, act: Callable[[nn.Module], None]) -> None:
        self._step, self._act = step, act

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        if trainer.step == self._step:
            self._act(trainer.engine.model())


def become_infinite(model: nn.Module) -> None:
    with torch.no_grad():
        next(model.parameters())[0, 0] = math.inf


def train(run_dir: Path, *callbacks: Callback, objective: ModuleObjective | None = None, resume: bool = False) -> None:
    config = TrainingConfig.from_dict({
        "run": {"run_dir": run_dir, "epochs": 5, "batch_size": 6, "max_steps": 6},
        "checkpoint": {"save_steps": 2},
    })  # fmt: skip
    objective = objective or ModuleObjective(Net, squared_error)
    Trainer(config, ROWS, objective=objective, device="cpu", callbacks=callbacks, resume=resume).train()


def assert_failed(run_dir: Path, last_good: int) -> None:
    report = read_report(run_dir)
    assert report is not None
    assert report["state"] == "failed"
    assert list_checkpoints(run_dir)[0][0][0] == last_good
    assert not [path.name for path in run_dir.iterdir() if path.name.startswith(("final_model", "."))]


@pytest.mark.parametrize("step", [3, 6])
def test_weights_that_are_not_finite_are_not_saved(step: int, tmp_path: Path) -> None:
    """At the checkpoint after the fourth update, and at the end of the run."""
    with pytest.raises(UserError, match=r"is not written after [46] updates: the weights are not finite \(weight\)"):
        train(tmp_path / "run", At(step, become_infinite))
    assert_failed(tmp_path / "run", last_good=2 if step == 3 else 4)


def test_weights_that_are_not_finite_are_not_gone_on_from(tmp_path: Path) -> None:
    train(tmp_path / "run")
    newest = tmp_path / "run" / "checkpoint_step_6"
    saved = load_checkpoint(newest)
    saved["engine"]["model"]["weight"][0, 1] = math.nan
    save_checkpoint(newest, saved)
    with pytest.raises(UserError, match=rf"--resume {newest}: the weights are not finite \(weight\)"):
        train(tmp_path / "run", resume=True)


class Losses:
    """The squared error, not a number from one training batch on, or in that one alone."""

    def __init__(self, first: int, *, once: bool) -> None:
        self._first, self._once, self._batches = first, once, 0

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        loss = squared_error(model, batch)
        self._batches += model.training
        is_bad = self._batches == self._first if self._once else self._batches >= self._first
        return loss * math.nan if is_bad and (model.training or not self._once) else loss


@pytest.mark.parametrize("first", [1, 4])
def test_a_run_that_ends_without_a_finite_loss_has_failed(first: int, tmp_path: Path) -> None:
    told = rf"the run ends without a finite loss: the last {7 - first} of its 6 updates were skipped"
    with pytest.raises(UserError, match=told):
        train(tmp_path / "run", objective=ModuleObjective(Net, Losses(first, once=False)))
    assert_failed(tmp_path / "run", last_good=6)


def test_one_bad_batch_at_the_end_costs_nobody_a_run(tmp_path: Path) -> None:
    train(tmp_path / "run", objective=ModuleObjective(Net, Losses(6, once=True)))
    report = read_report(tmp_path / "run")
    assert report is not None
    assert (report["state"], report["num_skipped_updates"]) == ("finished", 1)
