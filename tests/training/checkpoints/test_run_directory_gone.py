"""A run directory that is taken away while its run is at work ends the run in one line, and is not made anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training import TrainingConfig
from training.checkpoints.checkpoint import begin, commit
from training.checkpoints.run_directory import RunDirectory
from training.engines.results import UpdateResult
from training.errors import UserError
from training.loop.callbacks import Callback, RunView
from training.loop.trainer import Trainer
from training.record.reporter import LOG_NAME, read_report
from training.tasks.objective import ModuleObjective

ROWS = [{"x": torch.tensor([n / 10.0, 1.0]), "y": torch.tensor(n / 5.0)} for n in range(20)]


def squared_error(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    loss: Tensor = ((model(batch["x"]).squeeze(1) - batch["y"]) ** 2).sum()
    return loss


class AfterThreeUpdates(Callback):
    def __init__(self, act: Callable[[Path], object]) -> None:
        self._act = act

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        if trainer.step == 3:
            self._act(trainer.directory.path)


def train(run_dir: Path, act: Callable[[Path], object]) -> None:
    config = TrainingConfig.from_dict({
        "run": {"run_dir": run_dir, "epochs": 2, "batch_size": 6},
        "checkpoint": {"save_steps": 4, "snapshots": 0},
        "report": {"report_batches": 100},
    })  # fmt: skip
    objective = ModuleObjective(lambda: nn.Linear(2, 1), squared_error)
    Trainer(config, ROWS, objective=objective, device="cpu", callbacks=[AfterThreeUpdates(act)]).train()


def rename(run_dir: Path) -> None:
    run_dir.rename(run_dir.with_name("renamed"))


def empty(run_dir: Path) -> None:
    """As `rm -r` leaves it where a file appears in it meanwhile."""
    shutil.rmtree(run_dir)
    run_dir.mkdir()


def replace(run_dir: Path) -> None:
    rename(run_dir)
    (run_dir).mkdir()
    RunDirectory(run_dir)  # another run's, which begins here
    (run_dir / LOG_NAME).write_text("another run's\n")


@pytest.mark.parametrize("act", [shutil.rmtree, rename, empty, replace])
def test_a_run_whose_directory_is_gone_ends_in_one_line_and_writes_nothing(
    act: Callable[[Path], object], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(UserError, match="was removed, emptied, renamed or replaced while the run was at work") as ended:
        train(run, act)
    assert "\n" not in str(ended.value)
    there = sorted(path.name for path in run.iterdir()) if run.exists() else []
    assert there == (sorted([".lock", LOG_NAME]) if act is replace else [])


def test_a_log_or_a_lock_file_that_is_taken_away_alone_ends_no_run(tmp_path: Path) -> None:
    for name in (LOG_NAME, ".lock"):
        train(tmp_path / name, lambda run_dir, name=name: (run_dir / name).unlink())  # type: ignore[misc]
        report = read_report(tmp_path / name)
        assert report is not None
        assert report["state"] == "finished"


def test_a_directory_that_goes_while_a_checkpoint_is_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    temporary = begin(tmp_path / "run" / "checkpoint_step_1")
    rename(tmp_path / "run")
    with pytest.raises(UserError, match="its directory was removed or renamed while the run was at work"):
        commit(temporary, tmp_path / "run" / "checkpoint_step_1", {"kind": "checkpoint", "step": 1})
    assert not (tmp_path / "run").exists()
