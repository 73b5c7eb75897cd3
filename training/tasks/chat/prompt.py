"""Form in which a model that was trained on chats is asked: its chat template. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from training.errors import DataError, UserError
from training.tasks.answers.prompt_format import TokenizerFormat, Turns
from training.tasks.chat.masks import end_of_turn, token_ids
from training.tasks.chat.template import find_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class ChatPrompt(TokenizerFormat):
    """Form of a chat: the rendered messages, and the text that asks for the assistant's turn.

    Args:
        tokenizer: the model's tokenizer, with its chat template.

    Raises:
        UserError: it has no template, or one that Jinja cannot read.
    """

    holds_conversation: ClassVar[bool] = True
    continues_text: ClassVar[bool] = False

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(tokenizer)
        self._template = find_template(None, tokenizer)
        stop = end_of_turn(tokenizer, self._template)
        self.stops = self.stops if stop is None else self.stops | {stop}

    def encode(self, turns: Turns) -> list[int]:
        """See `PromptFormat.encode`."""
        try:
            text = self._template.render(turns, None, "the conversation", add_generation_prompt=True)
        except DataError as error:
            system = " (it may know no system message: leave it out)" if turns[0]["role"] == "system" else ""
            raise UserError(f"{self._template.name} refuses the conversation{system}: {error.__cause__}") from error
        ids = token_ids(self.tokenizer, text)
        if not ids:
            raise UserError(f"{self._template.name} makes no token of the conversation")
        return ids
