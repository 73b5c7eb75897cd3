"""State of callbacks in checkpoints, and what the record of a task without tokens and metrics holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from training import TrainingConfig
from training.checkpoints.checkpoint import load_checkpoint
from training.engines.results import UpdateResult
from training.loop.callbacks import Callback, RunView
from training.loop.trainer import Trainer, named
from training.record import terminal
from training.tasks.objective import ModuleObjective

ROWS = [{"x": torch.tensor([n / 10.0, 1.0]), "y": torch.tensor(n / 5.0)} for n in range(20)]
"""In batches of six: four updates an epoch."""


def squared_error(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    loss: Tensor = ((model(batch["x"]).squeeze(1) - batch["y"]) ** 2).sum()
    return loss


OBJECTIVE = ModuleObjective(lambda: nn.Linear(2, 1), squared_error)


def config_of(run_dir: Path) -> TrainingConfig:
    return TrainingConfig.from_dict({
        "run": {"run_dir": run_dir, "epochs": 3, "batch_size": 6},
        "optimizer": {"learning_rate": 0.02},
        "report": {"report_batches": 1},
    })  # fmt: skip


class Average(Callback):
    """A running average of the weights, whose state is tensors and a number."""

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self.weights: dict[str, Tensor] = {}
        self.count = 0

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        self.count += 1
        for name, parameter in trainer.engine.model().named_parameters():
            now = parameter.detach().clone()
            before = self.weights.get(name, now)
            self.weights[name] = self._decay * before + (1.0 - self._decay) * now

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weights, self.count = dict(state["weights"]), state["count"]


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        if trainer.step == self._step:
            trainer.stop()


def train(run_dir: Path, *callbacks: Callback, **arguments: Any) -> Trainer:
    trainer = Trainer(config_of(run_dir), ROWS, objective=OBJECTIVE, device="cpu", callbacks=callbacks, **arguments)
    trainer.train()
    return trainer


# -- state ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", [1, 5, 8])
def test_an_average_of_the_weights_survives_a_stop_to_the_last_bit(stop_at: int, tmp_path: Path) -> None:
    straight, first, second = Average(0.9), Average(0.9), Average(0.9)
    train(tmp_path / "straight", straight)
    train(tmp_path / "run", first, StopAt(stop_at))
    assert first.count == stop_at
    train(tmp_path / "run", second, resume=True)
    assert second.count == straight.count == 12
    assert second.weights.keys() == straight.weights.keys() == {"weight", "bias"}
    assert all(torch.equal(second.weights[name], tensor) for name, tensor in straight.weights.items())


def test_two_callbacks_of_one_class_keep_their_states_apart(tmp_path: Path) -> None:
    straight = Average(0.5), Average(0.99)
    train(tmp_path / "straight", *straight)
    train(tmp_path / "run", Average(0.5), StopAt(5), Average(0.99))
    resumed = Average(0.5), Average(0.99)
    train(tmp_path / "run", *resumed, resume=True)
    for one, other in zip(resumed, straight, strict=True):
        assert all(torch.equal(one.weights[name], tensor) for name, tensor in other.weights.items())
    assert not torch.equal(resumed[0].weights["weight"], resumed[1].weights["weight"])
    assert [name.rpartition(".")[2] for name, _ in named(resumed)] == ["Average", "Average#2"]


def test_the_state_is_asked_for_after_the_update_that_the_checkpoint_follows(tmp_path: Path) -> None:
    trainer = train(tmp_path / "run", Average(0.9), StopAt(5))
    checkpoint = load_checkpoint(trainer.directory.path / "checkpoint_step_5")
    (state,) = checkpoint["loop"]["callbacks"].values()
    assert state["count"] == checkpoint["step"] == 5


def test_a_callback_without_state_is_in_no_checkpoint_and_a_new_one_starts_fresh(tmp_path: Path) -> None:
    trainer = train(tmp_path / "run", StopAt(5))
    assert load_checkpoint(trainer.directory.path / "checkpoint_step_5")["loop"]["callbacks"] == {}
    late = Average(0.9)
    train(tmp_path / "run", late, resume=True)
    assert late.count == 12 - 5


# -- the record of a regression ------------------------------------------------------------------------------------


def words_of(value: Any) -> Iterator[str]:
    """Every key and every text in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from words_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from words_of(inner)


@pytest.mark.parametrize("is_terminal", [True, False], ids=["bar", "lines"])
def test_a_regression_reports_nothing_that_nobody_measured(
    is_terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(terminal, "terminal_size", lambda: None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    run_dir = tmp_path / "run"
    train(run_dir, val_dataset=ROWS[:5], sinks=[terminal.Terminal()])
    shown = capsys.readouterr()
    events = [json.loads(line) for line in (run_dir / "progress.jsonl").read_text(encoding="utf-8").splitlines()]
    report = json.loads((run_dir / "experiment_report.json").read_text(encoding="utf-8"))
    assert "Loss " in (shown.err if is_terminal else shown.out)
    assert "validation loss" in shown.out
    told = [*words_of(events), *words_of(report), shown.out, shown.err]
    for figure in ("accuracy", "perplexity", "token", "PPL", "Acc"):
        assert [text for text in told if figure in text] == []
    steps = [event for event in events if event["event"] == "step"]
    assert [step["samples"] for step in steps] == [6, 6, 6, 2] * 3
    assert all(step["samples_per_second"] > 0 for step in steps)
    assert [step["loss_weight"] for step in steps] == [6, 6, 6, 2] * 3
    assert [epoch["samples"] for epoch in report["epochs"]] == [20, 20, 20]
    means = [sum(s["loss"] * s["samples"] for s in steps[start : start + 4]) / 20 for start in (0, 4, 8)]
    assert [epoch["loss"] for epoch in report["epochs"]] == pytest.approx(means), "weighted by the samples"
