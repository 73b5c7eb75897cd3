"""Greedy generation: the cache changes nothing but the time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apt_model.config import ModelConfig
from apt_model.generation import GeneratedAnswer, answer_prompts, generate_answers, generate_ids
from apt_model.model import APT
from apt_model.tokenizer import DynamicTagTokenizer

V, LIMIT = 13, 16
NEVER = -1
"""An end-of-sequence id that no model gives."""

PROMPTS = st.lists(st.lists(st.integers(0, V - 1), min_size=1, max_size=LIMIT), min_size=1, max_size=5)


def lively(**changes: Any) -> APT:
    """A small model with strong random weights, so that what it says depends on all that it read."""
    shape = {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 24, "max_seq_len": LIMIT, "vocab_size": V}
    model = APT(ModelConfig.model_validate({"tie_embeddings": False, **shape, **changes}))
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model.eval()


MODELS = {attention: lively(attention=attention) for attention in ("autopoietic", "standard")}
MODEL = MODELS["autopoietic"]


@torch.inference_mode()
def answer_without_cache(model: APT, prompt: list[int], eos_id: int, max_new_tokens: int) -> GeneratedAnswer:
    """The definition of greedy generation: read everything anew for every token."""
    read = list(prompt)
    log_probability, margin = 0.0, math.inf
    for _ in range(max_new_tokens):
        if len(read) > model.config.max_seq_len:
            break
        logits = model(torch.tensor([read]))[0, -1]
        token = int(logits.argmax())
        if token != eos_id and len(read) == model.config.max_seq_len:
            break  # there is no room for it: it is no part of the answer
        best, second = logits.topk(2).values
        log_probability += float(best - logits.logsumexp(-1))
        margin = min(margin, float(best - second))
        if token == eos_id:
            break
        read.append(token)
    return GeneratedAnswer(read[len(prompt) :], log_probability, margin)


def without_cache(model: APT, prompt: list[int], eos_id: int, max_new_tokens: int) -> list[int]:
    return answer_without_cache(model, prompt, eos_id, max_new_tokens).ids


def test_the_model_of_these_tests_says_different_things() -> None:
    answers = generate_ids(MODEL, [[i] for i in range(V)], NEVER, 10)
    assert len({tuple(answer) for answer in answers}) == V
    assert len({token for answer in answers for token in answer}) > V // 2


@pytest.mark.parametrize("attention", ["autopoietic", "standard"])
@given(prompts=PROMPTS, eos_id=st.integers(0, V - 1), max_new_tokens=st.integers(0, 18))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_cache_gives_the_same_tokens_as_reading_everything_anew(
    attention: str, prompts: list[list[int]], eos_id: int, max_new_tokens: int
) -> None:
    model = MODELS[attention]
    expected = [without_cache(model, prompt, eos_id, max_new_tokens) for prompt in prompts]
    assert generate_ids(model, prompts, eos_id, max_new_tokens) == expected


@given(prompts=PROMPTS, eos_id=st.integers(0, V - 1), max_new_tokens=st.integers(0, 18))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_the_confidence_is_that_of_the_answer_and_its_end_token(
    prompts: list[list[int]], eos_id: int, max_new_tokens: int
) -> None:
    answers = generate_answers(MODEL, prompts, eos_id, max_new_tokens)
    for prompt, answer in zip(prompts, answers, strict=True):
        expected = answer_without_cache(MODEL, prompt, eos_id, max_new_tokens)
        assert answer.ids == expected.ids
        assert answer.log_probability == pytest.approx(expected.log_probability, rel=1e-4, abs=1e-3)
        assert answer.margin == pytest.approx(expected.margin, rel=1e-4, abs=1e-3)


@given(prompts=PROMPTS, data=st.data())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_an_answer_does_not_depend_on_its_company_or_place(prompts: list[list[int]], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(prompts))))
    together = generate_ids(MODEL, [prompts[i] for i in order], 3, 10)
    assert together == [generate_ids(MODEL, [prompts[i]], 3, 10)[0] for i in order]


def test_the_end_token_stops_its_row_and_is_left_out() -> None:
    prompts = [[1, 2], [3], [4, 5, 6]]
    free = generate_ids(MODEL, prompts, NEVER, 12)
    eos_id = free[0][4]
    expected = [answer[: answer.index(eos_id)] if eos_id in answer else answer for answer in free]
    assert generate_ids(MODEL, prompts, eos_id, 12) == expected
    assert len({len(answer) for answer in expected}) > 1, "rows should stop at different times"


@pytest.mark.parametrize("length", [1, 10, LIMIT - 1, LIMIT])
def test_prompt_and_answer_together_never_exceed_the_longest_sequence(length: int) -> None:
    answers = generate_ids(MODEL, [[1] * length, [2]], NEVER, 2 * LIMIT)
    assert [len(answer) for answer in answers] == [LIMIT - length, LIMIT - 1]


@pytest.mark.parametrize("max_new_tokens", [0, 1, 7])
def test_no_more_than_the_asked_number_of_tokens_is_given(max_new_tokens: int) -> None:
    assert [len(a) for a in generate_ids(MODEL, [[1], [2, 3]], NEVER, max_new_tokens)] == [max_new_tokens] * 2


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_restored(training: bool) -> None:
    model = lively(dropout=0.5).train(training)
    generate_ids(model, [[1, 2]], NEVER, 3)
    assert {module.training for module in model.modules()} == {training}
    with pytest.raises(IndexError):
        generate_ids(model, [[1] * (LIMIT + 1)], NEVER, 3)
    generate_answers(model, [[1, 2]], NEVER, 3)
    assert {module.training for module in model.modules()} == {training}


def test_dropout_never_touches_an_answer() -> None:
    expected = generate_ids(lively(dropout=0.0), [[1, 2], [3]], NEVER, 10)
    assert generate_ids(lively(dropout=0.5).train(), [[1, 2], [3]], NEVER, 10) == expected


@pytest.mark.parametrize("attention", ["autopoietic", "standard"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_of_another_dtype_generate_too(dtype: torch.dtype, attention: str) -> None:
    model = lively(attention=attention).to(dtype)
    answers = generate_ids(model, [[1, 2], [3]], NEVER, 10)
    assert [len(answer) for answer in answers] == [10, 10]
    assert [answer.ids for answer in generate_answers(model, [[1, 2], [3]], NEVER, 10)] == answers
    if dtype == torch.float64:
        assert answers == [without_cache(model, prompt, NEVER, 10) for prompt in ([1, 2], [3])]


# -- question texts ------------------------------------------------------------------------------------------------

TOKENIZER = DynamicTagTokenizer.from_texts(["ab"])
QUESTIONS = ["a", "abba", "", "bbb", "a" * LIMIT, "ba", "[EN]a", "xyz", "ab" * 7]


def test_every_question_is_answered_once_with_its_number() -> None:
    answers = list(answer_prompts(MODEL, TOKENIZER, QUESTIONS, max_new_tokens=8, batch_size=2))
    assert sorted(number for number, _ in answers) == list(range(len(QUESTIONS)))


def test_the_batch_size_does_not_change_answers() -> None:
    one, three, all_at_once = (
        dict(answer_prompts(MODEL, TOKENIZER, QUESTIONS, max_new_tokens=8, batch_size=size)) for size in (1, 3, 256)
    )
    assert one == three == all_at_once
    for number, question in enumerate(QUESTIONS):
        prompt = TOKENIZER.prompt_ids(question)
        if len(prompt) <= LIMIT:
            ids = without_cache(MODEL, prompt, TOKENIZER.eos_id, 8)
            assert one[number] == TOKENIZER.decode(ids)


def test_a_question_too_long_for_the_model_gets_an_empty_answer() -> None:
    assert len(TOKENIZER.prompt_ids(QUESTIONS[4])) > LIMIT
    assert dict(answer_prompts(MODEL, TOKENIZER, QUESTIONS, max_new_tokens=8))[4] == ""


def test_no_questions_are_no_answers() -> None:
    assert list(answer_prompts(MODEL, TOKENIZER, [], max_new_tokens=8)) == []


def test_a_model_with_spare_vocabulary_still_answers_in_text() -> None:
    # `vocab_size` may be given larger than the tokenizer's: the ids beyond it have no text.
    spare = TOKENIZER.vocab_size + 5
    model = lively(vocab_size=spare + 1)
    with torch.no_grad():
        model.head.weight[:-1] = 0.0
        model.head.weight[spare] = 100.0
        model.norm.weight.fill_(1.0)
        model.head.weight[0] = -100.0  # whichever sign the sum has, the answer is [PAD] or the spare token
    answers = dict(answer_prompts(model, TOKENIZER, ["a", "b", "ab", "ba", ""], max_new_tokens=4))
    assert len(answers) == 5
