"""Every trained parameter is in just one group, and neither an embedding nor an output head is among Muon's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from apt_model.config import ModelConfig
from apt_model.model import APT
from training.models.apt.family import APTFamily
from training.models.parameter_groups import group_by_module
from training.models.protocol import BaseFamily, ModelFamily, ParameterGroups

VOCABULARY = 40


def names(model: nn.Module, group: list[nn.Parameter]) -> set[str]:
    """Names of a group's parameters; a tied one by its first."""
    of = {id(parameter): name for name, parameter in model.named_parameters()}
    return {of[id(parameter)] for parameter in group}


def assert_complete(model: nn.Module, groups: ParameterGroups) -> None:
    found = [id(parameter) for group in groups for parameter in group]
    assert len(found) == len(set(found)), "in just one group"
    assert set(found) == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}


def gpt2(tied: bool) -> nn.Module:
    sizes = {"vocab_size": VOCABULARY, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    model: nn.Module = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=1, tie_word_embeddings=tied))
    return model


def llama(tied: bool) -> nn.Module:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    model: nn.Module = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, tie_word_embeddings=tied))
    return model


def apt(tied: bool) -> nn.Module:
    shape = ModelConfig(d_model=16, num_layers=2, num_heads=2, d_ff=24, vocab_size=VOCABULARY, tie_embeddings=tied)
    return APT(shape)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(
    ("build", "family", "tables", "in_each_layer"),
    [
        (gpt2, BaseFamily(), {"transformer.wte.weight", "transformer.wpe.weight", "lm_head.weight"}, 4),
        (llama, BaseFamily(), {"model.embed_tokens.weight", "lm_head.weight"}, 7),
        (apt, APTFamily(), {"embedding.weight", "head.weight"}, 5),
    ],
    ids=["gpt2", "llama", "apt"],
)
def test_muon_gets_the_hidden_matrices_and_neither_embeddings_nor_the_head(
    build: Callable[[bool], nn.Module], family: ModelFamily, tables: set[str], in_each_layer: int, tied: bool
) -> None:
    model = build(tied)
    groups = family.parameter_groups(model)
    assert_complete(model, groups)
    own = {name for name, _ in model.named_parameters()}
    assert names(model, groups.embeddings) >= tables & own
    assert names(model, groups.matrices).isdisjoint(tables)
    assert len(groups.matrices) == 2 * in_each_layer
    assert all(parameter.ndim == 1 for parameter in groups.norms)
    assert ("head" in " ".join(own)) is not tied, "an untied head is a parameter of its own"


def test_an_untied_head_of_a_module_that_nobody_declared_is_found_by_its_size() -> None:
    model = nn.Sequential(nn.Embedding(VOCABULARY, 8), nn.Linear(8, 12), nn.Linear(12, VOCABULARY))
    groups = group_by_module(model)
    assert names(model, groups.matrices) == {"1.weight"}
    assert names(model, groups.embeddings) == {"0.weight", "2.weight"}


def test_a_hidden_layer_that_happens_to_have_the_size_of_the_vocabulary_stays_with_muon() -> None:
    model = nn.Sequential(nn.Embedding(8, 8), nn.Linear(8, 8), nn.Linear(8, 8, bias=False))
    assert names(model, group_by_module(model).matrices) == {"1.weight"}


def test_a_family_can_keep_further_matrices_from_muon() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    groups = group_by_module(model, keep_from_muon=frozenset({"0.weight"}))
    assert names(model, groups.matrices) == {"1.weight"}
    assert_complete(model, groups)


def test_the_controls_of_autopoietic_attention_stay_with_adamw() -> None:
    model = apt(tied=True)
    embeddings = names(model, APTFamily().parameter_groups(model).embeddings)
    assert {name for name in embeddings if "self_control" in name} == {
        f"blocks.{layer}.attention.self_control.weight" for layer in range(2)
    }


class Tied(nn.Module):
    """A layer that uses another's weight."""

    def __init__(self, other: nn.Linear) -> None:
        super().__init__()
        self.weight = other.weight

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def frozen() -> nn.Module:
    return nn.Linear(3, 4).requires_grad_(False)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "embedding": lambda: nn.Embedding(5, 4),
    "linear": lambda: nn.Linear(4, 6),
    "head": lambda: nn.Linear(4, 5, bias=False),
    "norm": lambda: nn.LayerNorm(4),
    "convolution": lambda: nn.Conv2d(2, 3, 3),
    "recurrent": lambda: nn.GRU(4, 4),
    "attention": lambda: nn.MultiheadAttention(4, 2),
    "frozen": frozen,
    "nested": lambda: nn.Sequential(nn.Linear(4, 4), nn.ModuleDict({"inner": nn.Embedding(3, 2)})),
    "scale": lambda: nn.ParameterList([nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(2, 3, 4))]),
}


@given(st.lists(st.sampled_from(sorted(LAYERS)), max_size=6), st.booleans())
@settings(max_examples=80)
def test_every_trained_parameter_of_any_module_is_in_just_one_group(kinds: list[str], ties: bool) -> None:
    layers = [LAYERS[kind]() for kind in kinds]
    if ties:
        layers += [Tied(layer) for layer in layers if isinstance(layer, nn.Linear)]
    model = nn.ModuleList(layers)
    groups = group_by_module(model)
    assert_complete(model, groups)
    embedded = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    assert embedded.isdisjoint(map(id, groups.matrices))
    assert all(parameter.ndim == 2 for parameter in groups.matrices)
    assert all(parameter.ndim < 2 for parameter in groups.norms)
    order = {id(parameter): n for n, parameter in enumerate(model.parameters())}
    for group in groups:
        places = [order[id(parameter)] for parameter in group]
        assert places == sorted(places), "in the model's own order, so that a state fits"
