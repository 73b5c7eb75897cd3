"""One answer of a model as it is written, and how it ended. No torch at import."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING

from training.errors import UserError
from training.models.protocol import ModelFamily
from training.tasks.answers.text_decoder import Decoder

if TYPE_CHECKING:
    from torch import Tensor, nn


class Ending(Enum):
    """Reason for which an answer has ended."""

    STOP = "the model has ended it by a stop token"
    LIMIT = "it has as many tokens as it may have"
    CONTEXT = "the model reads no further"


class Answer:
    """Answer in pieces of text: `for piece in answer: …`, once.

    Args:
        family: the model's family.
        model: bare network.
        prompt: tokens that it answers.
        stops: tokens that end an answer; they are no part of it.
        decoder: makes text of its tokens.
        choose: function from the logits (V,) to the next token.
        max_new_tokens: limit.
        context_length: tokens that the network reads, prompt and answer together; None: any number.

    Raises:
        UserError: the prompt leaves no room for an answer.
    """

    def __init__(
        self,
        family: ModelFamily,
        model: nn.Module,
        prompt: Sequence[int],
        *,
        stops: Collection[int],
        decoder: Decoder,
        choose: Callable[[Tensor], int],
        max_new_tokens: int,
        context_length: int | None,
    ) -> None:
        check_length(prompt, context_length)
        room = max_new_tokens if context_length is None else min(max_new_tokens, context_length - len(prompt))
        self._limit = max_new_tokens
        self._stops, self._decoder = stops, decoder
        self._stream = family.stream(model, prompt, room, choose)
        self.text = ""
        """Text so far."""
        self.num_tokens = 0
        """Tokens so far, without the one that ended it."""
        self.ending: Ending | None = None
        """Reason of the end; None: it goes on, or nobody wanted to hear more."""

    def __iter__(self) -> Iterator[str]:
        """Yield a piece of text for each token, whole characters; empty while one is open, or for a control token."""
        for token in self._stream:
            if token in self._stops:
                self.ending = Ending.STOP
                break
            self.num_tokens += 1
            yield self._said(self._decoder.add(token))
        else:
            self.ending = Ending.CONTEXT if self.num_tokens < self._limit else Ending.LIMIT
        yield self._said(self._decoder.finish())

    def _said(self, piece: str) -> str:
        self.text += piece
        return piece


def check_length(prompt: Sequence[int], context_length: int | None) -> None:
    """Refuse a prompt that leaves no room for an answer.

    Raises:
        UserError: says how long it is, and how long it may be.
    """
    if context_length is not None and len(prompt) >= context_length:
        raise UserError(
            f"the prompt has {len(prompt):,} tokens, and the model reads {context_length:,} together with its answer; "
            "shorten it"
        )
