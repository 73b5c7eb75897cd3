"""What a trained model answers when it is asked its own training questions, freely and greedily.

This says "it has learned these rows", no more; `tools/verify_hlbd_model.py` says what it understood.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from apt_model.generation import answer_prompts
from apt_model.model import APT
from apt_model.tokenizer import DynamicTagTokenizer
from training.tasks.hlbd.files import Sample
from training.tasks.hlbd.score_table import score_lines


@dataclass(frozen=True)
class Answered:
    """A sample and what the model said."""

    sample: Sample
    answer: str

    @property
    def is_right(self) -> bool:
        """Exactly the expected text, whatever its Unicode normal form."""
        return unicodedata.normalize("NFC", self.answer) == unicodedata.normalize("NFC", self.sample.answer)


def evenly_chosen(samples: Sequence[Sample], limit: int) -> list[Sample]:
    """All samples, or `limit` of them spread evenly over the list."""
    if len(samples) <= limit:
        return list(samples)
    return [samples[i * len(samples) // limit] for i in range(limit)]


def recite(model: APT, tokenizer: DynamicTagTokenizer, samples: Sequence[Sample]) -> list[Answered]:
    """Greedy answers to the samples' prompts, in the samples' order.

    An answer may grow a little beyond the longest expected one before it is cut: longer is wrong anyway.
    """
    longest = max(len(tokenizer.encode(s.answer)) for s in samples)
    answers = dict(answer_prompts(model, tokenizer, [s.prompt for s in samples], max_new_tokens=longest + 4))
    return [Answered(sample, answers[i]) for i, sample in enumerate(samples)]


def accuracy_by_module(answered: Sequence[Answered]) -> dict[str, tuple[int, int]]:
    """module -> (right, all), in order of first appearance."""
    counts: dict[str, tuple[int, int]] = {}
    for item in answered:
        right, total = counts.get(item.sample.module, (0, 0))
        counts[item.sample.module] = (right + item.is_right, total + 1)
    return counts


def table(answered: Sequence[Answered]) -> Iterator[str]:
    """Lines: accuracy per module and overall, then five examples, one of each module as far as they go."""
    yield from score_lines(accuracy_by_module(answered))
    yield "examples:"
    for item in _examples(answered, 5):
        verdict = "right" if item.is_right else f"wrong, expected {item.sample.answer}"
        yield f"  {item.sample.prompt} → {item.answer or '(nothing)'}  ({verdict})"


def _examples(answered: Sequence[Answered], count: int) -> list[Answered]:
    by_module: dict[str, list[Answered]] = {}
    for item in answered:
        by_module.setdefault(item.sample.module, []).append(item)
    columns = [items[len(items) // 2 :] + items[: len(items) // 2] for items in by_module.values()]
    rounds = max(map(len, columns))
    return [items[n] for n in range(rounds) for items in columns if n < len(items)][:count]
