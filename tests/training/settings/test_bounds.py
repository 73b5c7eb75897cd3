"""Bounds of every numeric setting: finite on both sides, and refused beyond them in one line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from training.backends.prepare import config_class, task_for
from training.backends.registry import BACKENDS
from training.errors import ConfigError
from training.models.registry import MODELS
from training.settings.declarations import leaves, short_name
from training.settings.tree import TrainingConfig
from training.settings.yaml_files import nest
from training.tasks.registry import TASKS

if TYPE_CHECKING:
    from tests.conftest import FrontDoor

TREES: list[type[TrainingConfig]] = [
    *(config_class(BACKENDS.load(name)) for name in BACKENDS.built_in),
    *(config_class(task=name) for name in TASKS.built_in),
    *(config_class(task=task_for(name), model=name) for name in MODELS.built_in),
]


def numeric_settings() -> Iterator[tuple[type[TrainingConfig], str, FieldInfo]]:
    """Yield each setting of the whole project that is one number, with a tree that has it.

    Lists of numbers, such as a network's channels, have validators, which say what goes with the other settings.
    """
    seen: set[str] = set()
    for tree in TREES:
        for key, field in leaves(tree):
            if get_origin(field.annotation) is tuple:
                continue
            if key not in seen and {int, float} & set(get_args(field.annotation) or [field.annotation]):
                seen.add(key)
                yield tree, key, field


NUMBERS = {key: (tree, field) for tree, key, field in numeric_settings()}


def bound(field: FieldInfo, *kinds: Any) -> float:
    """Return the bound of a setting on one side."""
    values = [getattr(one, type(one).__name__.lower()) for one in field.metadata if isinstance(one, kinds)]
    assert len(values) == 1, f"give it one bound of {kinds}"
    return float(values[0])


def test_there_are_numeric_settings_in_every_part() -> None:
    sections = {key.partition(".")[0] for key in NUMBERS}
    assert {"model", "data", "optimizer", "schedule", "run", "launch", "checkpoint", "report"} <= sections
    assert {"playground", "deepspeed", "huggingface", "azure"} <= sections


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_has_finite_bounds_on_both_sides_and_its_default_lies_within(key: str) -> None:
    tree, field = NUMBERS[key]
    low, high = bound(field, Ge, Gt), bound(field, Le, Lt)
    assert -math.inf < low < high < math.inf
    assert field.default is None or low <= field.default <= high
    whole = float not in set(get_args(field.annotation) or [field.annotation])
    for wrong in (high + 1 if whole else high * 1.5 + 1, low - 1, 10**60, -(10**60), 10**5000):
        with pytest.raises(ConfigError) as refused:
            tree.from_dict(nest({key: wrong}), "it")
        assert short_name(key) in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "flags",
    ["--length-window 1000000000000000000", f"--warmup-steps {10**60}", "--learning-rate 1e308", "--norm-eps 1e300",
     "--num-threads 1000000000", "--epochs １２", "--learning-rate １", f"--epochs {'9' * 5000}"],
)  # fmt: skip
def test_a_flag_beyond_all_reason_is_one_line(flags: str, front_door: FrontDoor) -> None:
    refused = front_door([*flags.split(), "--dry-run"])
    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert flags.split()[0] in refused.stderr
    assert len(refused.stderr) < 1000


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--compare-seeds", "4"], "--compare-seeds 4 is for a comparison; give --compare"),
        (["--compare", "seed=1,2", "--compare-seeds", "2"], "--compare-seeds: '2' should be a whole number from 3 to"),
        (["--compare", "seed=1,2", "--compare-seeds", "１２"], "--compare-seeds: '１２' should be a whole number"),
        (["--compare", "seed=1,2", "--compare-seeds", "9" * 5000], "should be a whole number from 3 to 1000"),
    ],
)
def test_seeds_belong_to_a_comparison(flags: list[str], told: str, front_door: FrontDoor) -> None:
    refused = front_door(flags)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert told in refused.stderr
