"""Finished model that answers: read from whatever a training or somebody else left behind, and asked as it was trained.

No torch at import.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training.errors import CheckpointError
from training.models.tokenizers import FILES
from training.settings.tree import DEFAULT_TASK
from training.tasks.answers.answer import Answer
from training.tasks.answers.prompt_format import PromptFormat, Turns
from training.tasks.chat.prompt import ChatPrompt
from training.tasks.registry import TASKS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from training.checkpoints.finished_model import TrainedModel


@dataclass(frozen=True)
class Speaker:
    """Model with the form in which it is asked. `load_speaker` makes one."""

    trained: TrainedModel
    """Its network is on the device, in fp32, in eval mode."""
    format: PromptFormat
    context_length: int | None
    """Tokens of a prompt and its answer together; None: the network names no limit."""
    stops: frozenset[int]
    """Tokens that end an answer."""

    def describe(self) -> str:
        """Describe the network in a few words."""
        return self.trained.family.describe(self.trained.options, self.trained.num_parameters())

    def answer(self, turns: Turns, choose: Callable[[Tensor], int], max_new_tokens: int) -> Answer:
        """Return the answer to messages, which is written while it is iterated over.

        Args:
            turns: messages; without `format.holds_conversation` only the last one is asked.
            choose: function from the logits (V,) to the next token.
            max_new_tokens: limit.

        Raises:
            UserError: the messages cannot be asked, or leave no room for an answer.
        """
        return self.answer_tokens(self.format.encode(turns), choose, max_new_tokens)

    def answer_tokens(self, prompt: list[int], choose: Callable[[Tensor], int], max_new_tokens: int) -> Answer:
        """Return the answer to tokens that `format.encode` returned.

        Raises:
            UserError: they leave no room for an answer.
        """
        return Answer(
            self.trained.family,
            self.trained.model,
            prompt,
            stops=self.stops,
            decoder=self.format.decoder(),
            choose=choose,
            max_new_tokens=max_new_tokens,
            context_length=self.context_length,
        )


def load_speaker(path: Path, device: torch.device) -> Speaker:
    """Read a model in fp32 from anything that `load_trained_model` reads, onto a device.

    Raises:
        UserError: there is no model or no tokenizer, one is damaged, or its task has no words.
    """
    import torch

    from training.checkpoints.finished_model import load_trained_model, with_its_run

    trained = with_its_run(load_trained_model(path))
    if trained.family.inputs != "tokens":
        raise CheckpointError(f"{path}: this model reads {trained.family.inputs}, so nothing can be said to it")
    if not all(bool(parameter.isfinite().all()) for parameter in trained.model.parameters()):
        raise CheckpointError(f"{path}: the model's weights are not finite numbers; take an earlier checkpoint")
    form = prompt_format_of(trained)
    torch.set_float32_matmul_precision("highest")  # fp32 means fp32: on a GPU "high" would multiply in TF32
    trained.model.float().to(device).eval()
    named = frozenset(token for token in trained.family.stop_tokens(trained.model) if form.is_added(token))
    limit = trained.family.context_length(trained.model, trained.options)
    return Speaker(trained, form, limit, form.stops | named)


def prompt_format_of(trained: TrainedModel) -> PromptFormat:
    """Return the form in which a model was trained; where nothing says its task, its tokenizer does.

    Raises:
        UserError: there is no tokenizer, or it is damaged.
    """
    family, artefacts, where = trained.family, trained.artefacts, str(trained.origin)
    if trained.settings is not None and (task := trained.settings.get("task")) is not None:
        return TASKS.load(str(task))().prompt_format(family, artefacts, where)
    if FILES not in artefacts:  # no tokenizer of transformers: the form of the first task, which says what is missing
        return TASKS.load(DEFAULT_TASK)().prompt_format(family, artefacts, where)
    tokenizer = family.tokenizer(artefacts, where)
    if tokenizer.chat_template:
        return ChatPrompt(tokenizer)
    return TASKS.load("text")().prompt_format(family, artefacts, where)
