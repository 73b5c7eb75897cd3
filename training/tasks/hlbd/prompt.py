"""Form in which a model that was trained on HLBD is asked: `[BOS] question [SEP]`. No torch."""

from __future__ import annotations

from typing import ClassVar

from apt_model.tokenizer import DynamicTagTokenizer
from training.tasks.answers.prompt_format import Turns
from training.tasks.answers.text_decoder import Decoder


class QuestionPrompt:
    """Form of a question.

    Args:
        tokenizer: tokenizer of the training data.
    """

    holds_conversation: ClassVar[bool] = False
    continues_text: ClassVar[bool] = False

    def __init__(self, tokenizer: DynamicTagTokenizer) -> None:
        self._tokenizer = tokenizer
        self.stops = frozenset({tokenizer.eos_id})

    def encode(self, turns: Turns) -> list[int]:
        """See `PromptFormat.encode`."""
        return self._tokenizer.prompt_ids(turns[-1]["content"])

    def unknown(self, text: str) -> list[str]:
        """See `PromptFormat.unknown`."""
        return list(self._tokenizer.unknown([text]))

    def is_added(self, token: int) -> bool:
        """See `PromptFormat.is_added`."""
        return token in (self._tokenizer.pad_id, self._tokenizer.bos_id, self._tokenizer.sep_id, self._tokenizer.eos_id)

    def decoder(self) -> Decoder:
        """See `PromptFormat.decoder`."""
        return _Decoder(self._tokenizer)


class _Decoder:
    """Decoder of whole characters and tags."""

    def __init__(self, tokenizer: DynamicTagTokenizer) -> None:
        self._tokenizer = tokenizer

    def add(self, token: int) -> str:
        """See `Decoder.add`."""
        return self._tokenizer.decode([token])

    def finish(self) -> str:
        """See `Decoder.finish`: no character is ever open."""
        return ""
