"""The one who answers: a small interface, and the trained model behind it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from apt_model.errors import ModelError
from apt_model.generation import GeneratedAnswer, generate_answers
from apt_model.model import APT
from apt_model.tokenizer import DynamicTagTokenizer
from training.checkpoints.finished_model import TrainedModel, load_trained_model, with_its_run
from training.errors import CheckpointError

ARBITRARY_MARGIN = 1e-3
"""A lead in logits that another order of summation could reverse: fp32 rounding moves the logits by about 1e-5."""


class Answer(NamedTuple):
    """One answer."""

    text: str
    confidence: float | None = None
    """The answerer's own probability that its answer is exactly right, 0 to 1; None: it states none."""


class Answerer(Protocol):
    """Anything that answers questions: a model, or a scripted cheater in a test."""

    def answer(self, prompts: Sequence[str]) -> list[Answer]:
        """Return one answer for each prompt, in order; the same prompt always gets the same answer."""
        ...

    def unknown(self, texts: Iterable[str]) -> Counter[str]:
        """Count the characters in `texts` that it cannot read or write."""
        ...


class ModelAnswerer:
    """A trained model: free-running greedy generation in fp32, in batches, with the key-value cache.

    The answers do not depend on `batch_size`. Rounding does, so a prompt at which two tokens were nearly tied is
    answered again in a batch of its own, which does not depend on the other batches.

    Args:
        model: the model, on its device; its weights are converted to fp32.
        tokenizer: tokenizer of the model.
        max_new_tokens: longest answer in tokens; a longer answer is cut there (and is wrong).
        batch_size: prompts of similar length per forward pass.
    """

    def __init__(self, model: APT, tokenizer: DynamicTagTokenizer, max_new_tokens: int, batch_size: int = 256) -> None:
        self.model = model.float().eval()
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.num_too_long = 0
        """Prompts so far that did not fit into the model; their answer is empty."""

    def answer(self, prompts: Sequence[str]) -> list[Answer]:
        """Answer as `Answerer.answer` says; the confidence is the probability of the whole answer, its end included."""
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
        """Count as `Answerer.unknown` says."""
        return self.tokenizer.unknown(texts)


def load_hlbd_model(path: Path) -> TrainedModel:
    """Load a model that can answer HLBD's questions, from any form that `load_trained_model` reads.

    Args:
        path: model file, checkpoint, or directory.

    Raises:
        CheckpointError: no model is there, it is damaged or of another kind, or its weights are not finite.
    """
    trained = with_its_run(load_trained_model(path))
    if not all(bool(p.isfinite().all()) for p in trained.model.parameters()):
        raise CheckpointError(f"{path}: the model's weights are not finite numbers; verify an earlier checkpoint")
    if not isinstance(trained.model, APT) or not DynamicTagTokenizer.wrote(trained.artefacts.get("tokenizer")):
        raise CheckpointError(f"{path}: the verifier asks an APT that was trained on HLBD, and this is no such model")
    return trained


def answerer_of(trained: TrainedModel, longest_answer: int, device: torch.device, batch_size: int) -> ModelAnswerer:
    """Let a model of `load_hlbd_model` answer.

    Args:
        trained: the model.
        longest_answer: characters in the longest truth; the model may write a little more before it is cut.
        device: the device to compute on.
        batch_size: see `ModelAnswerer`.
    """
    # fp32 means fp32: on a GPU "high" would multiply in TF32.
    torch.set_float32_matmul_precision("highest")
    try:
        tokenizer = DynamicTagTokenizer.from_dict(trained.artefacts["tokenizer"], str(trained.origin))
    except ModelError as error:
        raise CheckpointError(str(error)) from error
    assert isinstance(trained.model, APT)
    return ModelAnswerer(trained.model.to(device), tokenizer, longest_answer + 4, batch_size)
