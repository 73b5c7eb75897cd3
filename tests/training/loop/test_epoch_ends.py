"""Results tied to the end of an epoch, in runs that end inside one, go on from there, or are resumed at their end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from training import TrainingConfig
from training.checkpoints.checkpoint import load_checkpoint
from training.engines.results import UpdateResult
from training.experiments.comparison import _ends_inside_epoch
from training.loop.callbacks import Callback, RunView
from training.loop.early_stopping import EarlyStopping
from training.loop.trainer import Trainer
from training.record.reporter import read_report
from training.tasks.objective import ModuleObjective

if TYPE_CHECKING:
    from tests.conftest import FrontDoor, TinyDataset

ROWS = [{"x": torch.tensor([n / 10.0, 1.0]), "y": torch.tensor(n / 5.0)} for n in range(20)]
"""In batches of six: four updates an epoch."""


def squared_error(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    loss: Tensor = ((model(batch["x"]).squeeze(1) - batch["y"]) ** 2).sum()
    return loss


def train(run_dir: Path, max_steps: int, *callbacks: Callback, resume: bool = False, **checkpoint: Any) -> Trainer:
    config = TrainingConfig.from_dict({
        "run": {"run_dir": run_dir, "epochs": 5, "batch_size": 6, "max_steps": max_steps},
        "optimizer": {"learning_rate": 0.02},
        "schedule": {"schedule": "constant"},
        "checkpoint": checkpoint,
    })  # fmt: skip
    objective = ModuleObjective(lambda: nn.Linear(2, 1), squared_error)
    trainer = Trainer(config, ROWS, ROWS[:7], objective=objective, device="cpu", callbacks=callbacks, resume=resume)
    trainer.train()
    return trainer


def report_of(run_dir: Path) -> Mapping[str, Any]:
    report = read_report(run_dir)
    assert report is not None
    return report


def evaluated_at(run_dir: Path) -> list[int]:
    return [row["step"] for row in report_of(run_dir)["evaluations"]]


def test_the_evaluation_where_a_run_ends_inside_an_epoch_counts(tmp_path: Path) -> None:
    trainer = train(tmp_path / "run", 3, keep_best=True)
    best = load_checkpoint(tmp_path / "run" / "checkpoint_best")
    assert (best["step"], best["loop"]["early_stopping"]["best"]) == (3, trainer.early_stopping.best)
    assert report_of(tmp_path / "run")["best"]["step"] == 3


def test_a_run_that_is_resumed_at_its_end_is_not_measured_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(run, 6)
    before = {path: path.read_bytes() for path in run.glob("checkpoint*/*")}
    for _ in range(3):
        train(run, 6, resume=True)
    assert evaluated_at(run) == [4, 6]
    assert {path: path.read_bytes() for path in run.glob("checkpoint*/*")} == before


def test_a_run_that_goes_on_after_its_end_inside_an_epoch_has_whole_epochs(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 10)
    for max_steps in (3, 6, 10):
        parts = train(tmp_path / "parts", max_steps, resume=max_steps > 3)
    theirs, ours = report_of(tmp_path / "whole")["epochs"], report_of(tmp_path / "parts")["epochs"]
    assert ours == theirs
    assert [(row["epoch"], row["step"], "unfinished" in row) for row in ours] == [
        (1, 4, False), (2, 8, False), (3, 10, True),
    ]  # fmt: skip
    assert evaluated_at(tmp_path / "parts") == [3, 4, 6, 8, 10]
    assert _ends_inside_epoch(tmp_path / "parts")
    for name, tensor in whole.engine.model().state_dict().items():
        assert torch.equal(parts.engine.model().state_dict()[name], tensor)


class SaveAt(Callback):
    """A user's callback that saves before the end of the epoch is processed."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        if trainer.step == self._step:
            trainer.save()
            raise KeyboardInterrupt  # and the run is killed there


def test_a_checkpoint_from_before_its_epochs_end_was_processed_catches_up(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 10, save_interval=None)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", 10, SaveAt(4), save_interval=None)
    on = train(tmp_path / "run", 10, resume=True, save_interval=None)
    assert evaluated_at(tmp_path / "run") == evaluated_at(tmp_path / "whole") == [4, 8, 10]
    assert on.early_stopping == whole.early_stopping
    assert report_of(tmp_path / "run")["epochs"] == report_of(tmp_path / "whole")["epochs"]


def test_patience_counts_whole_epochs_and_a_loss_that_is_not_finite_is_never_the_best() -> None:
    stopping = EarlyStopping(patience=2)
    assert not stopping.note(float("nan"))
    assert stopping.note(1.0)
    assert not stopping.note(2.0)
    assert not stopping.note(2.0, whole_epoch=False)
    assert (stopping.best, stopping.epochs_without_gain, stopping.is_due) == (1.0, 1, False)
    assert stopping.note(0.5, whole_epoch=False)
    assert not stopping.note(float("inf"))
    assert (stopping.best, stopping.epochs_without_gain) == (0.5, 1)


# -- the final model ---------------------------------------------------------------------------------------------------


@pytest.fixture
def flags(tiny_flags: list[str], tiny_dataset: TinyDataset, tmp_path: Path) -> list[str | Path]:
    return [*tiny_flags, "--datasets", tiny_dataset(rows=40), "--run-dir", tmp_path / "run", "--epochs", "9"]


def test_the_best_model_of_a_run_that_ends_inside_its_first_epoch_is_its_last(
    front_door: FrontDoor, flags: list[str | Path], tmp_path: Path
) -> None:
    done = front_door([*flags, "--max-steps", "2", "--validation-split", "0.1", "--load-best-model-at-end"])
    assert done.exit_code == 0, done.stderr
    assert "best    the final model is that of step 2" in done.stdout
    assert (tmp_path / "run" / "final_model").is_dir()


def test_without_validation_and_a_whole_epoch_the_last_weights_are_kept_and_that_is_said(
    front_door: FrontDoor, flags: list[str | Path], tmp_path: Path
) -> None:
    done = front_door([*flags, "--max-steps", "2", "--load-best-model-at-end"])
    assert done.exit_code == 0, done.stderr
    assert "warning: the final model is that of the last step, 2: no epoch came to its end" in done.stdout
    assert (tmp_path / "run" / "final_model").is_dir()


@pytest.mark.parametrize("damage", [False, True])
def test_a_best_checkpoint_that_was_not_kept_or_is_damaged_does_not_cost_the_final_model(
    damage: bool, front_door: FrontDoor, flags: list[str | Path], tmp_path: Path
) -> None:
    assert front_door([*flags, "--max-steps", "10", *(["--keep-best"] if damage else [])]).exit_code == 0
    (tmp_path / "run" / "final_model.pt").unlink()
    if damage:
        (tmp_path / "run" / "checkpoint_best" / "model.safetensors").unlink()
    done = front_door([*flags, "--max-steps", "10", "--load-best-model-at-end", "--resume"])
    assert done.exit_code == 0, done.stderr
    assert (
        f"warning: the final model is that of the last step, 10: {tmp_path / 'run' / 'checkpoint_best'}" in done.stdout
    )
    assert (tmp_path / "run" / "final_model.pt").is_file()
