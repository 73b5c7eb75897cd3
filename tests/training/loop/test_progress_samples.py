"""Samples while training: where they lie, what the record says of them, and that the training does not notice."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training import TrainingConfig
from training.engines.results import UpdateResult
from training.loop.callbacks import Callback, RunView
from training.loop.progress_samples import ProgressSamples, progress_samples
from training.loop.trainer import Trainer
from training.models.protocol import BaseFamily
from training.record.log import read_report
from training.record.reporter import LOG_NAME, read_events
from training.record.sample_pictures import pictures_in
from training.settings.tree import TrainingConfig as Settings
from training.storage.run_files import run_files
from training.tasks.objective import ModuleObjective
from training.tasks.protocol import BaseTask, Prepared

ROWS = [{"x": torch.tensor([n / 10.0, 1.0]), "y": torch.tensor(n / 5.0)} for n in range(20)]
"""In batches of five: four updates an epoch."""


def noisy_error(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    rows = nn.functional.dropout(batch["x"], 0.2, model.training)
    loss: Tensor = ((model(rows).squeeze(1) - batch["y"]) ** 2).sum()
    return loss


OBJECTIVE = ModuleObjective(lambda: nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1)), noisy_error)


class SketchTask(BaseTask):
    """Writes what it has drawn, and the weights that it was given, in the place of pictures."""

    name: ClassVar[str] = "sketch"
    names: ClassVar[tuple[str, ...]] = ("grid",)

    def __init__(self) -> None:
        self.modes: list[bool] = []
        self.models: list[nn.Module] = []

    def prepare(self, config: Settings) -> Prepared:
        return Prepared(config, BaseFamily(), OBJECTIVE, ROWS)

    def show(self, model: nn.Module, prepared: Prepared, seed: int) -> Mapping[str, bytes]:
        self.modes.append(model.training)
        self.models.append(model)
        weight = float(next(model.parameters()).detach().sum())
        drawn = (float(torch.rand(())), float(np.random.rand()), random.random())
        return {name: repr((name, seed, drawn, weight)).encode() for name in self.names}


class TwoSketches(SketchTask):
    names: ClassVar[tuple[str, ...]] = ("grid", "by_class")


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        if trainer.step == self._step:
            trainer.stop()


class Streams(Callback):
    """States of the global random streams at each end of an epoch."""

    def __init__(self) -> None:
        self.states: list[tuple[Any, ...]] = []

    def on_epoch(self, trainer: RunView, epoch: int) -> None:
        self.states.append(
            (
                torch.get_rng_state().tolist(),
                random.getstate(),
                np.random.get_state(legacy=False)["state"]["key"].tolist(),
            )
        )


def config_of(run_dir: Path, decay: float | None = None) -> TrainingConfig:
    return TrainingConfig.from_dict({
        "run": {"run_dir": run_dir, "epochs": 5, "batch_size": 5},
        "optimizer": {"learning_rate": 0.05, "ema_decay": decay},
        "checkpoint": {"save_interval": None, "save_steps": 3, "keep_last": None, "snapshots": 0},
    })  # fmt: skip


def sketches(config: Settings, task: SketchTask, interval: int) -> ProgressSamples:
    return ProgressSamples(task, task.prepare(config), interval)


def train(config: TrainingConfig, *callbacks: Callback, **arguments: Any) -> Trainer:
    trainer = Trainer(config, ROWS, objective=OBJECTIVE, device="cpu", callbacks=callbacks, **arguments)
    trainer.train()
    return trainer


def drawn(run_dir: Path, task: SketchTask | None = None, interval: int = 2, **arguments: Any) -> Trainer:
    config = config_of(run_dir)
    callbacks = arguments.pop("callbacks", ())
    return train(config, sketches(config, task or SketchTask(), interval), *callbacks, **arguments)


def files(run_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run_dir / "samples").iterdir())}


def events(run_dir: Path, name: str) -> list[dict[str, Any]]:
    return [event for event in read_events(run_dir / LOG_NAME) if event["event"] == name]


# -- files and record ----------------------------------------------------------------------------------------------


def test_every_second_epoch_and_the_end_have_a_picture_that_the_record_names(tmp_path: Path) -> None:
    drawn(tmp_path)
    assert list(files(tmp_path)) == ["step_000008.png", "step_000016.png", "step_000020.png"]
    named = [{"step": step, "files": [f"samples/step_{step:06d}.png"]} for step in (8, 16, 20)]
    assert [{"step": e["step"], "files": e["files"]} for e in events(tmp_path, "samples")] == named
    report = read_report(tmp_path)
    assert report is not None
    assert report["sample_files"] == named
    assert report["state"] == "finished"
    assert [picture.path(tmp_path).read_bytes() for picture in pictures_in(named)] == list(files(tmp_path).values())


def test_without_an_interval_only_the_end_is_drawn_and_with_each_epoch_it_is_drawn_once(tmp_path: Path) -> None:
    drawn(tmp_path / "end", interval=0)
    assert list(files(tmp_path / "end")) == ["step_000020.png"]
    task = SketchTask()
    drawn(tmp_path / "each", task, interval=1)
    assert list(files(tmp_path / "each")) == [f"step_{step:06d}.png" for step in (4, 8, 12, 16, 20)]
    assert len(task.models) == 5


def test_several_pictures_of_one_update_bear_their_names(tmp_path: Path) -> None:
    drawn(tmp_path, TwoSketches(), interval=0)
    assert list(files(tmp_path)) == ["step_000020_by_class.png", "step_000020_grid.png"]


def test_a_stopped_run_does_not_keep_its_user_waiting_for_a_picture(tmp_path: Path) -> None:
    drawn(tmp_path, interval=0, callbacks=(StopAt(5),))
    assert not (tmp_path / "samples").exists()


def test_a_task_that_shows_nothing_has_no_callback(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert progress_samples(Prepared(config, BaseFamily(), OBJECTIVE, ROWS)) == []


def test_the_pictures_are_among_what_overwriting_deletes() -> None:
    assert any(file.pattern == "samples" for file in run_files())


# -- resuming ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpoint", [6, 9])
def test_a_run_that_goes_on_from_an_earlier_step_draws_the_same_pictures_again(checkpoint: int, tmp_path: Path) -> None:
    drawn(tmp_path / "straight")
    drawn(tmp_path / "run", callbacks=(StopAt(17),))
    (tmp_path / "run" / "samples" / ".step_000016.png.tmp").write_bytes(b"the rest of a killed write")
    task = SketchTask()
    drawn(tmp_path / "run", task, resume_from=tmp_path / "run" / f"checkpoint_step_{checkpoint}")
    assert files(tmp_path / "run") == files(tmp_path / "straight")
    assert len(task.models) == (3 if checkpoint < 8 else 2), "what was drawn before the checkpoint stays"
    ours, theirs = (read_report(tmp_path / name) for name in ("run", "straight"))
    assert ours is not None
    assert theirs is not None
    assert ours["sample_files"] == theirs["sample_files"]


def test_a_finished_run_that_is_resumed_names_its_last_picture_once(tmp_path: Path) -> None:
    drawn(tmp_path)
    before = files(tmp_path)
    drawn(tmp_path, resume=True)
    report = read_report(tmp_path)
    assert report is not None
    assert [entry["step"] for entry in report["sample_files"]] == [8, 16, 20]
    assert files(tmp_path) == before


def test_a_new_run_in_the_directory_begins_without_pictures(tmp_path: Path) -> None:
    drawn(tmp_path)
    drawn(tmp_path, interval=0, overwrite=True)
    assert list(files(tmp_path)) == ["step_000020.png"]


# -- the training does not notice ----------------------------------------------------------------------------------


def test_curve_weights_and_random_streams_are_those_of_a_run_without_samples(tmp_path: Path) -> None:
    streams = Streams(), Streams()
    task = SketchTask()
    shown = drawn(tmp_path / "shown", task, interval=1, callbacks=(streams[0],))
    plain = train(config_of(tmp_path / "plain"), streams[1])
    curves = [[(e["loss"], e["grad_norm"]) for e in events(tmp_path / name, "step")] for name in ("shown", "plain")]
    assert curves[0] == curves[1]
    assert streams[0].states == streams[1].states
    for name, tensor in shown.engine.model().state_dict().items():
        assert torch.equal(tensor, plain.engine.model().state_dict()[name]), "also what batch norm has counted"
    assert task.modes == [False] * 5
    seeds = {content.split(b",")[1] for content in files(tmp_path / "shown").values()}
    assert len(seeds) == 1, "the same noise each time"


def test_with_an_average_of_the_weights_the_samples_are_its(tmp_path: Path) -> None:
    config, task = config_of(tmp_path, decay=0.5), SketchTask()
    trainer = train(config, sketches(config, task, 1))
    assert {id(model) for model in task.models} == {id(trainer.evaluated_model())}
    assert trainer.evaluated_model() is not trainer.engine.model()


def test_a_disk_that_refuses_costs_the_pictures_and_not_the_run(tmp_path: Path) -> None:
    tmp_path.mkdir(exist_ok=True)

    class Blocks(Callback):
        def on_run_start(self, trainer: RunView) -> None:
            (tmp_path / "samples").write_text("a file of the user's", encoding="utf-8")

    drawn(tmp_path, interval=1, callbacks=(Blocks(),))
    (warning,) = events(tmp_path, "warning")
    assert "the samples could not be written" in warning["message"]
    assert events(tmp_path, "samples") == []
    assert events(tmp_path, "run_finished")
