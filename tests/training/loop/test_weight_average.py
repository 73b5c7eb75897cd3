"""The moving average of the weights: its formula, its place in checkpoints and results, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from training import TrainingConfig
from training.backends.placement import Placement
from training.backends.prepare import choose, prepare
from training.checkpoints.averaged_weights import CALLBACK, evaluated_weights
from training.checkpoints.checkpoint import load_checkpoint
from training.engines.results import UpdateResult
from training.errors import CheckpointError, ConfigError
from training.forecast.measured_cost import MeasuredCost
from training.forecast.memory import checkpoint_bytes, rank_memory
from training.loop.callbacks import Callback, RunView
from training.loop.trainer import Trainer, named
from training.loop.weight_average import WeightAverage, decay_after
from training.models.cost import BatchShape
from training.models.protocol import BaseFamily
from training.record.reporter import LOG_NAME, read_events
from training.settings.layers import Layer
from training.tasks.objective import ModuleObjective

ROWS = [{"x": torch.tensor([n / 10.0, 1.0]), "y": torch.tensor(n / 5.0)} for n in range(20)]
"""In batches of five: four updates an epoch."""
DECAY = 0.6


class Network(nn.Module):
    """A network with a frozen part, a buffer that training moves, and one weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2, affine=False)
        self.frozen = nn.Linear(2, 2)
        self.frozen.requires_grad_(False)
        self.inner, self.head = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.head.weight = self.inner.weight

    def forward(self, rows: Tensor) -> Tensor:
        hidden: Tensor = self.head(torch.tanh(self.inner(self.frozen(self.norm(rows)))))
        return hidden.sum(1)


def squared_error(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    loss: Tensor = ((model(batch["x"]) - batch["y"]) ** 2).sum()
    return loss


OBJECTIVE = ModuleObjective(Network, squared_error)


def config_of(run_dir: Path, decay: float | None = DECAY, **checkpoint: Any) -> TrainingConfig:
    return TrainingConfig.from_dict({
        "run": {"run_dir": run_dir, "epochs": 3, "batch_size": 5},
        "optimizer": {"learning_rate": 0.05, "ema_decay": decay},
        "schedule": {"schedule": "constant"},
        "checkpoint": {"save_interval": None, "snapshots": 0, **checkpoint},
    })  # fmt: skip


def train(config: TrainingConfig, *callbacks: Callback, rows: Sequence[Any] = ROWS, **arguments: Any) -> Trainer:
    trainer = Trainer(config, rows, ROWS, objective=OBJECTIVE, device="cpu", callbacks=callbacks, **arguments)
    trainer.train()
    return trainer


def average_in(path: Path) -> dict[str, Tensor]:
    return load_file(path / "average.safetensors")


def events(run_dir: Path, name: str) -> list[dict[str, Any]]:
    return [event for event in read_events(run_dir / LOG_NAME) if event["event"] == name]


class Seen(Callback):
    """The trained weight, and whether it was moved, after each update."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []
        self.skipped: list[bool] = []

    def on_run_start(self, trainer: RunView) -> None:
        self.weights.append(trainer.engine.model().get_parameter("inner.weight").detach().clone())

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        self.weights.append(trainer.engine.model().get_parameter("inner.weight").detach().clone())
        self.skipped.append(result.skipped)

    def average(self) -> Tensor:
        """Return the average of what was seen, in float64."""
        average, updates = self.weights[0].double(), 0
        for weight, skipped in zip(self.weights[1:], self.skipped, strict=True):
            if not skipped:
                updates += 1
                decay = decay_after(updates, DECAY)
                average = decay * average + (1 - decay) * weight.double()
        return average


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        if trainer.step == self._step:
            trainer.stop()


# -- the average ---------------------------------------------------------------------------------------------------


@given(decay=st.floats(0.01, 0.99999), updates=st.integers(1, 10**6))
def test_the_decay_rises_to_the_setting_and_never_over_it(decay: float, updates: int) -> None:
    now, later = decay_after(updates, decay), decay_after(updates + 1, decay)
    assert 0 < now <= later <= decay


def test_it_is_the_average_of_the_formula_and_a_skipped_update_does_not_move_it(tmp_path: Path) -> None:
    bad = [*ROWS[:7], {"x": ROWS[7]["x"], "y": torch.tensor(float("inf"))}, *ROWS[8:]]
    seen = Seen()
    train(config_of(tmp_path), seen, rows=bad)
    assert 0 < sum(seen.skipped) < len(seen.skipped)
    found = average_in(tmp_path / "checkpoint_epoch_3")
    assert found.keys() == {"inner.weight"}, "only what is trained, and a tied weight once in the file"
    torch.testing.assert_close(found["inner.weight"].double(), seen.average(), rtol=1e-6, atol=1e-7)
    state = load_checkpoint(tmp_path / "checkpoint_epoch_3")["loop"]["callbacks"][CALLBACK]
    assert state["updates"] == seen.skipped.count(False)


def test_the_curve_of_the_training_is_the_one_without_an_average(tmp_path: Path) -> None:
    for name, decay in (("with", DECAY), ("without", None)):
        train(config_of(tmp_path / name, decay))
    kept, plain = (events(tmp_path / name, "step") for name in ("with", "without"))
    assert [(e["loss"], e["grad_norm"]) for e in kept] == [(e["loss"], e["grad_norm"]) for e in plain]
    measured, other = (events(tmp_path / name, "eval") for name in ("with", "without"))
    assert measured[0]["loss"] != other[0]["loss"]


# -- in checkpoints ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", [1, 5, 8])
def test_it_survives_a_stop_to_the_last_bit(stop_at: int, tmp_path: Path) -> None:
    train(config_of(tmp_path / "straight"))
    train(config_of(tmp_path / "run"), StopAt(stop_at))
    train(config_of(tmp_path / "run"), resume=True)
    one, other = (average_in(tmp_path / name / "checkpoint_epoch_3") for name in ("straight", "run"))
    assert torch.equal(one["inner.weight"], other["inner.weight"])
    kept, whole = (events(tmp_path / name, "eval") for name in ("run", "straight"))
    assert [e["loss"] for e in kept] == [e["loss"] for e in whole]


def test_the_name_that_readers_of_checkpoints_know_is_the_callbacks(tmp_path: Path) -> None:
    assert [name for name, _ in named([WeightAverage(Network(), 0.9)])] == [CALLBACK]


def test_a_run_without_an_average_does_not_go_on_with_one(tmp_path: Path) -> None:
    train(config_of(tmp_path, None), StopAt(5))
    with pytest.raises(CheckpointError, match=r"ema_decay was None in the run and is 0\.6 now"):
        train(config_of(tmp_path), resume=True)


def test_the_average_of_another_network_is_refused() -> None:
    average, other = WeightAverage(Network(), 0.9), WeightAverage(nn.Linear(2, 2), 0.9)
    with pytest.raises(ValueError, match="the model has other trained weights"):
        average.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match=r"weight has the shape \(2, 2\), here \(3, 2\)"):
        WeightAverage(nn.Linear(2, 3), 0.9).load_state_dict(other.state_dict())


# -- in the results ------------------------------------------------------------------------------------------------


def loss_of(weights: dict[str, Tensor]) -> float:
    network = Network().eval()
    network.load_state_dict(weights)
    with torch.no_grad():
        return sum(float(squared_error(network, {k: v[None] for k, v in row.items()})) for row in ROWS) / len(ROWS)


def test_validation_and_the_best_and_the_final_model_are_those_of_the_average(tmp_path: Path) -> None:
    train(config_of(tmp_path, keep_best=True, load_best_model_at_end=True, save_interval=1))
    for event in events(tmp_path, "eval"):
        payload = load_checkpoint(tmp_path / f"checkpoint_epoch_{event['epoch']}")
        assert loss_of(evaluated_weights(payload)) == pytest.approx(event["loss"], rel=1e-5)
        assert loss_of(payload["engine"]["model"]) != pytest.approx(event["loss"], rel=1e-5)
    best = load_checkpoint(tmp_path / "checkpoint_best")
    final = load_file(tmp_path / "final_model" / "model.safetensors")
    assert loss_of(evaluated_weights(best)) == pytest.approx(min(e["loss"] for e in events(tmp_path, "eval")), rel=1e-5)
    assert all(torch.equal(tensor, evaluated_weights(best)[name]) for name, tensor in final.items())


def test_it_shares_frozen_weights_and_has_the_present_buffers(tmp_path: Path) -> None:
    trainer = train(config_of(tmp_path))
    model, averaged = trainer.engine.model(), trainer.evaluated_model()
    assert averaged.get_parameter("frozen.weight") is model.get_parameter("frozen.weight")
    assert torch.equal(averaged.get_buffer("norm.running_mean"), model.get_buffer("norm.running_mean"))
    assert averaged.get_parameter("head.weight") is averaged.get_parameter("inner.weight")
    assert averaged.get_parameter("inner.weight") is not model.get_parameter("inner.weight")
    assert not averaged.training


# -- before the start ----------------------------------------------------------------------------------------------


def test_weights_that_are_spread_over_the_ranks_are_refused_with_the_way_out(tmp_path: Path) -> None:
    refusal = (
        r"cannot do ema_decay .* ZeRO 3 spreads the weights over the ranks.* use --zero-stage 2, or --ema-decay none"
    )
    settings = {"optimizer.ema_decay": 0.99, "deepspeed.zero_stage": 3, "deepspeed.device": "cpu"}
    with pytest.raises(ConfigError, match=refusal):
        prepare(choose(backend="deepspeed"), [Layer("mine", settings)])
    config = prepare(choose(backend="deepspeed"), [Layer("mine", {**settings, "deepspeed.zero_stage": 1})])
    wider = [flags for _, flags in config.backend.wider_layouts(config.request.config)]  # type: ignore[attr-defined]
    assert wider == [" --zero-stage 2", " --zero-stage 2 --cpu-offload"], "what fits is no stage that is refused"

    file = tmp_path / "zero3.json"
    file.write_text('{"zero_optimization": {"stage": 3}}', encoding="utf-8")
    mine = {"optimizer.ema_decay": 0.99, "huggingface.deepspeed": str(file), "huggingface.device": "cpu"}
    with pytest.raises(
        ConfigError, match=r"ZeRO 3 spreads the weights over the ranks.* give a DeepSpeed file of ZeRO 1"
    ):
        prepare(choose(backend="huggingface"), [Layer("mine", mine)])


def test_a_module_that_cannot_be_copied_is_refused() -> None:
    network = Network()
    network.source = (row for row in ROWS)  # type: ignore[assignment]
    with pytest.raises(
        ConfigError, match=r"ema_decay = 0\.9: this module cannot be copied .*generator.*; leave it out"
    ):
        WeightAverage(network, 0.9)


def test_forecasts_know_the_copy(tmp_path: Path) -> None:
    plain = ModuleObjective(lambda: nn.Linear(2, 2, bias=False), lambda model, batch: (model(batch["x"]) ** 2).sum())
    cost = MeasuredCost(plain, BaseFamily(), ROWS, range(5))
    with_it, without = config_of(tmp_path), config_of(tmp_path, None)
    place, batch = Placement.of_launch(without.launch, "cpu"), BatchShape(5, 1, 5)
    needs = [rank_memory(config, cost, batch, 1, "cpu", place) for config in (with_it, without)]
    trained = 2 * 2 * 4
    assert (needs[0].average, needs[1].average, needs[0].peak - needs[1].peak) == (trained, 0, trained)
    assert checkpoint_bytes(with_it, cost, place) - checkpoint_bytes(without, cost, place) == trained
