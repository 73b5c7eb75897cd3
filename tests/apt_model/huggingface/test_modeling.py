"""APT as a transformers model: the checks of transformers' own `ModelTesterMixin`, which no wheel brings, by name."""

from __future__ import annotations

import copy
import importlib
import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor

from apt_model.config import ModelConfig
from apt_model.huggingface import configuration_apt
from apt_model.huggingface.configuration_apt import SHAPE, APTConfig
from apt_model.huggingface.modeling_apt import APTForCausalLM
from apt_model.model import APT
from tests.support.small_apts import TOKENIZER, same_weights, small_apt

pytestmark = pytest.mark.slow  # transformers takes seconds to import
VOCABULARY = TOKENIZER.vocab_size


def tokens(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(5, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def network() -> APT:
    return small_apt()


@pytest.fixture
def model(network: APT) -> APTForCausalLM:
    return APTForCausalLM.from_apt(network)


# -- one network, two forms ----------------------------------------------------------------------------------------


def test_the_config_has_the_keys_and_the_defaults_of_model_config() -> None:
    assert set(SHAPE) == set(ModelConfig.model_fields)
    assert {key: getattr(APTConfig(), key) for key in SHAPE} == ModelConfig().model_dump()


def test_the_names_that_transformers_asks_for_are_aliases() -> None:
    config = APTConfig(d_model=32, num_layers=3, num_heads=4, d_ff=5, max_seq_len=6, tie_embeddings=False)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (32, 3, 4)
    assert (config.intermediate_size, config.max_position_embeddings, config.head_dim) == (5, 6, 8)
    assert config.tie_word_embeddings is False
    assert APTConfig(hidden_size=64).d_model == 64


def test_heads_that_do_not_divide_the_model_are_refused() -> None:
    with pytest.raises(ValueError, match="num_heads=3"):
        APTConfig(d_model=16, num_heads=3)
    with pytest.raises(ValueError, match="even width"):
        APTConfig(d_model=6, num_heads=2)


def test_an_older_transformers_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers, "__version__", "4.57.1")
    with pytest.raises(ImportError, match=r"need transformers 5\.23 or later; this is 4\.57\.1"):
        importlib.reload(configuration_apt)


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": False}, {"attention": "standard"}, {"num_layers": 1}])
def test_both_forms_say_the_same_bit_for_bit(changes: dict[str, Any]) -> None:
    network = small_apt(**changes)
    model = APTForCausalLM.from_apt(network)
    assert same_weights(network, model)
    tokens_BT, positions_N = tokens(3, 9), torch.tensor([2, 5, 20])
    assert torch.equal(model(tokens_BT).logits, network(tokens_BT))
    assert torch.equal(model(tokens_BT, use_cache=False).logits, network(tokens_BT))
    assert torch.equal(model(tokens_BT, positions_N=positions_N).logits, network(tokens_BT, positions_N))


def test_the_forms_share_their_parameters(network: APT, model: APTForCausalLM) -> None:
    again = model.to_apt()
    assert again.config == network.config
    for other in (model, again):
        theirs = dict(other.named_parameters())
        assert all(theirs[name] is parameter for name, parameter in network.named_parameters())
        assert other.head.weight is other.embedding.weight


def test_training_one_form_trains_the_other_with_the_same_dropout() -> None:
    networks = [small_apt(dropout=0.2).train() for _ in range(2)]
    wrapped = APTForCausalLM.from_apt(networks[1])
    tokens_BT, positions_N = tokens(4, 8), torch.tensor([3, 9, 30])
    torch.manual_seed(7)
    networks[0](tokens_BT, positions_N).logsumexp(-1).sum().backward()
    torch.manual_seed(7)
    wrapped(tokens_BT, positions_N=positions_N).logits.logsumexp(-1).sum().backward()
    for mine, theirs in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert torch.equal(mine.grad, theirs.grad)


def test_modes_are_kept_by_both_conversions(network: APT) -> None:
    network.train()
    network.gradient_checkpointing = True
    wrapped = APTForCausalLM.from_apt(network)
    assert wrapped.training
    assert wrapped.is_activation_checkpointing
    assert wrapped.to_apt().training
    assert wrapped.to_apt().gradient_checkpointing


def test_a_model_from_scratch_is_initialised_as_an_apt() -> None:
    shape = {"d_model": 64, "num_layers": 4, "num_heads": 4, "d_ff": 256, "vocab_size": 500}
    torch.manual_seed(0)
    mine = dict(APTForCausalLM(APTConfig(**shape)).named_parameters())
    for name, parameter in APT(ModelConfig.model_validate(shape)).named_parameters():
        if parameter.std() == 0:  # norms are ones, self-control is zero
            assert torch.equal(mine[name], parameter), name
        else:
            assert mine[name].std().item() == pytest.approx(parameter.std().item(), rel=0.1), name


# -- arguments -----------------------------------------------------------------------------------------------------


def test_inputs_embeds_matches_input_ids(model: APTForCausalLM) -> None:
    tokens_BT = tokens(2, 7)
    embeds_BTD = model.get_input_embeddings()(tokens_BT)
    assert torch.equal(model(inputs_embeds=embeds_BTD).logits, model(tokens_BT).logits)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_padding_on_either_side_changes_nothing(model: APTForCausalLM, side: str, use_cache: bool) -> None:
    alone = [tokens(1, length, seed=length) for length in (4, 7, 9)]
    padded = torch.zeros(3, 9, dtype=torch.long)
    mask = torch.zeros(3, 9, dtype=torch.long)
    places = []
    for row, ids in enumerate(alone):
        place = slice(0, ids.shape[1]) if side == "right" else slice(9 - ids.shape[1], 9)
        padded[row, place], mask[row, place] = ids[0], 1
        places.append(place)
    logits = model(padded, attention_mask=mask, use_cache=use_cache).logits
    assert logits.isfinite().all()
    for row, ids in enumerate(alone):
        torch.testing.assert_close(logits[row, places[row]], model(ids).logits[0], rtol=1e-4, atol=1e-5)


def test_a_mask_of_ones_is_no_mask(model: APTForCausalLM) -> None:
    tokens_BT = tokens(2, 6)
    assert torch.equal(model(tokens_BT, attention_mask=torch.ones_like(tokens_BT)).logits, model(tokens_BT).logits)


def test_position_ids_are_obeyed(model: APTForCausalLM) -> None:
    tokens_BT = tokens(1, 5)
    counted = model(tokens_BT, position_ids=torch.arange(5)[None]).logits
    shifted = model(tokens_BT, position_ids=torch.arange(5)[None] + 3).logits
    assert torch.equal(counted, model(tokens_BT).logits)
    torch.testing.assert_close(shifted, counted, rtol=1e-4, atol=1e-5)  # rotary positions are relative …
    spread = model(tokens_BT, position_ids=torch.arange(5)[None] * 2).logits
    assert not torch.allclose(spread, counted, atol=1e-3)  # … and distances matter


def test_only_the_logits_that_are_kept_are_computed(model: APTForCausalLM) -> None:
    tokens_BT = tokens(2, 6)
    whole = model(tokens_BT).logits
    torch.testing.assert_close(model(tokens_BT, logits_to_keep=2).logits, whole[:, -2:])
    torch.testing.assert_close(model(tokens_BT, logits_to_keep=torch.tensor([1, 4])).logits, whole[:, [1, 4]])


def test_hidden_states_are_what_enters_each_block_and_what_the_head_reads(model: APTForCausalLM) -> None:
    tokens_BT = tokens(2, 6)
    output = model(tokens_BT, output_hidden_states=True)
    assert len(output.hidden_states) == model.config.num_hidden_layers + 1
    assert torch.equal(output.hidden_states[0], model.embedding(tokens_BT))
    assert torch.equal(model.head(output.hidden_states[-1]), output.logits)


def test_a_tuple_has_what_the_output_has(model: APTForCausalLM) -> None:
    tokens_BT = tokens(2, 6)
    output = model(tokens_BT, labels=tokens_BT, use_cache=False)
    loss, logits = model(tokens_BT, labels=tokens_BT, use_cache=False, return_dict=False)
    assert torch.equal(loss, output.loss)
    assert torch.equal(logits, output.logits)


def test_what_cannot_be_done_is_refused(model: APTForCausalLM) -> None:
    tokens_BT = tokens(1, 5)
    with pytest.raises(ValueError, match="fused kernel"):
        model(tokens_BT, output_attentions=True)
    with pytest.raises(ValueError, match="not both"):
        model(tokens_BT, inputs_embeds=model.embedding(tokens_BT))
    with pytest.raises(ValueError, match="not both"):
        model()
    with pytest.raises(ValueError, match="25 tokens is longer than max_seq_len=24"):
        model(tokens(1, 25))
    with pytest.raises(ValueError, match="attn_implementation='eager'"):
        APTForCausalLM(APTConfig(vocab_size=9, attn_implementation="eager"))
    model.activation_checkpointing_enable()
    model.train()
    with pytest.raises(ValueError, match="fill the cache twice"):
        model(tokens_BT, use_cache=True)


# -- loss and training ---------------------------------------------------------------------------------------------


def test_the_loss_shifts_the_labels_leaves_out_minus_100_and_divides_by_the_items_that_it_is_told(
    model: APTForCausalLM,
) -> None:
    tokens_BT = tokens(3, 8)
    labels_BT = tokens_BT.clone()
    labels_BT[:, :3] = -100
    labels_BT[0, -2:] = -100
    wanted = F.cross_entropy(model(tokens_BT).logits[:, :-1].flatten(0, 1), labels_BT[:, 1:].flatten())
    items = int((labels_BT[:, 1:] != -100).sum())
    assert model(tokens_BT, labels=labels_BT).loss.item() == pytest.approx(wanted.item(), rel=1e-6)
    for given in (2 * items, torch.tensor(2 * items)):
        halved = model(tokens_BT, labels=labels_BT, num_items_in_batch=given).loss
        assert halved.item() == pytest.approx(wanted.item() / 2, rel=1e-6)
    assert model.accepts_loss_kwargs


@pytest.mark.parametrize("path", ["labels", "positions"])
def test_gradient_checkpointing_changes_no_gradient(path: str) -> None:
    tokens_BT = tokens(2, 8)
    gradients = []
    for recompute in (False, True):
        wrapped = APTForCausalLM.from_apt(small_apt(dropout=0.1)).train()
        if recompute:
            wrapped.activation_checkpointing_enable()
        torch.manual_seed(3)
        if path == "labels":
            wrapped(tokens_BT, labels=tokens_BT).loss.backward()
        else:
            wrapped(tokens_BT, positions_N=torch.tensor([4, 11])).logits.logsumexp(-1).sum().backward()
        gradients.append([p.grad for p in wrapped.parameters()])
        wrapped.activation_checkpointing_disable()
        assert not wrapped.is_activation_checkpointing
    for kept, recomputed in zip(*gradients, strict=True):
        assert kept is not None
        assert torch.equal(kept, recomputed)


# -- weights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("change", [+6, -4])
def test_resize_token_embeddings(tied: bool, change: int) -> None:
    wrapped = APTForCausalLM.from_apt(small_apt(tie_embeddings=tied))
    tokens_BT = torch.randint(0, VOCABULARY - 4, (2, 6))
    with torch.no_grad():
        before = wrapped(tokens_BT).logits
    wrapped.resize_token_embeddings(VOCABULARY + change, mean_resizing=False)
    assert wrapped.config.vocab_size == VOCABULARY + change
    assert (wrapped.head.weight is wrapped.embedding.weight) == tied
    after = wrapped(tokens_BT).logits
    kept = min(VOCABULARY, VOCABULARY + change)
    assert after.shape[-1] == VOCABULARY + change
    torch.testing.assert_close(after[..., :kept], before[..., :kept])
    added = dict(wrapped.named_parameters())["embedding.weight"][VOCABULARY:]
    assert change < 0 or 0.1 < added.std().item() * wrapped.config.d_model**0.5 < 3
    wrapped.train()(tokens_BT, labels=tokens_BT).loss.backward()


def test_tied_weights_stay_tied_through_casting_and_copying(model: APTForCausalLM) -> None:
    tokens_BT = tokens(1, 5)
    for other in (copy.deepcopy(model), model.to(torch.bfloat16)):
        assert other.head.weight is other.embedding.weight
        assert other(tokens_BT).logits.dtype == other.dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_cast_to_half_precision_says_nearly_the_same(dtype: torch.dtype) -> None:
    tokens_BT, mask = tokens(2, 9), torch.ones(2, 9, dtype=torch.long)
    mask[0, :3] = 0
    exact = APTForCausalLM.from_apt(small_apt())(tokens_BT, attention_mask=mask).logits[:, 3:]
    network = small_apt().to(dtype)
    wrapped = APTForCausalLM.from_apt(network)
    assert torch.equal(wrapped(tokens_BT).logits, network(tokens_BT))
    half = wrapped(tokens_BT, attention_mask=mask)
    assert half.logits.dtype == dtype
    assert (half.logits[:, 3:].float() - exact).abs().mean() < 0.05 * exact.abs().mean()
    kept = {layer.keys.dtype for layer in half.past_key_values.layers}
    assert kept == {dtype}, "the cache is no larger than the weights ask for"


def test_torch_save_and_load_of_the_whole_model(model: APTForCausalLM) -> None:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert same_weights(loaded, model)
    assert torch.equal(loaded(tokens(1, 5)).logits, model(tokens(1, 5)).logits)


# -- PEFT ----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks by that name
def test_lora_adapters_train_alone_are_saved_alone_and_merge_exactly(tmp_path: Any) -> None:
    tokens_BT = tokens(2, 8)
    base = APTForCausalLM.from_apt(small_apt())
    before = base(tokens_BT).logits
    targets = ["qkv", "out", "gate", "up", "down"]
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))
    assert torch.equal(adapted(tokens_BT).logits, before)  # LoRA starts from nothing
    frozen = {n: p.clone() for n, p in adapted.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    adapted.train()
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = adapted(tokens_BT, labels=tokens_BT).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(p, frozen[n]) for n, p in adapted.named_parameters() if n in frozen)
    adapted.eval()
    after = adapted(tokens_BT).logits
    adapted.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(APTForCausalLM.from_apt(small_apt()), tmp_path)
    assert torch.equal(again(tokens_BT).logits, after)
    torch.testing.assert_close(adapted.merge_and_unload().to_apt()(tokens_BT), after, rtol=1e-4, atol=1e-5)
