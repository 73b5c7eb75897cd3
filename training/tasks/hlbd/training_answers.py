"""Answers of a trained model to its own training questions, generated freely and greedily.

They show "it has learned these rows", no more; `tools/verify_hlbd_model.py` shows what it understood.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from apt_model.generation import answer_prompts
from apt_model.model import APT
from apt_model.tokenizer import DynamicTagTokenizer
from training.errors import printable, without_middle
from training.language.messages import Message
from training.tasks.hlbd.files import Sample

FIRST_QUESTIONS = 16
"""Number of questions by which the time of one is measured."""
LONGEST_NAME = 40
"""Characters of a module's name that are shown."""


@dataclass(frozen=True)
class Answered:
    """Sample with the model's answer."""

    sample: Sample
    answer: str

    @property
    def is_right(self) -> bool:
        """Return True if the answer is exactly the expected text, in any Unicode normal form."""
        return unicodedata.normalize("NFC", self.answer) == unicodedata.normalize("NFC", self.sample.answer)


def evenly_chosen(samples: Sequence[Sample], limit: int) -> list[Sample]:
    """Return all samples, or `limit` of them spread evenly over the list."""
    if len(samples) <= limit:
        return list(samples)
    return [samples[i * len(samples) // limit] for i in range(limit)]


def spread_order(count: int) -> list[int]:
    """Return the numbers below `count` in an order of which every beginning is spread evenly (van der Corput's)."""
    bits = (count - 1).bit_length()
    return sorted(range(count), key=lambda number: f"{number:0{bits}b}"[::-1])


def recite(
    model: nn.Module,
    tokenizer: DynamicTagTokenizer,
    samples: Sequence[Sample],
    seconds: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Answered]:
    """Return greedy answers to the samples' prompts, in the samples' order.

    An answer may be a little longer than the longest expected one before it is cut: a longer one is wrong anyway.

    Args:
        model: an APT, or any module that is called as `model(tokens_BT, positions_N)` and returns logits (N, V).
        tokenizer: the samples' tokenizer.
        samples: the samples to ask, one or more.
        seconds: time to keep to: no more are asked than fit into it, evenly chosen; None: all are asked.
        clock: seconds, from any beginning.
    """
    longest = max(len(tokenizer.encode(s.answer)) for s in samples) + 4
    if seconds is None:
        texts = _answers(model, tokenizer, [s.prompt for s in samples], longest)
        return [Answered(sample, text) for sample, text in zip(samples, texts, strict=True)]
    order, started, found = spread_order(len(samples)), clock(), dict[int, str]()
    size = FIRST_QUESTIONS
    while size and len(found) < len(order):
        asked = order[len(found) : len(found) + size]
        found |= zip(asked, _answers(model, tokenizer, [samples[i].prompt for i in asked], longest), strict=True)
        taken = max(clock() - started, 1e-9)
        size = min(4 * size, int(max(0.0, seconds - taken) / taken * len(found)))
    return [Answered(samples[i], found[i]) for i in sorted(found)]


def _answers(model: nn.Module, tokenizer: DynamicTagTokenizer, prompts: Sequence[str], longest: int) -> list[str]:
    if not isinstance(model, APT):
        return _answers_without_cache(model, tokenizer, prompts, longest)
    answers = dict(answer_prompts(model, tokenizer, prompts, max_new_tokens=longest))
    return [answers[i] for i in range(len(prompts))]


@torch.inference_mode()
def _answers_without_cache(
    model: nn.Module, tokenizer: DynamicTagTokenizer, prompts: Sequence[str], max_new_tokens: int, rows: int = 64
) -> list[str]:
    """Answer greedily, reading the whole text again for every token: for networks without an APT's cache."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    found: list[str] = []
    for start in range(0, len(prompts), rows):
        texts = [tokenizer.prompt_ids(prompt) for prompt in prompts[start : start + rows]]
        answers: list[list[int]] = [[] for _ in texts]
        open_rows = list(range(len(texts)))
        for _ in range(max_new_tokens):
            width = max(len(texts[row]) + len(answers[row]) for row in open_rows)
            tokens_BT = torch.full((len(open_rows), width), tokenizer.pad_id)
            ends = []
            for line, row in enumerate(open_rows):
                ids = [*texts[row], *answers[row]]
                tokens_BT[line, : len(ids)] = torch.tensor(ids)
                ends.append(line * width + len(ids) - 1)
            logits_NV = model(tokens_BT.to(device), torch.tensor(ends, device=device))
            for row, token in zip(open_rows, logits_NV.argmax(dim=-1).tolist(), strict=True):
                answers[row].append(token)
            open_rows = [row for row in open_rows if answers[row][-1] != tokenizer.eos_id]
            if not open_rows:
                break
        found += [tokenizer.decode([token for token in ids if token != tokenizer.eos_id]) for ids in answers]
    model.train(was_training)
    return found


def accuracy_by_module(answered: Sequence[Answered]) -> dict[str, tuple[int, int]]:
    """Return module -> (right, all), in order of first appearance."""
    counts: dict[str, tuple[int, int]] = {}
    for item in answered:
        right, total = counts.get(item.sample.module, (0, 0))
        counts[item.sample.module] = (right + item.is_right, total + 1)
    return counts


def table(answered: Sequence[Answered]) -> Iterator[str]:
    """Yield lines: accuracy per module and overall, then five examples, from different modules as far as possible."""
    yield from score_lines(accuracy_by_module(answered))
    yield Message("examples:")
    for item in _examples(answered, 5):
        right = item.sample.answer
        yield Message(
            "  {question} → {answer}  ({verdict})",
            question=item.sample.prompt,
            answer=item.answer or Message("(nothing)"),
            verdict=Message("right") if item.is_right else Message("wrong, expected {answer}", answer=right),
        )


def _examples(answered: Sequence[Answered], count: int) -> list[Answered]:
    by_module: dict[str, list[Answered]] = {}
    for item in answered:
        by_module.setdefault(item.sample.module, []).append(item)
    columns = [items[len(items) // 2 :] + items[: len(items) // 2] for items in by_module.values()]
    rounds = max(map(len, columns))
    return [items[n] for n in range(rounds) for items in columns if n < len(items)][:count]


def score_lines(counts: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    """Yield one line per module and one for all.

    Args:
        counts: module -> (right, asked), at least one.
    """
    rows = [(without_middle(printable(module), LONGEST_NAME), count) for module, count in counts.items()]
    width = max([len(name) for name, _ in rows] + [len("overall")])
    right, asked = (sum(column) for column in zip(*counts.values(), strict=True))
    for module, (of_module, asked_of_it) in [*rows, ("overall", (right, asked))]:
        yield f"  {module:<{width}}  {of_module:>5} / {asked_of_it:<5} {of_module / asked_of_it:7.1%}"
