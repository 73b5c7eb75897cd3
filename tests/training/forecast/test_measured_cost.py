"""Costs measured on fake tensors, held against APT's closed form; and networks that do not run on such tensors."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from apt_model.config import ModelConfig
from tests.conftest import Train
from tests.support.language_data import tiny_model, topics_file
from tests.support.small_apts import language_modeling
from training.backends.placement import Placement
from training.backends.prepare import config_class
from training.backends.registry import BACKENDS
from training.errors import ConfigError
from training.forecast.dry_run import dry_run_lines
from training.forecast.estimate import estimate
from training.forecast.measured_cost import MeasuredCost, cost_of
from training.forecast.memory import checkpoint_bytes, optimizer_bytes
from training.models.apt.cost import APTCost
from training.models.apt.family import APTFamily
from training.models.cost import BatchShape, count
from training.models.protocol import BaseFamily
from training.settings.tree import TrainingConfig
from training.tasks.objective import Batch, ModuleObjective
from training.tasks.protocol import BaseTask, Prepared
from training.tasks.text.task import TextTask
from training.tasks.token_dataset import TokenDataset

# -- against the closed form ---------------------------------------------------------------------------------------


def measured_apt(config: ModelConfig, samples: int, width: int, each: int) -> MeasuredCost:
    """The cost of an APT, measured on samples that are all of one length."""
    tokens = np.arange(width + 1, dtype=np.int32) % (config.vocab_size or 1)
    dataset = TokenDataset([tokens] * samples, [width + 1 - each] * samples)
    return MeasuredCost(language_modeling(config), APTFamily(), dataset, list(range(samples)))


SHAPES: list[tuple[dict[str, Any], tuple[int, int, int]]] = [
    ({"d_model": 32, "num_layers": 2, "num_heads": 2, "d_ff": 64, "vocab_size": 50}, (4, 20, 5)),
    ({"d_model": 64, "num_layers": 3, "num_heads": 4, "d_ff": 128, "vocab_size": 300, "dropout": 0.1}, (8, 48, 48)),
    ({"d_model": 64, "num_layers": 1, "num_heads": 2, "d_ff": 96, "vocab_size": 900, "attention": "standard",
      "tie_embeddings": False}, (8, 16, 15)),
]  # fmt: skip
"""(shape of the network, (samples, width, positions of each))."""


@pytest.mark.parametrize(("shape", "batch"), SHAPES, ids=["small", "dropout", "wide vocabulary"])
def test_a_measured_apt_costs_what_its_closed_form_says(shape: dict[str, Any], batch: tuple[int, int, int]) -> None:
    config = ModelConfig.model_validate({"max_seq_len": 64, **shape})
    samples, width, each = batch
    measured, form = measured_apt(config, *batch), APTCost(config)
    assert measured.shapes == form.shapes
    assert count(measured) == count(form)
    assert (measured.matrices, measured.buffers) == (form.matrices, form.buffers)
    of = BatchShape(samples, width, samples * each)

    def peaks(half: bool, checkpointing: bool) -> tuple[int, int]:
        found, expected = (
            cost.pass_bytes(of, half=half, on_cuda=False, checkpointing=checkpointing).peak for cost in (measured, form)
        )
        return found, expected

    # The closed form adds up what is kept and the largest gradient, which are not all there at one instant: it is never
    # below what is measured, and at most a fifth above. With recomputation it leaves room for a second block.
    for half in (False, True):
        found, expected = peaks(half, checkpointing=False)
        assert 0.8 * expected <= found <= 1.001 * expected
    found, expected = peaks(half=False, checkpointing=True)
    assert 0.6 * expected <= found <= 1.001 * expected
    if config.num_layers > 1:
        assert found < peaks(half=False, checkpointing=False)[0]
    # Dropout's noise and attention's masked half are counted by one of the two alone.
    assert measured.work(of) == pytest.approx(form.work(of), rel=0.1)


def test_more_samples_cost_more_memory_and_work() -> None:
    config = ModelConfig(d_model=16, num_layers=1, num_heads=2, d_ff=24, vocab_size=20, max_seq_len=16)
    measured = measured_apt(config, 4, 8, 3)

    def peak(samples: int) -> int:
        shape = BatchShape(samples, 8, 3 * samples)
        return measured.pass_bytes(shape, half=False, on_cuda=False, checkpointing=False).peak

    assert peak(1) < peak(2) < peak(4)
    assert measured.work(BatchShape(4, 8, 12)) == 4 * measured.work(BatchShape(1, 8, 3))


def test_fake_tensors_are_counted_as_real_ones_are() -> None:
    objective = ModuleObjective(Noisy, squared_error)
    shape = BatchShape(4, 1, 4)
    peaks = [
        MeasuredCost(objective, BaseFamily(), ROWS, [0, 1], fake)
        .pass_bytes(shape, half=False, on_cuda=False, checkpointing=False)
        .peak
        for fake in (True, False)
    ]
    assert peaks[0] == peaks[1] > 4 * 64 * 4


# -- any other module ----------------------------------------------------------------------------------------------

ROWS = [{"x": torch.full((3,), float(n)), "y": torch.tensor(float(n))} for n in range(8)]


class Noisy(nn.Module):
    """A network that draws random numbers when it is built and when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 64), nn.Dropout(0.5), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x + torch.randn_like(x))
        return found


class Looking(Noisy):
    """A network whose own code looks at values."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if float(x.sum()) > 0.0 else super().forward(-x)


def squared_error(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    loss: Tensor = (model(batch["x"]).squeeze(1) - batch["y"]).square().sum()
    return loss


def test_a_module_whose_forward_pass_looks_at_values_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"cannot be computed without training .*; --estimate measures") as told:
        MeasuredCost(ModuleObjective(Looking, squared_error), BaseFamily(), ROWS, [0, 1])
    assert "\n" not in str(told.value)


class Drawing(ModuleObjective):
    """An objective whose collation draws from all generators, as augmentation does."""

    def collate(self, samples: Any) -> Batch:
        shift = random.random() + np.random.rand()
        return super().collate([{**sample, "x": sample["x"] + shift} for sample in samples])


@pytest.mark.parametrize("build", [Noisy, Looking], ids=["measured", "refused"])
def test_nothing_is_drawn_from_the_caller_s_generators(build: Callable[[], nn.Module]) -> None:
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    before = random.getstate(), str(np.random.get_state()), torch.get_rng_state()
    try:
        cost = MeasuredCost(Drawing(build, squared_error), BaseFamily(), ROWS, [0, 1])
        cost.pass_bytes(BatchShape(2, 1, 2), half=True, on_cuda=False, checkpointing=False)
    except ConfigError:
        assert build is Looking
    after = random.getstate(), str(np.random.get_state()), torch.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


# -- in a forecast -------------------------------------------------------------------------------------------------


class LookingFamily(BaseFamily):
    """Family of `Looking`."""

    name: ClassVar[str] = "looking"
    inputs: ClassVar[str] = "vectors"

    def build(self, options: Any, vocabulary: int | None) -> nn.Module:
        return Looking()


class NoisyFamily(LookingFamily):
    """Family of `Noisy`."""

    name: ClassVar[str] = "noisy"

    def build(self, options: Any, vocabulary: int | None) -> nn.Module:
        return Noisy()


class Doubling(BaseTask):
    """Regression on eight rows."""

    name: ClassVar[str] = "doubling"
    inputs: ClassVar[str] = "vectors"

    def prepare(self, config: TrainingConfig) -> Prepared:
        family = (NoisyFamily if config.model.model.endswith("NoisyFamily") else LookingFamily)()
        objective = ModuleObjective(lambda: family.build(config.model, None), squared_error)
        return Prepared(config, family, objective, ROWS)


def config_of(family: type[BaseFamily], run_dir: Path) -> TrainingConfig:
    task, model = f"{__name__}:Doubling", f"{__name__}:{family.__name__}"
    made = config_class(BACKENDS.load("playground"), task=task, model=model)
    return made.from_dict({"run": {"run_dir": run_dir, "batch_size": 4}, "playground": {"device": "cpu"}})


def test_a_dry_run_measures_any_module(tmp_path: Path) -> None:
    lines = list(dry_run_lines(config_of(NoisyFamily, tmp_path / "run")))
    assert "data: 8 samples per epoch" in lines
    assert "parameters: 321" in lines
    assert any(line.startswith("memory of each rank: about ") and "4 samples" in line for line in lines)


def test_a_dry_run_says_what_it_cannot_measure_and_tells_the_rest(tmp_path: Path) -> None:
    lines = list(dry_run_lines(config_of(LookingFamily, tmp_path / "run")))
    assert "data: 8 samples per epoch" in lines
    assert lines[-1].startswith("the model's memory cannot be computed without training it")


def test_an_estimate_measures_what_a_dry_run_cannot(tmp_path: Path) -> None:
    found = estimate(config_of(LookingFamily, tmp_path / "run"))
    assert count(found.cost) == 321
    assert found.peak_bytes > 0
    assert found.update_seconds > 0.0
    assert found.computed.activations > 4 * 64 * 4


# -- a transformers model ----------------------------------------------------------------------------------------------

LORA: list[tuple[dict[str, Any], int]] = [({}, 14_848), ({"lora_modules_to_save": ["embed_tokens"]}, 14_848 + 400 * 32)]
"""(options of LoRA on the tiny model, parameters that are trained)."""


@pytest.mark.slow
@pytest.mark.parametrize(("options", "trained"), LORA, ids=["adapters", "a module that is copied"])
def test_an_adapter_is_counted_apart_from_its_base(options: dict[str, Any], trained: int) -> None:
    made = config_class(BACKENDS.load("playground"), task="text", model="huggingface")
    config = made.from_dict({
        "model": {"base_model": str(tiny_model()), "lora": True, "max_seq_len": 32, **options},
        "data": {"datasets": [str(topics_file())]},
        "run": {"batch_size": 2},
        "playground": {"device": "cpu"},
    })  # fmt: skip
    prepared = TextTask().prepare(config)
    cost = cost_of(prepared)
    real = prepared.objective.build_model()
    assert cost.shapes == {name: tuple(parameter.shape) for name, parameter in real.named_parameters()}
    assert cost.frozen == cost.unsaved
    assert count(cost, cost.frozen) == trained == sum(p.numel() for p in real.parameters() if p.requires_grad)
    assert optimizer_bytes(config, cost) == 8 * trained
    assert checkpoint_bytes(config, cost, Placement()) == 12 * trained
    assert cost.pass_bytes(BatchShape(2, 31, 62), half=False, on_cuda=False, checkpointing=False).peak > 0
    assert "__deepcopy__" not in vars(FakeTensor), "torch is as it was"


@pytest.mark.slow
def test_a_dry_run_of_an_adapter_ends_well(train: Train) -> None:
    """The process has to end by itself: copies of fake tensors once damaged its memory."""
    words: list[str | Path] = ["--task", "text", "--datasets", topics_file(), "--model", tiny_model(), "--lora"]
    done = train([*words, "--max-seq-len", "32", "--lora-modules-to-save", "embed_tokens", "--dry-run"])
    assert done.returncode == 0, done.stderr
    assert "# parameters: 55,968, 27,648 of them trained\n" in done.stdout
