"""Who answers: anything behind one small interface, and the trained model behind it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from apt_model.generation import GeneratedAnswer, generate_answers
from apt_model.model import APT
from apt_model.tokenizer import DynamicTagTokenizer
from training.checkpoints.finished_model import load_trained_model
from training.errors import CheckpointError

ARBITRARY_MARGIN = 1e-3
"""A lead in logits that the order of summation could turn round: fp32 rounding moves our logits by about 1e-5."""


class Answer(NamedTuple):
    """What was answered."""

    text: str
    confidence: float | None = None
    """The answerer's own probability that its answer is exactly right, 0 to 1; None: it does not say."""


class Answerer(Protocol):
    """Answers questions. Scripted cheaters in the tests are as good as models."""

    def answer(self, prompts: Sequence[str]) -> list[Answer]:
        """One answer to each prompt, in order; the same prompt always gets the same answer."""
        ...

    def unknown(self, texts: Iterable[str]) -> Counter[str]:
        """How often each character that it cannot read or write occurs in `texts`."""
        ...


class ModelAnswerer:
    """A trained model: free-running greedy generation in fp32, in batches, with the key-value cache.

    The answers do not depend on `batch_size`. Rounding does, so a prompt at which two tokens were nearly tied is
    answered again in a batch of its own, which is the same whatever the batches were.

    Args:
        model: on its device; its weights are taken as fp32.
        tokenizer: the model's.
        max_new_tokens: longest answer in tokens; an answer that goes on is cut there (and is wrong).
        batch_size: prompts of like length per forward pass.
    """

    def __init__(self, model: APT, tokenizer: DynamicTagTokenizer, max_new_tokens: int, batch_size: int = 256) -> None:
        self.model = model.float().eval()
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.num_too_long = 0
        """Prompts so far that did not fit into the model; their answer is empty."""

    def answer(self, prompts: Sequence[str]) -> list[Answer]:
        """See `Answerer.answer`. The confidence is the probability of the whole answer, its end included."""
        encoded = [self.tokenizer.prompt_ids(p) for p in prompts]
        limit = self.model.config.max_seq_len
        readable = sorted((i for i, ids in enumerate(encoded) if len(ids) <= limit), key=lambda i: len(encoded[i]))
        self.num_too_long += len(prompts) - len(readable)
        answers = [Answer("", 0.0)] * len(prompts)
        for start in range(0, len(readable), self.batch_size):
            chosen = readable[start : start + self.batch_size]
            for i, found in zip(chosen, self._generate([encoded[i] for i in chosen]), strict=True):
                if found.margin < ARBITRARY_MARGIN and len(chosen) > 1:
                    [found] = self._generate([encoded[i]])
                answers[i] = Answer(self.tokenizer.decode(found.ids), math.exp(min(0.0, found.log_probability)))
        return answers

    def _generate(self, prompts: list[list[int]]) -> list[GeneratedAnswer]:
        return generate_answers(self.model, prompts, self.tokenizer.eos_id, self.max_new_tokens)

    def unknown(self, texts: Iterable[str]) -> Counter[str]:
        """See `Answerer.unknown`."""
        return self.tokenizer.unknown(texts)


def load_answerer(path: Path, longest_answer: int, device: torch.device, batch_size: int) -> ModelAnswerer:
    """The model that any form of ours holds (see `load_trained_model`).

    Args:
        path: file or directory.
        longest_answer: characters of the longest truth; the model may write a little more before it is cut.
        device: where to compute.
        batch_size: see `ModelAnswerer`.

    Raises:
        CheckpointError: nothing of ours is there, it is damaged, or its weights are not finite.
    """
    trained = load_trained_model(path)
    if not all(bool(p.isfinite().all()) for p in trained.model.parameters()):
        raise CheckpointError(f"{path}: the model's weights are not finite numbers; verify an earlier checkpoint")
    # fp32 means fp32: on a GPU "high" would multiply in TF32.
    torch.set_float32_matmul_precision("highest")
    return ModelAnswerer(trained.model.to(device), trained.tokenizer, longest_answer + 4, batch_size)
