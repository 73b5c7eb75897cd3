"""Layers of settings: which source wins, and who is named for a value."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from training.backends.prepare import config_class
from training.backends.registry import BACKENDS
from training.errors import ConfigError
from training.settings.layers import FLAGS, Layer, resolve

if TYPE_CHECKING:
    from tests.conftest import FrontDoor

CONFIG = config_class(BACKENDS.load("playground"))


def test_a_later_layer_wins_and_is_named_for_what_it_set() -> None:
    layers = [
        Layer("one", {"run.epochs": 1, "run.batch_size": 2, "data.pairs": "full"}),
        Layer("two", {"run.epochs": 3}),
        Layer("one", {"run.batch_size": 4}),
        Layer(FLAGS, {"run.seed": 5}),
    ]
    resolved = resolve(CONFIG, layers)
    run = resolved.config.run
    assert (run.epochs, run.batch_size, run.seed, resolved.config.data.pairs) == (3, 4, 5, "full")
    assert resolved.origins == {
        "run.epochs": "two", "run.batch_size": "one", "run.seed": "--seed", "data.pairs": "one",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="--explain epochz: no such setting; did you mean 'epochs'"):
        resolved.explain("epochz")


def test_a_wrong_value_is_refused_with_the_layer_that_set_it() -> None:
    with pytest.raises(ConfigError, match=re.escape("epochs = 0 (from two): input should be greater than or equal")):
        resolve(CONFIG, [Layer("one", {"run.epochs": 1}), Layer("two", {"run.epochs": 0})])
    with pytest.raises(ConfigError, match=r"d_model = 'wide' \(from --d-model\): should be a whole number"):
        resolve(CONFIG, [Layer(FLAGS, {"model.d_model": "wide"})])


def test_each_layer_lies_over_the_one_before_and_explain_names_it(front_door: FrontDoor, tmp_path: Path) -> None:
    run, path = tmp_path / "run", tmp_path / "config.yaml"
    run.mkdir()
    (run / "config.yaml").write_text("run: {epochs: 7}\n", encoding="utf-8")
    path.write_text("epochs: 8\n", encoding="utf-8")

    def source(word: str, *args: str | Path) -> tuple[str, str]:
        told = front_door([*args, "--explain", word])
        assert told.exit_code == 0, told.stderr
        found = re.fullmatch(r"\S+ = (.*)\n.*\n  set by   (.*)\n  default.*\n  type.*\n  flag.*\n", told.stdout)
        assert found, told.stdout
        return found[1], found[2]

    assert source("d_model") == ("256", "the default")
    assert source("epochs") == ("100", "preset playground")
    assert source("epochs", "--resume", run) == ("7", f"the resumed run ({run})")
    assert source("epochs", "--resume", run, "--config", path) == ("8", str(path))
    assert source("epochs", "--resume", run, "--config", path, "--epochs", "9") == ("9", "--epochs")
    assert source("epochs", "--config", path) == ("8", str(path))


def test_the_run_that_is_resumed_says_where_it_is_whatever_it_was_called(front_door: FrontDoor, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("run: {run_dir: where/it/was}\nbackend: deepspeed\n", encoding="utf-8")
    (tmp_path / "checkpoint_epoch_1").mkdir()
    (tmp_path / "checkpoint_epoch_1" / "manifest.json").write_text("{}", encoding="utf-8")
    shown = front_door(["--resume", tmp_path / "checkpoint_epoch_1.pt", "--dry-run"])
    resolved = yaml.safe_load(shown.stdout)
    assert resolved["run"]["run_dir"] == str(tmp_path)
    assert resolved["backend"] == "playground", "another backend may go on with the run"


def test_explain_understands_every_spelling(front_door: FrontDoor) -> None:
    spellings = ["num_heads", "num-heads", "model.num_heads", "n_heads", "n-heads"]
    told = {front_door(["--explain", word]).stdout for word in spellings}
    assert len(told) == 1
    assert "flag     --num-heads --n-heads\n" in told.pop()


def test_none_is_none_on_the_command_line_and_null_in_yaml(front_door: FrontDoor, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("save_interval: null\nmax_grad_norm: ~\n", encoding="utf-8")
    for args in (["--save-interval", "none", "--max-grad-norm", "None"], ["--config", path]):
        resolved = yaml.safe_load(front_door([*args, "--dry-run"]).stdout)
        assert resolved["checkpoint"]["save_interval"] is None
        assert resolved["optimizer"]["max_grad_norm"] is None
