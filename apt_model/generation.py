"""Free-running greedy generation, batched, with the key-value cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import torch

from apt_model.model import APT, KVCache
from apt_model.tokenizer import DynamicTagTokenizer


class GeneratedAnswer(NamedTuple):
    """New tokens, with the model's confidence in them."""

    ids: list[int]
    log_probability: float
    """Natural logarithm of the probability of exactly this answer: its tokens and the final `eos_id`."""
    margin: float
    """Smallest lead of a chosen token over the runner-up, in logits; below rounding error, the choice was arbitrary."""


@torch.inference_mode()
def generate_ids(model: APT, prompts: Sequence[Sequence[int]], eos_id: int, max_new_tokens: int) -> list[list[int]]:
    """Continue each prompt with its most probable tokens, until `eos_id` (left out) or `max_new_tokens`.

    Args:
        model: in any mode; it runs in eval mode and is switched back afterwards.
        prompts: token ids, one or more each, at most `max_seq_len`; lengths may differ.
        eos_id: the token that ends an answer.
        max_new_tokens: limit per prompt; a prompt near `max_seq_len` gets fewer.

    Returns:
        New ids of each prompt, in the prompts' order. Weights are used in their own dtype, without autocast.
    """
    was_training = model.training
    model.eval()
    try:
        return _generate(model, prompts, eos_id, max_new_tokens)
    finally:
        model.train(was_training)


@torch.inference_mode()
def generate_answers(
    model: APT, prompts: Sequence[Sequence[int]], eos_id: int, max_new_tokens: int
) -> list[GeneratedAnswer]:
    """Return the ids of `generate_ids`, with the model's confidence in them. The arguments are the same."""
    was_training = model.training
    model.eval()
    try:
        scores = _Scores(len(prompts), model.embedding.weight.device)
        answers = _generate(model, prompts, eos_id, max_new_tokens, scores)
    finally:
        model.train(was_training)
    found = zip(answers, scores.log_probability_B.tolist(), scores.margin_B.tolist(), strict=True)
    return [GeneratedAnswer(*answer) for answer in found]


class _Scores:
    """Confidence in each prompt's answer, summed token by token."""

    def __init__(self, batch_size: int, device: torch.device) -> None:
        self.log_probability_B = torch.zeros(batch_size, device=device)
        self.margin_B = torch.full((batch_size,), torch.inf, device=device)

    def add(self, rows_N: torch.Tensor, logits_NV: torch.Tensor) -> None:
        """Add the most probable token of these rows; the end token counts, and no token after it is passed in."""
        best_N, second_N = logits_NV.topk(2, dim=-1).values.unbind(-1)
        self.log_probability_B[rows_N] += best_N - logits_NV.logsumexp(dim=-1)
        self.margin_B[rows_N] = torch.minimum(self.margin_B[rows_N], best_N - second_N)


def _generate(
    model: APT,
    prompts: Sequence[Sequence[int]],
    eos_id: int,
    max_new_tokens: int,
    scores: _Scores | None = None,
) -> list[list[int]]:
    device = model.embedding.weight.device
    answers: list[list[int]] = [[] for _ in prompts]
    limit = model.config.max_seq_len
    lengths_B = torch.tensor([len(p) for p in prompts], device=device)
    longest = int(lengths_B.max())
    tokens_BT = torch.zeros(len(prompts), longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        tokens_BT[row, : len(prompt)] = torch.tensor(prompt)
    tokens_BT = tokens_BT.to(device)
    positions_BT = torch.arange(longest, device=device).expand_as(tokens_BT)
    cache = KVCache(model.config, len(prompts), longest + max_new_tokens, model.embedding.weight)
    hidden_BTD = model.step(tokens_BT, positions_BT, positions_BT < lengths_B[:, None], cache)
    last_BD = hidden_BTD[torch.arange(len(prompts), device=device), lengths_B - 1]
    rows_B = torch.arange(len(prompts), device=device)  # the prompt that each row of the shrinking batch belongs to
    for _ in range(max_new_tokens):
        logits_BV = model.head(last_BD)
        next_B = logits_BV.argmax(dim=-1)
        if scores is not None:
            # A token that has no room left is not part of the answer; the end token is.
            said = ((next_B == eos_id) | (lengths_B < limit)).nonzero().squeeze(1)
            scores.add(rows_B[said], logits_BV[said].float())
        goes_on_B = (next_B != eos_id) & (lengths_B < limit)
        kept = goes_on_B.nonzero().squeeze(1)
        for row, token in zip(rows_B[kept].tolist(), next_B[kept].tolist(), strict=True):
            answers[row].append(token)
        if len(kept) == 0:
            break
        if len(kept) < len(next_B):
            cache.keep_rows(kept)
            rows_B, lengths_B, next_B = rows_B[kept], lengths_B[kept], next_B[kept]
        step_B1 = next_B[:, None]
        hidden_B1D = model.step(step_B1, lengths_B[:, None], torch.ones_like(step_B1, dtype=torch.bool), cache)
        last_BD = hidden_B1D[:, 0]
        lengths_B = lengths_B + 1
    return answers


@torch.inference_mode()
def _read(model: APT, tokens: Sequence[int], cache: KVCache) -> torch.Tensor:
    """Read tokens of one row with its cache; return the logits (V,) after the last one, in fp32."""
    device = model.embedding.weight.device
    tokens_1T = torch.tensor([list(tokens)], device=device)
    positions_1T = torch.arange(cache.used, cache.used + len(tokens), device=device).unsqueeze(0)
    hidden_1TD = model.step(tokens_1T, positions_1T, torch.ones_like(tokens_1T, dtype=torch.bool), cache)
    return cast(torch.Tensor, model.head(hidden_1TD[0, -1]).float())


def stream_ids(
    model: APT, prompt: Sequence[int], max_new_tokens: int, choose: Callable[[torch.Tensor], int]
) -> Iterator[int]:
    """Yield new tokens after a prompt, one by one, until `max_new_tokens` or the model's last position.

    Args:
        model: in any mode; it runs in eval mode and is switched back afterwards.
        prompt: token ids, one or more, at most `max_seq_len`.
        max_new_tokens: limit.
        choose: function from the logits (V,) in fp32 to the next token.
    """
    was_training = model.training
    model.eval()
    try:
        room = min(max_new_tokens, model.config.max_seq_len - len(prompt))
        cache = KVCache(model.config, 1, len(prompt) + room, model.embedding.weight)
        tokens = prompt
        for _ in range(room):
            token = choose(_read(model, tokens, cache))
            yield token
            tokens = [token]
    finally:
        model.train(was_training)


def answer_prompts(
    model: APT,
    tokenizer: DynamicTagTokenizer,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int = 256,
) -> Iterator[tuple[int, str]]:
    """Yield greedy answers to question texts, as (index of the prompt, answer), shortest prompts first.

    Prompts of similar length share a batch, so there is little padding. A prompt too long for the model gets an
    empty answer.
    """
    encoded = [tokenizer.prompt_ids(p) for p in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
    readable = [i for i in order if len(encoded[i]) <= model.config.max_seq_len]
    for start in range(0, len(readable), batch_size):
        chosen = readable[start : start + batch_size]
        ids = generate_ids(model, [encoded[i] for i in chosen], tokenizer.eos_id, max_new_tokens)
        for i, answer in zip(chosen, ids, strict=True):
            yield i, tokenizer.decode(answer)
    for i in order[len(readable) :]:
        yield i, ""
