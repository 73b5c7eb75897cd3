"""One answer: how it ends, and the certificate that counts answers which end by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.small_apts import TOKENIZER, small_apt
from tests.third_party.model.apt_averaging_model import AveragingFamily, AveragingOptions
from training.errors import UserError
from training.models.apt.family import APTFamily
from training.models.protocol import ModelFamily
from training.tasks.answers.answer import Answer, Ending
from training.tasks.answers.sampling import Chooser, Sampling
from training.tasks.answers.stop_certificate import certify_stops, prompt_of
from training.tasks.hlbd.prompt import QuestionPrompt

FORMAT = QuestionPrompt(TOKENIZER)
LENGTH = 24
Pair = tuple[ModelFamily, nn.Module]


def apt() -> Pair:
    return APTFamily(), small_apt()


def averaging() -> Pair:
    torch.manual_seed(0)
    family = AveragingFamily()
    return family, family.build(AveragingOptions(model="averaging"), TOKENIZER.vocab_size)


@pytest.fixture(params=[apt, averaging])
def pair(request: pytest.FixtureRequest) -> Pair:
    made: Pair = request.param()
    return made


def answer_of(pair: Pair, prompt: list[int], stops: set[int], longest: int) -> Answer:
    family, model = pair
    return Answer(
        family, model, prompt, stops=stops, decoder=FORMAT.decoder(), choose=Chooser(Sampling()),
        max_new_tokens=longest, context_length=LENGTH,
    )  # fmt: skip


def greedy(pair: Pair, prompt: list[int], count: int) -> list[int]:
    family, model = pair
    return list(family.stream(model, prompt, count, lambda logits_V: int(logits_V.argmax())))


def test_an_answer_ends_by_a_stop_token_its_limit_or_the_context(pair: Pair) -> None:
    prompt = TOKENIZER.prompt_ids("ra")
    tokens = greedy(pair, prompt, 5)
    stop = tokens[-1]
    stopped = answer_of(pair, prompt, {stop}, 10)
    pieces = list(stopped)
    assert stopped.ending == Ending.STOP
    assert stopped.num_tokens == tokens.index(stop)
    assert "".join(pieces) == stopped.text == TOKENIZER.decode(tokens[: tokens.index(stop)])

    limited = answer_of(pair, prompt, set(), 5)
    assert len([*limited]) == 6, "a piece for each token, and what is left"
    assert (limited.ending, limited.num_tokens) == (Ending.LIMIT, 5)
    assert limited.text == TOKENIZER.decode(tokens)

    cut = answer_of(pair, prompt, set(), 1000)
    assert [*cut]
    assert (cut.ending, cut.num_tokens) == (Ending.CONTEXT, LENGTH - len(prompt))


def test_a_prompt_that_leaves_no_room_is_refused(pair: Pair) -> None:
    with pytest.raises(UserError, match="the prompt has 24 tokens, and the model reads 24 together with its answer"):
        answer_of(pair, TOKENIZER.prompt_ids("r" * (LENGTH - 2)), set(), 1)


def test_the_certificate_counts_the_answers_that_end_by_themselves(pair: Pair) -> None:
    family, model = pair
    prompts = [TOKENIZER.prompt_ids(text) for text in ("r", "in", "12")]
    tokens = [greedy(pair, prompt, 6) for prompt in prompts]
    stop = tokens[0][2]
    ends = [stop in answer for answer in tokens]
    lengths = tuple(answer.index(stop) if stop in answer else 6 for answer in tokens)
    certificate = certify_stops(family, model, [*prompts, [], [9] * LENGTH], stops={stop}, longest=6, context_length=24)
    assert certificate.facts() == {"asked": 3, "ended": sum(ends), "longest": 6, "lengths": list(lengths)}
    assert [*certificate.lines()] == [f"stop    {sum(ends)} of 3 answers end by themselves within 6 tokens"]

    seconds = iter([0.0, 1.0, 3.0])
    short = certify_stops(family, model, prompts, stops={stop}, longest=6, seconds=2.0, clock=lambda: next(seconds))
    assert short.lengths == lengths[:2]
    assert [*certify_stops(family, model, [], stops={stop}).lines()] == []


def test_a_samples_prompt_is_what_comes_before_its_first_trained_token() -> None:
    tokens = np.arange(5, dtype=np.int32)
    assert prompt_of(tokens, np.array([False, False, True, False, True])) == [0, 1]
    assert prompt_of(tokens, np.array([False, True, True, True, True])) == [], "every token of it is learned"
    assert prompt_of(tokens, np.zeros(5, dtype=np.bool_)) == []
