"""An evaluation of a loss with random draws: the same figure for the same weights, and no trace in training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training import TrainingConfig
from training.engines.evaluation import evaluate_with
from training.engines.torch_engine import TorchEngine
from training.loop.callbacks import Callback, RunView
from training.loop.trainer import Trainer
from training.machine.ranks import Ranks
from training.tasks.objective import Batch, LossSum, ModuleObjective

CPU = torch.device("cpu")
ROWS = [{"x": torch.tensor([n / 10.0, 1.0])} for n in range(20)]


def denoising(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Summed error of the noise that was put on the samples, as a diffusion model learns it."""
    noise = torch.randn_like(batch["x"])
    loss: Tensor = (model(batch["x"] + noise) - noise).square().sum()
    return loss


OBJECTIVE = ModuleObjective(lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), denoising)


def config_of(run_dir: Path, learning_rate: float = 0.02) -> TrainingConfig:
    return TrainingConfig.from_dict({
        "run": {"run_dir": run_dir, "epochs": 3, "batch_size": 6},
        "optimizer": {"learning_rate": learning_rate, "weight_decay": 0.0},
        "schedule": {"schedule": "constant", "min_lr": 0.0},
        "checkpoint": {"save_interval": None},
    })  # fmt: skip


def losses_of(run_dir: Path) -> list[float]:
    events = [json.loads(line) for line in (run_dir / "progress.jsonl").read_text(encoding="utf-8").splitlines()]
    return [event["loss"] for event in events if event["event"] == "eval"]


def test_three_evaluations_of_the_same_weights_give_one_figure(tmp_path: Path) -> None:
    trainer = Trainer(config_of(tmp_path / "run"), ROWS, ROWS[:7], objective=OBJECTIVE, device="cpu")
    figures = [trainer.evaluate(epoch) for epoch in (1, 2, 3)]
    trainer.reporter.flush()
    trainer.close()
    assert figures[0] is not None
    assert figures[0] == figures[1] == figures[2]
    assert len(set(losses_of(tmp_path / "run"))) == 1
    with torch.no_grad():
        trainer.engine.model().get_parameter("0.weight").add_(0.5)
    changed = trainer.evaluate(4)
    assert changed is not None
    assert changed.loss != figures[0].loss


def test_the_figures_of_a_run_whose_weights_hardly_move_stay_where_they_were(tmp_path: Path) -> None:
    Trainer(config_of(tmp_path / "run", 1e-12), ROWS, ROWS[:7], objective=OBJECTIVE, device="cpu").train()
    losses = losses_of(tmp_path / "run")
    assert len(losses) == 3
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


class Draws(Callback):
    """The weights after each update, and evaluations in between where they are asked for."""

    def __init__(self, evaluate: bool) -> None:
        self._evaluate = evaluate
        self.weights: list[Tensor] = []

    def on_step(self, trainer: RunView, result: object) -> None:
        self.weights.append(trainer.engine.model().get_parameter("0.weight").detach().clone())
        if self._evaluate:
            assert isinstance(trainer, Trainer)
            trainer.evaluate(1)


def test_training_draws_what_it_would_have_drawn_without_evaluations(tmp_path: Path) -> None:
    with_some, without = Draws(evaluate=True), Draws(evaluate=False)
    Trainer(
        config_of(tmp_path / "with"), ROWS, ROWS[:7], objective=OBJECTIVE, device="cpu", callbacks=[with_some]
    ).train()
    Trainer(config_of(tmp_path / "without"), ROWS, objective=OBJECTIVE, device="cpu", callbacks=[without]).train()
    assert len(with_some.weights) == len(without.weights) == 12
    assert all(torch.equal(a, b) for a, b in zip(with_some.weights, without.weights, strict=True))


def test_an_evaluation_has_draws_of_its_own_and_no_training_batch_s(tmp_path: Path) -> None:
    seen: dict[bool, set[int]] = {True: set(), False: set()}

    def noted(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        seen[model.training].add(torch.initial_seed())
        return denoising(model, batch)

    objective = ModuleObjective(lambda: nn.Linear(2, 2), noted)
    Trainer(config_of(tmp_path / "run"), ROWS, ROWS[:7], objective=objective, device="cpu").train()
    assert len(seen[True]) == 12, "each of the updates draws anew"
    assert len(seen[False]) == 2, "each batch of the evaluation, the same at every epoch"
    assert seen[True].isdisjoint(seen[False])


def test_the_figures_are_means_over_the_weight_and_a_batch_without_weight_counts_for_nothing() -> None:
    def batch(value: float, weight: int) -> Batch:
        return Batch({"x": torch.full((2,), value)}, weight, tokens=0, num_samples=2)

    def forward(of: Batch) -> LossSum:
        return LossSum(of.tensors["x"].sum() * of.weight, {"error": of.tensors["x"].sum()})

    result = evaluate_with(forward, [batch(1.0, 3), batch(5.0, 1), batch(100.0, 0)], Ranks(CPU))
    assert result.weight == 4
    assert result.loss == pytest.approx((2.0 * 3 + 10.0 * 1) / 4)
    assert result.metrics == {"error": pytest.approx((2.0 + 10.0) / 4)}


def test_an_engine_evaluates_in_evaluation_mode_and_without_gradients() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    engine = TorchEngine(model, TrainingConfig(), Ranks(CPU))
    grads: list[bool] = []

    def loss(module: nn.Module, batch: Batch) -> LossSum:
        found = OBJECTIVE.loss(module, batch)
        grads.append(found.loss.requires_grad or module.training)
        return found

    engine.evaluate([OBJECTIVE.collate(ROWS[:4])], loss)
    assert grads == [False]
