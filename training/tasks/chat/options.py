"""Settings of the task chat. No torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from training.tasks.causal_lm.options import LanguageOptions


class ChatOptions(LanguageOptions):
    """Chats whose answers are learned."""

    decides_loss: ClassVar[frozenset[str]] = LanguageOptions.decides_loss | {
        "chat_format", "chat_template", "loss_on", "truncate",
    }  # fmt: skip

    chat_format: Literal["messages", "sharegpt", "alpaca", "prompt_completion", "question_answer"] | None = Field(
        None,
        description="Form of the rows. None: found from their keys; where two forms have them, you are asked.",
    )
    chat_template: str | None = Field(
        None,
        min_length=1,
        description="chatml, llama3, gemma, zephyr, plain, or a file with a Jinja template. None: the tokenizer's own, "
        "and chatml where it has none but the tokens for it.",
        json_schema_extra={"metavar": "NAME_OR_FILE", "goes_along": True},
    )
    loss_on: Literal["assistant", "last", "completion", "all"] = Field(
        "assistant",
        description="Tokens that are learned. assistant: each of its turns with the token that ends it; last: its last "
        "turn; completion: its turns behind the prompt; all: every token.",
    )
    truncate: bool = Field(
        False,
        description="Cut rows longer than max_seq_len at their end instead of refusing to start; one that loses its "
        "whole answer is left out.",
    )
