"""The optimizers' state is saved by the parameters' names, without hyper-parameters, and fits any order of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from training.engines.optimizers import OptimizerSet, build_optimizers
from training.models.protocol import BaseFamily
from training.settings.tree import OptimizerConfig

CPU = torch.device("cpu")


def make(optimizer: str = "muon", **settings: Any) -> tuple[nn.Module, OptimizerSet]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 6, bias=False))
    config = OptimizerConfig.model_validate({"optimizer": optimizer, **settings})
    return model, build_optimizers(model, BaseFamily().parameter_groups(model), config, CPU)


def train(model: nn.Module, optimizers: OptimizerSet, steps: int = 2) -> None:
    for step in range(steps):
        optimizers.set_learning_rate(0.01)
        model(torch.tensor([step, 3])).square().sum().backward()
        for optimizer in optimizers.optimizers.values():
            optimizer.step()
        optimizers.zero_grad()


def test_the_state_is_keyed_by_parameter_names_and_holds_no_hyper_parameters() -> None:
    model, optimizers = make()
    assert optimizers.state_dict() == {"muon": {}, "adamw": {}}
    train(model, optimizers)
    state = optimizers.state_dict()
    assert set(state["muon"]) == {"1.weight", "3.weight"}
    assert set(state["adamw"]) == {"0.weight", "1.bias", "2.weight", "2.bias"}
    assert set(state["adamw"]["0.weight"]) == {"step", "exp_avg", "exp_avg_sq"}
    assert set(state["muon"]["1.weight"]) == {"momentum_buffer"}
    assert state["adamw"]["0.weight"]["exp_avg"].shape == (5, 4)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_loaded_state_goes_on_bit_for_bit_and_shares_nothing_with_what_it_was_loaded_from(optimizer: str) -> None:
    model, optimizers = make(optimizer)
    train(model, optimizers)
    again, loaded = make(optimizer)
    again.load_state_dict(model.state_dict())
    state = optimizers.state_dict()
    loaded.load_state_dict(state)
    before = {n: {k: v.clone() for k, v in s.items()} for n, s in state["adamw"].items()}
    train(again, loaded)
    for name, of_parameter in before.items():
        for key, value in of_parameter.items():
            assert torch.equal(state["adamw"][name][key], value), "the state it came from did not move"
    train(model, optimizers)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_hyper_parameters_come_from_the_config_and_not_from_the_state() -> None:
    model, optimizers = make("adamw", weight_decay=0.5)
    train(model, optimizers)
    _, other = make("adamw", weight_decay=0.25, adam_beta1=0.5)
    other.load_state_dict(optimizers.state_dict())
    group = other.optimizers["adamw"].param_groups[0]
    assert (group["weight_decay"], group["betas"][0]) == (0.25, 0.5)


def test_the_state_fits_parameters_in_another_order_and_grouping() -> None:
    model, optimizers = make("adamw")
    train(model, optimizers)
    again, _ = make("adamw")
    parameters = dict(again.named_parameters())
    groups = [{"params": [parameters[name]]} for name in reversed(parameters)]
    other = OptimizerSet({"adamw": torch.optim.AdamW(groups)}, parameters.items())
    other.load_state_dict(optimizers.state_dict())
    for name, of_parameter in optimizers.state_dict()["adamw"].items():
        for key, value in of_parameter.items():
            assert torch.equal(other.state_dict()["adamw"][name][key], value)


def state_of(shape: tuple[int, ...]) -> dict[str, Tensor]:
    return {"step": torch.tensor(1.0), "exp_avg": torch.zeros(shape), "exp_avg_sq": torch.zeros(shape)}


@pytest.mark.parametrize(
    ("saved", "told"),
    [
        ({"adamw": {}}, "a state of adamw, the optimizer here is adamw and muon"),
        ({"adamw": {}, "muon": {}, "lion": {}}, "lion"),
        ({"adamw": {"7.weight": state_of((6,))}, "muon": {}}, r"a state for 7\.weight"),
        (
            {"adamw": {"1.bias": state_of((5,))}, "muon": {}},
            r"of 1\.bias has the shape \(5,\), the parameter has \(6,\)",
        ),
    ],
)
def test_a_state_of_another_optimizer_or_model_is_refused_with_the_reason(saved: dict[str, Any], told: str) -> None:
    _, optimizers = make()
    with pytest.raises(ValueError, match=told):
        optimizers.load_state_dict(saved)
