"""Settings in YAML files: strict reading, nested and flat keys, what belongs to others."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from training import TrainingConfig
from training.backends.prepare import config_class
from training.backends.registry import BACKENDS
from training.errors import ConfigError, UserError
from training.settings.section import Section
from training.settings.yaml_files import find_config, flatten, nest, read_settings

CONFIG = config_class(BACKENDS.load("playground"))


def layer_of(text: str, tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path, CONFIG)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.0e-3", "0.001", ".001", "'1e-3'"])
def test_a_number_with_an_exponent_is_a_number(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"learning_rate: {text}\n", encoding="utf-8")
    assert TrainingConfig.from_yaml(path).optimizer.learning_rate == 0.001


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("d_model: 64\nd_model: 32\n", "'d_model'"),
        ("model:\n  d_model: 64\n  d_model: 32\n", "'d_model'"),
        ("model: {d_model: 64}\nmodel: {num_heads: 4}\n", "'model'"),
        ("model: {d_model: 64}\nd_model: 32\n", "'model.d_model'"),
        ("d_model: 64\nmodel.d_model: 32\n", "'model.d_model'"),
    ],
)
def test_a_setting_given_twice_is_refused(text: str, key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"config.yaml: .*{re.escape(key)} is given twice"):
        layer_of(text, tmp_path)


def test_a_word_that_names_a_section_and_a_setting_means_what_its_value_says(tmp_path: Path) -> None:
    assert layer_of("schedule: cosine\noptimizer: muon\n", tmp_path) == {
        "schedule.schedule": "cosine",
        "optimizer.optimizer": "muon",
    }
    assert layer_of("schedule: {schedule: cosine, min_lr: 0}\n", tmp_path) == {
        "schedule.schedule": "cosine",
        "schedule.min_lr": 0,
    }


def test_an_empty_file_and_a_byte_order_mark_are_no_fault(tmp_path: Path) -> None:
    assert layer_of("", tmp_path) == {}
    assert layer_of("# nothing but a comment\n", tmp_path) == {}
    assert layer_of("\ufeffd_model: 64\n", tmp_path) == {"model.d_model": 64}


@pytest.mark.parametrize(
    "text",
    [
        "base: &base {epochs: 3, seed: 7}\nrun:\n  <<: *base\n  seed: 8\n",
        "base: &base {epochs: 3, seed: 7}\n<<: *base\nseed: 8\n",
        "one: &one {epochs: 3}\ntwo: &two {seed: 8}\nrun: {<<: [*one, *two]}\n",
        "x: &x {epochs: 3}\nbase: &base {<<: *x, seed: 8}\nrun: *base\n",
    ],
)
def test_a_mapping_of_any_name_is_merged_into_settings(text: str, tmp_path: Path) -> None:
    assert layer_of(text, tmp_path) == {"run.epochs": 3, "run.seed": 8}


@pytest.mark.parametrize("kind", ["a directory", "a pipe", "/dev/zero", "too large"])
def test_only_a_regular_file_of_bounded_size_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "it.yaml"
    if kind == "a directory":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "too large":
        with path.open("wb") as file:
            file.truncate(5 * 2**30)  # takes no room on the disk
    else:
        path = Path(kind)
    with pytest.raises(UserError, match=r"Is a directory|not a regular file|more than the 1,048,576 bytes"):
        read_settings(path, CONFIG)
    if kind != "too large":
        with pytest.raises(ConfigError, match="not a regular file"):
            find_config(path)


def test_what_belongs_to_others_is_left_alone_or_named() -> None:
    several = {"deepspeed": {"zero_stage": 2}, "playground": {"num_threads": 2}, "epochs": 3}
    assert flatten(several, CONFIG, "it") == {"playground.num_threads": 2, "run.epochs": 3}
    with pytest.raises(ConfigError, match=r"it: unknown key 'zero_stage'; it belongs to --backend deepspeed \(with"):
        flatten({"zero_stage": 2}, CONFIG, "it")
    with pytest.raises(ConfigError, match="it: unknown key 'playgruond'"):
        flatten({"playgruond": {"num_threads": 2}}, CONFIG, "it")


def test_a_section_alone_can_be_read_by_its_declarations() -> None:
    """Nothing in the reading knows the whole tree."""

    class Inner(Section):
        depth: int = 3

    class Outer(Section):
        inner: Inner = Inner()
        depths: int = 4

    assert flatten({"depth": 5, "depths": 6}, Outer, "it") == {"inner.depth": 5, "depths": 6}
    assert flatten({"inner": {"depth": 5}}, Outer, "it") == {"inner.depth": 5}
    assert nest({"inner.depth": 5, "depths": 6}) == {"inner": {"depth": 5}, "depths": 6}
    with pytest.raises(ConfigError, match="it: unknown key 'deepth'; did you mean 'depth'"):
        flatten({"deepth": 5}, Outer, "it")
