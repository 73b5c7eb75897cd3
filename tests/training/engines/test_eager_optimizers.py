"""Optimizers without torch's compiler: updates and states of torch's own, and a whole run that does not import it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from training.engines.eager_optimizers import EagerAdamW, EagerMuon

if TYPE_CHECKING:
    from tests.conftest import FrontDoor, TinyDataset

KINDS: dict[str, tuple[Callable[..., torch.optim.Optimizer], type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adamw": (torch.optim.AdamW, EagerAdamW, {"lr": 1e-2, "weight_decay": 0.1, "betas": (0.9, 0.95)}),
    "fused adamw": (torch.optim.AdamW, EagerAdamW, {"lr": 1e-2, "weight_decay": 0.1, "fused": True}),
    "muon": (torch.optim.Muon, EagerMuon, {"lr": 1e-2, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}),
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6, bias=False), nn.Tanh(), nn.Linear(6, 3, bias=False))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(step))
        torch.autograd.backward(model(inputs).square().sum())
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("kind", KINDS)
def test_updates_and_states_are_those_of_torch(kind: str) -> None:
    theirs, ours, settings = KINDS[kind]
    models = network(), network()
    groups = [[{"params": [one]} for one in model.parameters()] for model in models]
    optimizers = theirs(groups[0], **settings), ours(groups[1], **settings)
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer, range(3))
        state = optimizer.state_dict()
        train(model, optimizer, range(3, 5))
        optimizer.load_state_dict(state)
        train(model, optimizer, range(5, 7))
    states = [optimizer.state_dict() for optimizer in optimizers]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    for index, expected in states[0]["state"].items():
        found = states[1]["state"][index]
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.grad is other.grad is None


def test_an_update_is_no_part_of_the_graph_and_hooks_are_called() -> None:
    model = network()
    optimizer = EagerAdamW(model.parameters(), lr=1e-2)
    called: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    optimizer.register_step_post_hook(lambda *_: called.append("after"))
    train(model, optimizer, range(1))
    assert called == ["before", "after"]
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_from_its_start_to_its_resumption_imports_no_compiler(
    optimizer: str,
    front_door: FrontDoor,
    tiny_dataset: TinyDataset,
    tiny_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # to import it is an error now
    words: list[str | Path] = [*tiny_flags, "--datasets", tiny_dataset(), "--run-dir", tmp_path / "run"]
    words += ["--optimizer", optimizer]
    for more in (["--max-steps", "3"], ["--max-steps", "6", "--resume"]):
        done = front_door([*words, *more])
        assert done.exit_code == 0, done.stderr
