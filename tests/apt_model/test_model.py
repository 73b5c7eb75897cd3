"""APT: strictly causal, standard attention at the start, and indifferent to padding and company."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from apt_model.config import ModelConfig
from apt_model.model import APT, Attention, rotary_table, rotate

V = 23
TOKENS = st.integers(0, V - 1)
ATTENTIONS = ("autopoietic", "standard")


def tiny(**changes: Any) -> ModelConfig:
    shape = {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 24, "max_seq_len": 16, "vocab_size": V}
    return ModelConfig.model_validate({**shape, **changes})


def new_model(seed: int = 0, **changes: Any) -> APT:
    torch.manual_seed(seed)
    return APT(tiny(**changes)).eval()


def lived(seed: int = 0, **changes: Any) -> APT:
    """A model whose weights have all moved, the autopoietic controls as well."""
    model = new_model(seed, **changes)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return model


def some_tokens(rows: int = 3, length: int = 12) -> Tensor:
    return torch.randint(0, V, (rows, length), generator=torch.Generator().manual_seed(5))


MODELS = {attention: lived(attention=attention) for attention in ATTENTIONS}


# -- causality -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ATTENTIONS)
@given(tokens=st.lists(TOKENS, min_size=2, max_size=16), data=st.data())
@settings(max_examples=40, deadline=None, derandomize=True)
@torch.inference_mode()
def test_a_later_token_never_changes_an_earlier_logit(attention: str, tokens: list[int], data: st.DataObject) -> None:
    model = MODELS[attention]
    place = data.draw(st.integers(1, len(tokens) - 1))
    changed = list(tokens)
    changed[place] = (tokens[place] + data.draw(st.integers(1, V - 1))) % V
    before, after = model(torch.tensor([tokens])), model(torch.tensor([changed]))
    assert torch.equal(before[:, :place], after[:, :place])
    assert not torch.equal(before[:, place], after[:, place])


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_no_gradient_flows_back_from_a_logit_to_a_later_token(attention: str) -> None:
    model = lived(attention=attention, tie_embeddings=False)
    for place in (0, 5, 11):
        model.zero_grad()
        torch.autograd.backward(model(torch.arange(12)[None])[0, place].sum())
        reached = model.embedding.weight.grad
        assert reached is not None
        assert bool(reached[: place + 1].any(dim=1).all())
        assert not bool(reached[place + 1 :].any())


@torch.inference_mode()
def test_every_earlier_token_can_change_the_last_logit() -> None:
    tokens = torch.arange(12)[None]
    last = MODELS["autopoietic"](tokens)[0, -1]
    for place in range(12):
        changed = tokens.clone()
        changed[0, place] = V - 1
        assert not torch.equal(MODELS["autopoietic"](changed)[0, -1], last), f"token {place} is not seen"


# -- autopoietic attention -----------------------------------------------------------------------------------------


def twins() -> tuple[APT, APT]:
    """An untrained standard model and the autopoietic one with the same weights."""
    standard, autopoietic = new_model(attention="standard"), new_model(attention="autopoietic")
    fault = autopoietic.load_state_dict(standard.state_dict(), strict=False)
    assert not fault.unexpected_keys
    assert all(key.endswith("self_control.weight") for key in fault.missing_keys)
    assert len(fault.missing_keys) == 2
    return standard, autopoietic


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_autopoietic_attention_starts_as_standard_attention_exactly(precision: torch.dtype) -> None:
    standard, autopoietic = twins()
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        assert torch.equal(standard(some_tokens()), autopoietic(some_tokens()))


def test_standard_attention_has_no_controls() -> None:
    assert not any("self_control" in name for name, _ in new_model(attention="standard").named_parameters())


def test_the_first_gradient_already_reaches_temperatures_and_gates() -> None:
    model = new_model(attention="autopoietic")
    torch.autograd.backward(F.cross_entropy(model(some_tokens()).flatten(0, 1), some_tokens().roll(1, 1).flatten()))
    for module in model.modules():
        if isinstance(module, Attention):
            assert module.self_control is not None
            gradient = module.self_control.weight.grad
            assert gradient is not None
            assert bool(gradient.any(dim=1).all()), "each head has a temperature and a gate, and each must learn"


@pytest.mark.parametrize("rows", [slice(0, 2), slice(2, 4)], ids=["temperatures", "gates"])
@torch.inference_mode()
def test_moved_temperatures_and_gates_each_change_the_attention(rows: slice) -> None:
    standard, autopoietic = twins()
    attention = autopoietic.blocks[0].attention
    assert isinstance(attention, Attention)
    assert attention.self_control is not None
    attention.self_control.weight[rows] += 0.5
    assert not torch.allclose(standard(some_tokens()), autopoietic(some_tokens()), atol=1e-4)


# -- padding and company -------------------------------------------------------------------------------------------


def token_losses(model: APT, samples: list[list[int]], pad: int) -> list[Tensor]:
    """Loss of each token of each sample, read in one batch padded with `pad`."""
    width = max(map(len, samples)) - 1
    tokens_BT = torch.tensor([s[:-1] + [pad] * (width - len(s) + 1) for s in samples])
    positions_N = torch.tensor([row * width + i for row, s in enumerate(samples) for i in range(len(s) - 1)])
    targets_N = torch.tensor([token for s in samples for token in s[1:]])
    losses_N = F.cross_entropy(model(tokens_BT, positions_N), targets_N, reduction="none")
    return list(torch.split(losses_N, [len(s) - 1 for s in samples]))


@pytest.mark.parametrize("attention", ATTENTIONS)
@given(samples=st.lists(st.lists(TOKENS, min_size=2, max_size=16), min_size=1, max_size=6), pad=TOKENS, data=st.data())
@settings(max_examples=40, deadline=None, derandomize=True)
@torch.inference_mode()
def test_padding_and_company_never_change_a_samples_loss(
    attention: str, samples: list[list[int]], pad: int, data: st.DataObject
) -> None:
    model = MODELS[attention]
    order = data.draw(st.permutations(range(len(samples))))
    together = token_losses(model, [samples[i] for i in order], pad)
    for place, i in enumerate(order):
        (alone,) = token_losses(model, [samples[i]], pad=0)
        torch.testing.assert_close(together[place], alone, rtol=1e-5, atol=1e-5)


@given(positions=st.lists(st.integers(0, 35), min_size=1, max_size=40))
@settings(max_examples=25, deadline=None, derandomize=True)
@torch.inference_mode()
def test_logits_at_chosen_positions_are_those_of_the_full_forward_pass(positions: list[int]) -> None:
    model = MODELS["autopoietic"]
    chosen = model(some_tokens(), torch.tensor(positions))
    assert chosen.shape == (len(positions), V)
    torch.testing.assert_close(chosen, model(some_tokens()).reshape(-1, V)[positions], rtol=1e-5, atol=1e-5)


# -- gradients -----------------------------------------------------------------------------------------------------


def gradients(model: APT, seed: int = 0) -> dict[str, Tensor]:
    model.train().zero_grad()
    torch.manual_seed(seed)
    torch.autograd.backward(F.cross_entropy(model(some_tokens()).flatten(0, 1), some_tokens().roll(1, 1).flatten()))
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradient_checkpointing_gives_the_same_gradients(dropout: float) -> None:
    model = lived(dropout=dropout)
    calls: list[str] = []
    model.blocks[0].register_forward_pre_hook(lambda *_: calls.append("block 0"))
    kept = gradients(model)
    assert len(calls) == 1
    model.gradient_checkpointing = True
    recomputed = gradients(model)
    assert len(calls) == 3, "the block is computed once more in the backward pass"
    assert kept.keys() == recomputed.keys() == {name for name, _ in model.named_parameters()}
    for name, gradient in kept.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-6, atol=1e-7)


def test_dropout_acts_while_training_only() -> None:
    model = lived(dropout=0.3)
    with torch.no_grad():
        assert torch.equal(model(some_tokens()), model(some_tokens()))
    assert not torch.equal(gradients(model, seed=1)["norm.weight"], gradients(model, seed=2)["norm.weight"])


# -- shape and start -----------------------------------------------------------------------------------------------


def test_a_tied_head_is_the_embedding_and_counts_once() -> None:
    tied, untied = new_model(tie_embeddings=True), new_model(tie_embeddings=False)
    assert tied.head.weight is tied.embedding.weight
    assert untied.head.weight is not untied.embedding.weight
    assert untied.num_parameters() - tied.num_parameters() == V * 16
    # Embedding, then per block: qkv, out, controls, three SwiGLU matrices, two norms; then the last norm.
    assert tied.num_parameters() == V * 16 + 2 * (16 * 48 + 16 * 16 + 16 * 4 + 3 * 16 * 24 + 2 * 16) + 16


@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("changes", [{}, {"d_model": 64, "num_layers": 6, "num_heads": 8, "d_ff": 256}])
@torch.inference_mode()
def test_an_untrained_model_is_about_as_wrong_as_guessing(tie_embeddings: bool, changes: dict[str, int]) -> None:
    model = new_model(tie_embeddings=tie_embeddings, vocab_size=300, max_seq_len=32, **changes)
    tokens = torch.randint(0, 300, (16, 33), generator=torch.Generator().manual_seed(1))
    loss = float(F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()))
    assert abs(loss - math.log(300)) < 0.8


@torch.inference_mode()
def test_the_number_of_heads_reaches_the_model() -> None:
    two, four = new_model(num_heads=2, attention="standard"), new_model(num_heads=4, attention="standard")
    heads = [m.num_heads for m in four.modules() if isinstance(m, Attention)]
    assert heads == [4, 4]
    four.load_state_dict(two.state_dict())
    assert not torch.allclose(two(some_tokens()), four(some_tokens()), atol=1e-4)


def test_no_layer_has_a_bias() -> None:
    assert not any(name.endswith("bias") for name, _ in new_model().named_parameters())


def test_the_same_seed_gives_the_same_weights() -> None:
    one, same, other = (new_model(seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["embedding.weight"], other["embedding.weight"])


def test_a_model_without_a_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="vocab_size"):
        APT(tiny(vocab_size=None))


def test_a_sequence_longer_than_the_model_is_refused() -> None:
    assert new_model()(some_tokens(1, 16)).shape == (1, 16, V)
    with pytest.raises(ValueError, match="17 tokens is longer than max_seq_len=16"):
        new_model()(some_tokens(1, 17))


# -- heads that do not fit -----------------------------------------------------------------------------------------


def refusal(**settings: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        ModelConfig.model_validate(settings)
    return str(refused.value.errors()[0]["msg"])


def test_heads_that_do_not_divide_the_model_are_refused_with_both_numbers() -> None:
    told = refusal(d_model=256, num_heads=7)
    assert "d_model=256" in told
    assert "num_heads=7" in told
    assert told.endswith("is 8")


def test_heads_of_odd_width_are_refused() -> None:
    assert "odd width 3" in refusal(d_model=12, num_heads=4)


@given(d_model=st.integers(1, 96), num_heads=st.integers(1, 24))
@settings(max_examples=50, deadline=None)
def test_a_suggested_number_of_heads_always_fits(d_model: int, num_heads: int) -> None:
    try:
        config = ModelConfig(d_model=d_model, num_heads=num_heads)
    except ValidationError as error:
        suggested = re.search(r"head count that divides it is (\d+)", str(error))
        if suggested:
            config = ModelConfig(d_model=d_model, num_heads=int(suggested.group(1)))
        else:
            return
    assert config.head_dim * config.num_heads == d_model
    assert config.head_dim % 2 == 0


@pytest.mark.parametrize("num_heads", [0, -1, 2.5, "many", None, float("nan")])
def test_a_number_of_heads_that_is_none_is_refused(num_heads: object) -> None:
    assert refusal(num_heads=num_heads)


def test_heads_are_never_set_by_a_key_that_is_not_theirs() -> None:
    assert "Extra inputs" in refusal(heads=4)


# -- rotary positions ----------------------------------------------------------------------------------------------


@given(first=st.integers(0, 30), second=st.integers(0, 30), shift=st.integers(0, 30))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_rotary_positions_tell_the_distance_of_two_tokens_and_nothing_else(first: int, second: int, shift: int) -> None:
    cos, sin = rotary_table(64, 8, 10000.0)
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(2))

    def product(q_at: int, k_at: int) -> Tensor:
        return rotate(q, cos[q_at], sin[q_at]) @ rotate(k, cos[k_at], sin[k_at])

    torch.testing.assert_close(product(first, second), product(first + shift, second + shift), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rotate(q, cos[first], sin[first]).norm(), q.norm())
