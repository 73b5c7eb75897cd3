"""Closed forms of a run's sizes, held against what is really built, kept and saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apt_model.config import ModelConfig
from apt_model.model import APT
from tests.support.small_apts import language_modeling
from training import TrainingConfig
from training.backends.placement import Placement
from training.engines.optimizers import build_optimizers
from training.engines.torch_engine import TorchEngine
from training.forecast.memory import checkpoint_bytes, optimizer_bytes
from training.machine.ranks import Ranks
from training.models.apt.cost import APTCost, activations, count_parameters, parameter_shapes
from training.models.apt.family import APTFamily
from training.models.apt.options import APTOptions
from training.models.cost import BatchShape, count, elements
from training.record.reporter import read_report
from training.settings.tree import OptimizerConfig
from training.tasks.objective import Batch

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import FrontDoor, TinyDataset


@st.composite
def model_configs(draw: st.DrawFn) -> ModelConfig:
    heads = draw(st.integers(1, 4))
    return ModelConfig(
        d_model=heads * 2 * draw(st.integers(1, 8)),
        num_heads=heads,
        num_layers=draw(st.integers(1, 3)),
        d_ff=draw(st.integers(1, 40)),
        max_seq_len=draw(st.integers(4, 64)),
        dropout=draw(st.sampled_from([0.0, 0.1])),
        attention=draw(st.sampled_from(["autopoietic", "standard"])),
        tie_embeddings=draw(st.booleans()),
        vocab_size=draw(st.integers(1, 60)),
    )


@given(model_configs())
@settings(max_examples=60, deadline=None)
def test_every_parameter_is_known_by_name_and_shape_without_building_the_model(config: ModelConfig) -> None:
    built = APT(config)
    assert dict(parameter_shapes(config)) == {name: tuple(p.shape) for name, p in built.named_parameters()}
    counts = count_parameters(config)
    assert counts.total == built.num_parameters()
    optimizers = build_optimizers(
        built, APTFamily().parameter_groups(built), OptimizerConfig(optimizer="muon"), torch.device("cpu")
    ).optimizers
    trained_by_muon = sum(p.numel() for group in optimizers["muon"].param_groups for p in group["params"])
    assert counts.hidden == trained_by_muon
    cost = APTCost(config)
    assert count(cost) == counts.total
    assert sum(elements(cost.shapes[name]) for name in cost.matrices) == trained_by_muon


def kept_by_autograd(config: ModelConfig, batch: BatchShape, half: bool) -> int:
    """Bytes of all storages that a forward pass keeps for its backward pass, parameters and buffers left out."""
    model = APT(config)
    task = language_modeling(config)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    sizes: dict[int, int] = {}
    alive: list[torch.Tensor] = []  # a storage that were freed could give its address to the next

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    tensors = {
        "tokens": torch.randint(0, config.vocab_size or 1, (batch.samples, batch.width)),
        "positions": torch.randperm(batch.padded_tokens)[: batch.positions].sort().values,
        "targets": torch.randint(0, config.vocab_size or 1, (batch.positions,)),
    }
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        task.loss(model, Batch(tensors, batch.positions, batch.padded_tokens, batch.samples))
    inputs = {tensor.untyped_storage().data_ptr() for tensor in tensors.values()}
    whole_batch = sum(tensor.untyped_storage().nbytes() for tensor in tensors.values())
    return sum(size for place, size in sizes.items() if place not in inputs) + whole_batch


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
@given(config=model_configs(), samples=st.integers(2, 5), width=st.integers(2, 20), each=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_activations_are_known_to_the_byte(
    config: ModelConfig, half: bool, samples: int, width: int, each: int
) -> None:
    width = min(width, config.max_seq_len)
    batch = BatchShape(samples, width, samples * min(each, width))
    expected = activations(config, batch, half=half, on_cuda=False).kept(config.num_layers)
    assert expected == kept_by_autograd(config, batch, half)


@pytest.mark.parametrize(
    "settings_of_optimizer",
    [{}, {"optimizer": "muon"}, {"stabilizer": "dbc_dac", "dbc_rank": 8}],
    ids=["adamw", "muon", "stabilizer"],
)
def test_the_state_of_the_optimizer_is_known_to_the_byte(settings_of_optimizer: dict[str, Any]) -> None:
    config = TrainingConfig(
        model=APTOptions(d_model=32, num_layers=2, num_heads=4, d_ff=48, vocab_size=30),
        optimizer=OptimizerConfig(**settings_of_optimizer),
    )
    task = language_modeling(config.model.network())
    engine = TorchEngine(task.build_model(), config, Ranks(torch.device("cpu")), APTFamily())
    tensors = {
        "tokens": torch.randint(0, 30, (2, 6)),
        "positions": torch.tensor([3, 4, 9]),
        "targets": torch.tensor([1, 2, 3]),
    }
    engine.update([Batch(tensors, 3, 12, 2)], task.loss, 1e-3, 3)
    state = engine.state_dict()
    saved = dict(named_tensors({key: state.get(key, {}) for key in ("optimizers", "stabilizer")}))
    # AdamW's count of its own steps and the generator of the stabilizer's first bases do not grow with the model.
    counted = {name: tensor for name, tensor in saved.items() if not name.endswith(("/step", "/generator"))}
    assert sum(tensor.nbytes for tensor in counted.values()) == optimizer_bytes(config, APTCost(config.model.network()))


def named_tensors(tree: Any, path: str = "") -> list[tuple[str, torch.Tensor]]:
    if isinstance(tree, torch.Tensor):
        return [(path, tree)]
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    return [found for key, inner in items for found in named_tensors(inner, f"{path}/{key}")]


def test_a_checkpoint_is_as_large_as_expected(front_door: FrontDoor, tiny_dataset: TinyDataset, tmp_path: Path) -> None:
    flags = ["--d-model", "128", "--num-layers", "2", "--d-ff", "256", "--batch-size", "4", "--device", "cpu"]
    more: list[str | Path] = [
        "--max-steps",
        "1",
        "--answer-samples",
        "0",
        "--datasets",
        tiny_dataset(),
        "--run-dir",
        tmp_path / "run",
    ]
    assert front_door([*flags, *more]).exit_code == 0
    report = read_report(tmp_path / "run")
    assert report is not None
    size = report["checkpoints"][-1]["bytes"]
    config = TrainingConfig(
        model=APTOptions(d_model=128, num_layers=2, d_ff=256, vocab_size=report["vocab_size"]),
    )
    cost = APTCost(config.model.network())
    assert size == pytest.approx(checkpoint_bytes(config, cost, Placement()), rel=0.01)
