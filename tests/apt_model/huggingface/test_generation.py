"""`generate` on APT: the checks of transformers' own `GenerationTesterMixin` by name, and ours as the judge."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

from apt_model.generation import generate_ids
from apt_model.huggingface.modeling_apt import APTForCausalLM
from apt_model.model import APT
from tests.support.small_apts import TOKENIZER, small_apt

pytestmark = pytest.mark.slow  # transformers takes seconds to import
EOS, PAD = TOKENIZER.eos_id, TOKENIZER.pad_id
PROMPTS = [TOKENIZER.prompt_ids(text) for text in ("rain", "下雨 1", "", "20 + 37", "3")]


@pytest.fixture(scope="module")
def network() -> APT:
    return small_apt()


@pytest.fixture(scope="module")
def model(network: APT) -> APTForCausalLM:
    return APTForCausalLM.from_apt(network)


def left_padded(prompts: list[list[int]]) -> dict[str, Tensor]:
    longest = max(map(len, prompts))
    rows = [[PAD] * (longest - len(p)) + p for p in prompts]
    mask = [[0] * (longest - len(p)) + [1] * len(p) for p in prompts]
    return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(mask)}


def answers(output: Tensor, prompt_length: int) -> list[list[int]]:
    """The new ids of each row, up to the end token."""
    return [list(itertools.takewhile(lambda i: i != EOS, row)) for row in output[:, prompt_length:].tolist()]


@pytest.mark.parametrize("kind", ["dynamic", "static", "none"])
def test_greedy_answers_are_ours_for_prompts_of_unequal_length_with_any_cache(
    network: APT, model: APTForCausalLM, kind: str
) -> None:
    batch = left_padded(PROMPTS)
    choices: dict[str, dict[str, Any]] = {"static": {"cache_implementation": "static"}, "none": {"use_cache": False}}
    settings = choices.get(kind, {})
    output = model.generate(**batch, max_new_tokens=8, do_sample=False, **settings)
    ours = generate_ids(network, PROMPTS, EOS, 8)
    assert answers(output, batch["input_ids"].shape[1]) == ours
    assert len({tuple(answer) for answer in ours}) > 2, "the model says something"


def test_without_a_length_an_answer_may_take_all_positions_and_stops_there(network: APT, model: APTForCausalLM) -> None:
    prompt = torch.tensor([PROMPTS[3]])
    endless = model.generate(prompt, do_sample=False, eos_token_id=-1)
    assert endless.shape[1] == network.config.max_seq_len
    asked_too_much = model.generate(prompt, max_new_tokens=1000, do_sample=False, eos_token_id=-1)
    assert torch.equal(asked_too_much, endless)
    assert model.generate(prompt, max_length=12, do_sample=False, eos_token_id=-1).shape[1] == 12
    assert model.generate(prompt, max_new_tokens=1, do_sample=False, eos_token_id=-1).shape[1] == prompt.shape[1] + 1


def test_a_prompt_longer_than_the_model_is_refused(model: APTForCausalLM) -> None:
    with pytest.raises(ValueError, match="longer than max_seq_len=24"):
        model.generate(torch.randint(5, 20, (1, 30)), max_new_tokens=2)


def test_beam_search_as_wide_as_the_vocabulary_finds_the_most_probable_answer(
    network: APT, model: APTForCausalLM
) -> None:
    prompt = PROMPTS[1]
    V = TOKENIZER.vocab_size
    output = model.generate(
        torch.tensor([prompt]), num_beams=V, max_new_tokens=2, do_sample=False, length_penalty=0.0, early_stopping=False
    )
    with torch.no_grad():
        first = network(torch.tensor([prompt]))[0, -1].log_softmax(-1)
        second = network(torch.tensor([[*prompt, token] for token in range(V)]))[:, -1].log_softmax(-1)
    both = first[:, None] + second
    both[EOS] = -torch.inf
    best = [divmod(int(both.argmax()), V)] if both.max() > first[EOS] else [(EOS,)]
    assert output[0, len(prompt) :].tolist()[: len(best[0])] == list(best[0])


def test_sampling_draws_from_our_probabilities_with_torchs_generator(network: APT, model: APTForCausalLM) -> None:
    prompt = torch.tensor([PROMPTS[0]] * 3)
    torch.manual_seed(5)
    drawn = model.generate(prompt, do_sample=True, top_k=0, temperature=0.7, max_new_tokens=6, eos_token_id=-1)
    torch.manual_seed(5)
    ids = prompt
    with torch.no_grad():
        for _ in range(6):
            ids = torch.cat([ids, torch.multinomial((network(ids)[:, -1] / 0.7).softmax(-1), 1)], dim=1)
    assert torch.equal(drawn, ids)
    assert len({tuple(row) for row in drawn.tolist()}) > 1


def test_prompt_lookup_decoding_matches_greedy_search(model: APTForCausalLM) -> None:
    prompt = torch.tensor([[*PROMPTS[3], *PROMPTS[3]]])  # crops the cache where a guess was wrong
    greedy = model.generate(prompt, max_new_tokens=4, do_sample=False)
    assert torch.equal(model.generate(prompt, max_new_tokens=4, do_sample=False, prompt_lookup_num_tokens=3), greedy)


def test_generate_from_inputs_embeds(network: APT, model: APTForCausalLM) -> None:
    prompt = torch.tensor([PROMPTS[3]])
    embeds = model.get_input_embeddings()(prompt)
    from_ids = model.generate(prompt, max_new_tokens=6, do_sample=False)
    assert model.generate(inputs_embeds=embeds, max_new_tokens=6, do_sample=False).tolist() == [
        from_ids[0, prompt.shape[1] :].tolist()
    ]
    endless = model.generate(inputs_embeds=embeds, do_sample=False, eos_token_id=-1)
    assert endless.shape[1] == network.config.max_seq_len - prompt.shape[1]


@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("sizes", [(1,) * 9, (5, 1, 3), (8, 1)])
def test_reading_in_parts_with_a_cache_is_reading_at_once(
    model: APTForCausalLM, kind: str, sizes: tuple[int, ...]
) -> None:
    tokens_BT = torch.randint(5, TOKENIZER.vocab_size, (2, 9), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(tokens_BT)
    mask[0, :2] = 0  # left padding
    cache = DynamicCache() if kind == "dynamic" else StaticCache(config=model.config, max_cache_len=12)
    parts, start = [], 0
    for size in sizes:
        end = start + size
        output = model(tokens_BT[:, start:end], attention_mask=mask[:, :end], past_key_values=cache)
        assert output.past_key_values is cache
        parts.append(output.logits)
        start = end
    whole = model(tokens_BT, attention_mask=mask, use_cache=False).logits
    read_BT = mask.bool()
    torch.testing.assert_close(torch.cat(parts, dim=1)[read_BT], whole[read_BT], rtol=1e-4, atol=1e-5)


def test_generate_continue_from_past_key_values(model: APTForCausalLM) -> None:
    prompt = torch.tensor([PROMPTS[3]])
    settings = {"do_sample": False, "eos_token_id": -1, "return_dict_in_generate": True}
    at_once = model.generate(prompt, max_new_tokens=7, **settings)
    first = model.generate(prompt, max_new_tokens=3, **settings)
    rest = model.generate(first.sequences, past_key_values=first.past_key_values, max_new_tokens=4, **settings)
    assert torch.equal(rest.sequences, at_once.sequences)


def test_scores_are_our_logits(network: APT, model: APTForCausalLM) -> None:
    prompt = torch.tensor([PROMPTS[1]])
    output = model.generate(
        prompt, max_new_tokens=4, do_sample=False, eos_token_id=-1, return_dict_in_generate=True, output_logits=True
    )
    with torch.no_grad():
        ours = network(output.sequences)[0, prompt.shape[1] - 1 : -1]
    torch.testing.assert_close(torch.cat(output.logits), ours, rtol=1e-4, atol=1e-5)
