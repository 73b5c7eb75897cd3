"""A `Trainer` made in Python: every setting has its effect or is refused in one line, before anything is written."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from apt_model.model import APT
from apt_model.tokenizer import DynamicTagTokenizer
from tests.support.hub_stand_in import HubStandIn, hub_stand_in, pretend
from tests.support.tracked_runs import SLOW, machine_of_its_own, scalars
from training import Trainer, TrainingConfig, config_class
from training.backends.registry import BACKENDS
from training.errors import ConfigError, UserError
from training.loop.callbacks import Callback
from training.settings.declarations import leaves
from training.settings.section import Section
from training.tasks.hlbd.files import Sample
from training.tasks.hlbd.task import prepared_from_samples
from training.tasks.metrics import ACCURACY
from training.tasks.objective import ModuleObjective

ROWS = [{"x": torch.tensor([n / 10.0, 1.0]), "y": torch.tensor(n / 5.0)} for n in range(20)]


def line() -> nn.Module:
    return nn.Linear(2, 1)


def sum_of(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    loss: torch.Tensor = ((model(batch["x"])[:, 0] - batch["y"]) ** 2).sum()
    return loss


OBJECTIVE = ModuleObjective(line, sum_of)
SAMPLES = [Sample(f"{n}加{n}", str(2 * n), "arithmetic", n) for n in range(12)]
TOKENIZER = DynamicTagTokenizer.from_texts(text for sample in SAMPLES for text in sample[:2])
TINY = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16, "max_seq_len": 32}

ELSEWHERE = {
    "backend": "deepspeed",
    "launch.num_processes": 2,
    "launch.num_gpus": 2,
    "launch.nnodes": 2,
    "launch.rdzv_endpoint": "10.0.0.1:29500",
    "launch.rdzv_id": "mine",
}
"""Settings of other processes and places, which a trainer in this process cannot honour."""
OF_A_TASK = {
    "task": "text",
    "model.model": "mine:Net",
    "model.d_model": 64,
    "model.attention": "standard",
    "data.datasets": ["x.json"],
    "data.pairs": "full",
    "data.loss_on": "all",
    "data.label_smoothing": 0.1,
    "data.truncate": True,
    "data.validation_split": 0.1,
    "report.answer_samples": 5,
}
"""Settings that only a task or its model family reads: with the caller's own module and data they have no effect."""
BY_THE_TASK = {"data.datasets", "data.pairs", "data.validation_split"}
"""Settings that `HLBDTask.prepare` reads; the example in docs/PYTHON_API.md is run."""
OF_MLFLOW = {"track.mlflow_tracking_uri", "track.mlflow_experiment"}
"""Settings that the runs of tests/training/tracking/test_mlflow.py have, which are trainers made in Python too."""


def config_of(settings: dict[str, Any], run_dir: Path, tree: type[TrainingConfig] = TrainingConfig) -> TrainingConfig:
    return tree.from_dict({"run_dir": run_dir, "epochs": 1, "batch_size": 6, **settings})


@pytest.mark.parametrize("key", [*ELSEWHERE, *OF_A_TASK])
def test_a_setting_without_effect_is_refused_in_one_line(key: str, tmp_path: Path) -> None:
    settings = {key: {**ELSEWHERE, **OF_A_TASK}[key]}
    # Another family's name is refused where the settings are read: its settings would be others.
    told = "settings of the model family apt, and mine:Net is named" if key == "model.model" else f"{key} = "
    with pytest.raises(ConfigError, match=re.escape(told)) as refused:
        Trainer(config_of(settings, tmp_path / "run"), ROWS, objective=OBJECTIVE, device="cpu")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_options_of_the_command_line_s_backend_are_refused(tmp_path: Path) -> None:
    tree = config_class(BACKENDS.load("playground"))
    config = config_of({"playground": {"compile": True}}, tmp_path / "run", tree)
    with pytest.raises(ConfigError, match=r"playground\.compile = True: .*make_engine"):
        Trainer(config, ROWS, objective=OBJECTIVE, device="cpu")


def test_patience_needs_validation_data_from_whatever_source(tmp_path: Path) -> None:
    config = config_of({"early_stopping_patience": 2}, tmp_path / "run")
    config.validate()
    with pytest.raises(ConfigError, match=r"needs validation data; .* in Python give a val_dataset"):
        Trainer(config, ROWS, objective=OBJECTIVE, device="cpu")
    Trainer(config, ROWS, ROWS[:4], objective=OBJECTIVE, device="cpu").train()


@pytest.mark.parametrize("name", ["wandb", "mlflow", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.tracking.choice.is_installed", lambda module: False)
    with pytest.raises(ConfigError, match=rf"--track {name}: .* is not installed; run: pip install"):
        Trainer(config_of({"track": name}, tmp_path / "run"), ROWS, objective=OBJECTIVE, device="cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": {"batch_size": 8}}, "config is a dict; make a TrainingConfig by TrainingConfig.from_dict"),
        ({"train_dataset": []}, "train_dataset holds no samples"),
        ({"train_dataset": iter(ROWS)}, "train_dataset is a list_iterator; a dataset has a length and items"),
        ({"train_dataset": None}, "train_dataset is a NoneType"),
        ({"val_dataset": ()}, "val_dataset holds no samples"),
        (
            {"objective": nn.Linear(2, 1)},
            "objective is a Linear; give an objective, such as Module",
        ),
        ({"objective": ModuleObjective}, "objective is the class ModuleObjective; give an objective"),
        ({"family": "apt"}, "family is a str; give a model family"),
        (
            {"callbacks": [Callback(), Callback]},
            "callbacks[1] is the class Callback; give an object",
        ),
        ({"callbacks": Callback()}, "callbacks is a Callback; give a list"),
        ({"sinks": [print]}, "sinks[0] is a builtin_function_or_method; give an object with a method event"),
        (
            {"train_dataset": [{"x": torch.zeros(2)}, {"x": torch.zeros(3)}]},
            "the samples cannot be stacked (",
        ),
        ({"train_dataset": [None] * 4}, "the samples cannot be stacked (default_collate: batch must contain tensors"),
        (
            {"train_dataset": [1, 2]},
            "a batch is a Tensor and not named tensors; make each",
        ),
        ({"resume_from": 5}, "resume_from 5: is a int; give a path"),
        ({"device": "gpu"}, "device = 'gpu': no such device"),
        ({"resume_from": "nowhere/checkpoint_step_5"}, "nowhere/checkpoint_step_5: no such checkpoint"),
    ],
)
def test_an_argument_that_is_no_good_is_refused_in_one_line(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    good: dict[str, Any] = {
        "config": config_of({}, tmp_path / "run"),
        "train_dataset": ROWS,
        "objective": OBJECTIVE,
        "device": "cpu",
    }
    with pytest.raises(UserError, match=re.escape(message)) as refused:
        Trainer(**good | arguments).train()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("model", "loss", "message"),
    [
        (nn.Linear(2, 1), sum_of, "model is a Linear; give a function that builds the module"),
        (None, sum_of, "model is a NoneType; give a function"),
        (line, None, "loss is a NoneType; give a function"),
        (lambda: None, sum_of, "model() returned a NoneType; it should build and return an nn.Module"),
        (lambda: nn.LazyLinear(1), sum_of, "model() returned a module with lazy parameters"),
        (nn.ReLU, sum_of, "model() returned a module without a parameter that is trained"),
        (
            line,
            lambda m, b: m(b["x"]),
            "loss() returned a Tensor of shape (",
        ),
        (line, lambda m, b: sum_of(m, b).item(), "loss() returned a float; it should be a tensor with one number"),
        (line, lambda m, b: sum_of(m, b).detach(), "loss() returned a tensor without a gradient"),
        (
            line,
            lambda m, b: (sum_of(m, b), {}),
            "loss() returned no tensor for metric 'accuracy'; return (loss, {'accu",
        ),
        (line, lambda m, b: (sum_of(m, b), {"accuracy": 1}), "loss() returned no tensor for metric 'accuracy'"),
        (line, lambda m, b: (sum_of(m, b),), "loss() returned a tuple; it should be a tensor with one number"),
    ],
)
def test_a_function_that_gives_something_else_is_named_in_one_line(
    model: Any, loss: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as refused:
        Trainer(
            config_of({}, tmp_path / "run"),
            ROWS,
            objective=ModuleObjective(model, loss, metrics=[ACCURACY]),
            device="cpu",
        ).train()
    assert "\n" not in str(refused.value)


# -- all settings, counted ------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[tuple[type, str]]]:
    """Record which settings a run reads, and leave out what only looks whether they are allowed."""
    looking_only = {"validate", "refuse_patience", "_changed", "fault", "curve_hash", "<genexpr>"}
    found: set[tuple[type, str]] = set()

    def read(section: Section, name: str) -> Any:
        if name in type(section).model_fields and sys._getframe(1).f_code.co_name not in looking_only:
            found.add((type(section), name))
        return object.__getattribute__(section, name)

    with monkeypatch.context() as patch:
        patch.setattr(Section, "__getattribute__", read, raising=False)
        yield found


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    with hub_stand_in() as running:
        pretend(monkeypatch, running, tmp_path / "no-login")
        yield running


class TestEverySetting:
    pytestmark = SLOW

    def test_has_its_effect_or_is_refused(self, tmp_path: Path, hub: HubStandIn, reads: set[tuple[type, str]]) -> None:
        """Train with each optimizer, stabilizer, schedule and tracker, and push: the settings that were read."""
        everything = {
            "track": "wandb,tensorboard", "wandb_mode": "offline", "push_to_hub": "ada/from-python",
            "private": True, "fingerprints": True,
        }  # fmt: skip
        plain = {"schedule": "warm_restarts", "load_best_model_at_end": True, "early_stopping_patience": 3}
        other = {"optimizer": "muon", "stabilizer": "dbc_dac", "schedule": "cosine", "keep_last": 1, "epochs": 2}
        with machine_of_its_own(tmp_path, "http://127.0.0.1:1"):
            for name, settings in {"one": plain | everything, "two": other}.items():
                config = config_of({**TINY, "save_steps": 1, "warmup_steps": 1, **settings}, tmp_path / name)
                prepared = prepared_from_samples(config, TOKENIZER, SAMPLES, SAMPLES[:3])
                trainer = Trainer.of(prepared, device="cpu", progress=False)
                trainer.train()
        network = cast(APT, trainer.engine.model()).config.model_dump()
        assert network.items() <= trainer.config.model.model_dump().items(), "APT takes its whole section at once"
        assert "model.safetensors" in hub.repositories["ada/from-python"].files
        assert hub.repositories["ada/from-python"].private
        assert [step for step, _ in scalars(tmp_path / "one", "train/loss")] == [1, 2]
        assert list((tmp_path / "one" / "wandb").glob("offline-run-*/*.wandb"))
        read = {name for section, name in reads} | network.keys()
        settings_of_python = [key for key, _ in leaves(TrainingConfig)]
        unread = {key for key in settings_of_python if key.rpartition(".")[2] not in read}
        assert unread - BY_THE_TASK - OF_MLFLOW <= ELSEWHERE.keys(), "a setting that nothing reads must be refused"
