"""What goes into a checkpoint comes out of it with its types, its numbers and its ties."""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.checkpoints.serialization import read_payload, write_payload

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool)


def tensors() -> st.SearchStrategy[Tensor]:
    shapes = st.lists(st.integers(0, 3), max_size=3)
    return st.builds(lambda shape, dtype: torch.ones(shape).to(dtype), shapes, st.sampled_from(DTYPES))


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
keys = st.text(max_size=4) | st.integers() | st.sampled_from(["$tensor", "$items", "a/b", "model"])
nested = st.recursive(
    plain | tensors(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3) | st.tuples(inner) | st.tuples()
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type, all the way down; NaN equals NaN, and -0.0 does not equal 0.0."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(map(same, one, other)) == [True] * len(one) == [same(one[k], other[k]) for k in one]
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    return bool(one == other)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=3), nested, max_size=4), nested)
def test_whatever_plain_data_and_tensors_go_in_come_out_the_same(
    tmp_path_factory: pytest.TempPathFactory, rest: dict[str, Any], state: Any
) -> None:
    payload = {**rest, "engine": {"model": state, "optimizers": state}}
    directory = tmp_path_factory.mktemp("payload")
    write_payload(directory, payload)
    assert same(payload, read_payload(directory))


def test_tied_weights_are_written_once_and_are_one_tensor_again(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    model = OrderedDict({"embedding": weight, "head": weight, "alike": weight.clone()})
    write_payload(tmp_path, {"engine": {"model": model}})
    loaded = read_payload(tmp_path)["engine"]["model"]
    assert loaded["embedding"] is loaded["head"]
    assert loaded["alike"] is not loaded["head"]
    assert all(torch.equal(tensor, weight) for tensor in loaded.values())
    assert (tmp_path / "model.safetensors").stat().st_size < 3 * weight.nbytes + 300


@pytest.mark.parametrize(
    "view",
    [lambda w: w.T, lambda w: w[1:], lambda w: w.reshape(-1), lambda w: w[:, ::2], lambda w: w.view(torch.int32)],
)
def test_views_of_one_memory_come_out_each_as_it_was_seen(view: Any, tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    write_payload(tmp_path, {"whole": weight, "view": view(weight)})
    loaded = read_payload(tmp_path)
    assert torch.equal(loaded["whole"], weight)
    assert torch.equal(loaded["view"], view(weight))


def test_names_that_hold_a_slash_do_not_mix_up_two_tensors(tmp_path: Path) -> None:
    state = {"a/b": {"c": torch.tensor(1)}, "a": {"b/c": torch.tensor(2)}}
    write_payload(tmp_path, {"engine": {"optimizers": state}})
    assert same(state, read_payload(tmp_path)["engine"]["optimizers"])


def test_a_checkpoint_can_be_deleted_while_its_tensors_are_changed(tmp_path: Path) -> None:
    write_payload(tmp_path, {"engine": {"model": {"w": torch.zeros(4)}}})
    weight = read_payload(tmp_path)["engine"]["model"]["w"]
    weight += 1.0
    assert torch.equal(read_payload(tmp_path)["engine"]["model"]["w"], torch.zeros(4))
    (tmp_path / "model.safetensors").unlink()
    assert torch.equal(weight, torch.ones(4))
