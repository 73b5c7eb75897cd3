"""Form in which a finished model is asked, and which tokens end its answer. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from training.errors import UserError
from training.models.tokenizers import first_tokens, unknown_characters
from training.tasks.answers.text_decoder import Decoder, TextDecoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Turns = Sequence[Mapping[str, str]]
"""Messages with `role` (system, user, assistant) and `content`; the last one is the user's."""


class PromptFormat(Protocol):
    """Protocol of how a task's finished model is asked."""

    holds_conversation: ClassVar[bool]
    """True if the model reads earlier turns and a system message."""
    continues_text: ClassVar[bool]
    """True if the answer goes on with the prompt's own text, so that white space at its end matters."""
    stops: frozenset[int]
    """Tokens that end an answer, as it was trained."""

    def encode(self, turns: Turns) -> list[int]:
        """Return the tokens that ask for an answer.

        Args:
            turns: messages; without `holds_conversation` only the last one.

        Raises:
            UserError: the turns cannot be asked.
        """
        ...

    def unknown(self, text: str) -> list[str]:
        """Return the characters of a text that the model cannot read."""
        ...

    def is_added(self, token: int) -> bool:
        """Return whether a token is none of texts, such as one that a model's file says it stops at."""
        ...

    def decoder(self) -> Decoder:
        """Return a decoder for one answer."""
        ...


class TokenizerFormat:
    """Base of the forms for a tokenizer of transformers.

    Args:
        tokenizer: the model's tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.stops = frozenset() if tokenizer.eos_token_id is None else frozenset({int(tokenizer.eos_token_id)})
        self._added = frozenset(tokenizer.get_added_vocab().values())

    def unknown(self, text: str) -> list[str]:
        """See `PromptFormat.unknown`."""
        return unknown_characters(self.tokenizer, text)

    def is_added(self, token: int) -> bool:
        """See `PromptFormat.is_added`."""
        return token in self._added

    def decoder(self) -> Decoder:
        """See `PromptFormat.decoder`."""
        return TextDecoder(self.tokenizer)


class ContinuationFormat(TokenizerFormat):
    """Form of a model that continues a text: the text itself, after the tokenizer's first token."""

    holds_conversation: ClassVar[bool] = False
    continues_text: ClassVar[bool] = True

    def encode(self, turns: Turns) -> list[int]:
        """See `PromptFormat.encode`."""
        ids = self.tokenizer(turns[-1]["content"], add_special_tokens=False, verbose=False)["input_ids"]
        if not ids:
            raise UserError("the tokenizer makes no token of this prompt; give another one")
        return [*first_tokens(self.tokenizer), *ids]
