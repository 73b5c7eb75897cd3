"""Tokens of an answer as text, piece by piece: no piece holds half of a character. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from training.models.tokenizers import control_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BROKEN = "\ufffd"
"""Character that stands for bytes that are no character, or not yet."""
MOST_HELD = 16
"""Tokens after which bytes are no longer taken for the beginning of a character, which has four at most."""


class Decoder(Protocol):
    """Protocol of what turns the tokens of one answer into text."""

    def add(self, token: int) -> str:
        """Return the text that is whole with this token; often that of the token, empty while a character is open."""
        ...

    def finish(self) -> str:
        """Return what is left at the end of the answer."""
        ...


class TextDecoder:
    """Decoder for a tokenizer of transformers. All pieces together are the text that it makes of all tokens at once.

    A token may be a part of a character (a Chinese one has three bytes, an emoji four), and the text of a token may
    depend on the one before it, so a few tokens are decoded together, from a place at which all characters are whole.

    Args:
        tokenizer: the tokenizer; its control tokens are no text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._control = control_tokens(tokenizer)
        self._open: list[int] = []
        self._whole = 0
        """Number of the open tokens whose text was whole; they are the context of the others."""
        self._shown = ""
        """Text of the open tokens that was returned before."""

    def add(self, token: int) -> str:
        """See `Decoder.add`."""
        if token in self._control:
            return ""
        self._open.append(token)
        text = self._decode(self._open)
        is_held = text.endswith(BROKEN) and len(self._open) - self._whole <= MOST_HELD
        piece = self._new(text.rstrip(BROKEN) if is_held else text)
        if not is_held:
            rest = self._open[self._whole :]
            if context := self._decode(rest):  # a text that begins with nothing would be decoded as a beginning
                self._open, self._shown = rest, context
            self._whole = len(self._open)
        return piece

    def finish(self) -> str:
        """See `Decoder.finish`."""
        return self._new(self._decode(self._open))

    def _new(self, text: str) -> str:
        """Return what of a text of the open tokens was not returned yet."""
        if len(text) <= len(self._shown):  # some decoders take back whole characters until the next one is whole
            return ""
        piece, self._shown = text[len(self._shown) :], text
        return piece

    def _decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, clean_up_tokenization_spaces=False))
