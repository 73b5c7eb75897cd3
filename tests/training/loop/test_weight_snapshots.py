"""A run's path: which weights are kept, that kills and resumes do not change it, and that the run does not notice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from tests.test_architecture import LIGHT, reached_on_import
from training import TrainingConfig
from training.checkpoints.run_directory import RunDirectory
from training.engines.results import UpdateResult
from training.errors import UserError
from training.loop.callbacks import Callback, RunView
from training.loop.trainer import Trainer
from training.loop.weight_snapshots import (
    LARGEST_BY_DEFAULT,
    snapshot_bytes,
    snapshot_files,
    snapshot_limit,
    snapshot_path,
    snapshot_stride,
)
from training.machine.ranks import Ranks
from training.record.reporter import read_report
from training.tasks.objective import ModuleObjective

ROWS = [{"x": torch.tensor([n / 10.0, 1.0]), "y": torch.tensor(n / 5.0)} for n in range(20)]
"""In batches of five: four updates an epoch."""


def squared_error(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    loss: torch.Tensor = ((model(batch["x"]).squeeze(1) - batch["y"]) ** 2).sum()
    return loss


TASK = ModuleObjective(model=lambda: nn.Linear(2, 1), loss=squared_error)


def settings(run_dir: Path, snapshots: int | None, epochs: int = 3, save_steps: int | None = None) -> TrainingConfig:
    return TrainingConfig.from_dict({
        "run": {"run_dir": run_dir, "epochs": epochs, "batch_size": 5},
        "optimizer": {"learning_rate": 0.02},
        "schedule": {"schedule": "constant"},
        "checkpoint": {"save_interval": None, "save_steps": save_steps, "snapshots": snapshots},
    })  # fmt: skip


def train(config: TrainingConfig, callbacks: Sequence[Callback] = (), **arguments: Any) -> Trainer:
    device = None if "ranks" in arguments else "cpu"
    trainer = Trainer(config, ROWS, objective=TASK, device=device, callbacks=callbacks, **arguments)
    trainer.train()
    return trainer


class Weights(Callback):
    """The weights after each update."""

    def __init__(self) -> None:
        self.at: dict[int, torch.Tensor] = {}

    def on_run_start(self, trainer: RunView) -> None:
        self._note(trainer)

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        self._note(trainer)

    def _note(self, trainer: RunView) -> None:
        self.at[trainer.step] = trainer.engine.model().get_parameter("weight").detach().clone()


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        if trainer.step == self._step:
            trainer.stop()


def kept(run_dir: Path) -> list[int]:
    return [step for step, _ in snapshot_files(run_dir)]


def path_of(run_dir: Path) -> dict[str, bytes]:
    """Every byte of it."""
    return {path.name: path.read_bytes() for path in (run_dir / "snapshots").iterdir()}


# -- which ones ----------------------------------------------------------------------------------------------------


@given(limit=st.integers(1, 300), total=st.integers(1, 10**9))
def test_a_run_of_any_length_keeps_no_more_than_asked_for_and_more_than_half_of_it(limit: int, total: int) -> None:
    stride = snapshot_stride(limit, total)
    count = total // stride + 1
    assert count <= limit
    assert stride & (stride - 1) == 0, "a power of two, so that a longer run keeps every second"
    if total + 1 >= limit:
        assert count > limit // 2
    else:
        assert stride == 1


@given(limit=st.integers(1, 300), total=st.integers(1, 10**7), more=st.integers(0, 10**7))
def test_a_run_that_is_made_longer_has_kept_what_it_will_need(limit: int, total: int, more: int) -> None:
    assert snapshot_stride(limit, total + more) % snapshot_stride(limit, total) == 0


def test_large_models_keep_none_unless_asked_to(tmp_path: Path) -> None:
    by_default = settings(tmp_path, None)
    assert snapshot_limit(by_default, LARGEST_BY_DEFAULT) == 64
    assert snapshot_limit(by_default, LARGEST_BY_DEFAULT + 1) == 0
    assert snapshot_limit(settings(tmp_path, 10), 10**9) == 10
    assert snapshot_limit(settings(tmp_path, 0), 1000) == 0
    assert snapshot_bytes(by_default, total_steps=100, num_parameters=1000) == 51 * 2000
    assert snapshot_bytes(settings(tmp_path, 0), total_steps=100, num_parameters=1000) == 0


def test_they_can_be_listed_without_torch() -> None:
    assert reached_on_import("training.loop.weight_snapshots").isdisjoint(LIGHT)


def test_a_run_keeps_its_weights_rounded_to_bf16_at_even_distances(tmp_path: Path) -> None:
    weights = Weights()
    train(settings(tmp_path / "run", 4), callbacks=[weights])
    files = snapshot_files(tmp_path / "run")
    assert [step for step, _ in files] == [0, 4, 8, 12]
    for step, path in files:
        saved = load_file(path)
        assert saved.keys() == {"weight", "bias"}
        assert torch.equal(saved["weight"], weights.at[step].bfloat16())


def test_a_run_that_asks_for_none_writes_none(tmp_path: Path) -> None:
    train(settings(tmp_path / "run", 0))
    assert not (tmp_path / "run" / "snapshots").exists()


# -- the run does not notice ---------------------------------------------------------------------------------------


def test_the_curve_and_its_hash_are_the_same_with_and_without(tmp_path: Path) -> None:
    one, other = settings(tmp_path / "one", 64), settings(tmp_path / "other", 0)
    assert one.curve_hash() == other.curve_hash()
    first, second = train(one).engine.model(), train(other).engine.model()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_disk_that_refuses_a_snapshot_is_told_once_and_costs_the_run_nothing(tmp_path: Path) -> None:
    train(settings(tmp_path / "run", 0, epochs=1))
    (tmp_path / "run" / "snapshots").write_text("a file where the folder should be")
    assert train(settings(tmp_path / "run", 64), resume=True).step == 12
    report = read_report(tmp_path / "run")
    assert report is not None
    assert report["state"] == "finished"
    (warning,) = report["warnings"]
    assert "snapshot could not be written" in warning["message"]
    assert "the run goes on" in warning["message"]


def test_all_ranks_take_part_and_rank_0_alone_writes(tmp_path: Path) -> None:
    asked: list[int] = []

    class Asked(Callback):
        on_every_rank = True

        def on_run_start(self, trainer: RunView) -> None:
            model = trainer.engine.model

            def noted() -> nn.Module:
                asked.append(trainer.step)
                return model()

            trainer.engine.model = noted  # type: ignore[method-assign]

    # A rank that is not the main one, alone: what it must not do is seen without other processes.
    train(settings(tmp_path / "run", 4), ranks=Ranks(torch.device("cpu"), rank=1), callbacks=[Asked()])
    assert asked[:3] == [4, 8, 12], "gathering the weights is collective where they are spread over the ranks"
    assert not (tmp_path / "run" / "snapshots").exists()


# -- kills, resumes, other lengths ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", [3, 4, 6, 9])
def test_a_run_that_was_stopped_and_resumed_has_the_same_path(tmp_path: Path, stop_at: int) -> None:
    train(settings(tmp_path / "straight", 7))
    train(settings(tmp_path / "run", 7), callbacks=[StopAt(stop_at)])
    train(settings(tmp_path / "run", 7), resume=True)
    assert kept(tmp_path / "run") == [0, 2, 4, 6, 8, 10, 12]
    assert path_of(tmp_path / "run") == path_of(tmp_path / "straight")


def test_what_was_trained_after_the_checkpoint_is_done_again_and_its_snapshots_with_it(tmp_path: Path) -> None:
    train(settings(tmp_path / "straight", 64))
    run_dir = tmp_path / "run"
    train(settings(run_dir, 64, save_steps=5), callbacks=[StopAt(9)])
    assert kept(run_dir) == list(range(10))
    # As a kill at step 9 leaves it: checkpoint 5, later snapshots, half of another.
    snapshot_path(run_dir, 9).write_bytes(b"of weights that never come again")
    (run_dir / "snapshots" / ".step_000000010.safetensors.tmp").write_bytes(b"half")

    class Look(Callback):
        def on_run_start(self, trainer: RunView) -> None:
            assert trainer.step == 5
            assert kept(run_dir) == list(range(6))

    train(settings(run_dir, 64), resume=True, resume_from=run_dir / "checkpoint_step_5", callbacks=[Look()])
    assert path_of(run_dir) == path_of(tmp_path / "straight")


def test_a_run_that_is_made_longer_thins_its_path_out(tmp_path: Path) -> None:
    train(settings(tmp_path / "run", 7, epochs=3))
    assert kept(tmp_path / "run") == [0, 2, 4, 6, 8, 10, 12]
    train(settings(tmp_path / "run", 7, epochs=6), resume=True)
    assert kept(tmp_path / "run") == [0, 4, 8, 12, 16, 20, 24]


def test_overwriting_a_run_deletes_its_path_and_what_was_measured_along_it(tmp_path: Path) -> None:
    train(settings(tmp_path / "run", 64))
    (tmp_path / "run" / "landscape").mkdir()
    (tmp_path / "run" / "landscape" / "surface_0.json").write_text(json.dumps({}))
    RunDirectory(tmp_path / "run", overwrite=True).release()
    assert not (tmp_path / "run" / "snapshots").exists()
    assert not (tmp_path / "run" / "landscape").exists()


def test_a_new_run_does_not_touch_a_directory_of_that_name_that_no_run_left(tmp_path: Path) -> None:
    mine = snapshot_path(tmp_path / "run", 4)
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"of another program")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="it holds snapshots and no run, so that is your own"):
            train(settings(tmp_path / "run", 64, epochs=1), overwrite=overwrite)
    assert mine.read_bytes() == b"of another program"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["snapshots"]


def test_a_link_is_never_followed_to_where_snapshots_would_be_deleted(tmp_path: Path) -> None:
    train(settings(tmp_path / "run", 0, epochs=1))
    mine = tmp_path / "mine" / "step_000000004.safetensors"
    mine.parent.mkdir()
    mine.write_bytes(b"of another program")
    (tmp_path / "run" / "snapshots").symlink_to(mine.parent)
    with pytest.raises(UserError, match=f"snapshots in it is a link to {mine.parent}"):
        train(settings(tmp_path / "run", 64), resume=True)
    train(settings(tmp_path / "run", 64), overwrite=True)
    assert not (tmp_path / "run" / "snapshots").is_symlink()
    assert [path.read_bytes() for path in mine.parent.iterdir()] == [b"of another program"]
