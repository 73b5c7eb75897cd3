"""Samples as a person reads them: each piece of text marked as trained or not. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from training.errors import printable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class MaskedTokens(Protocol):
    """A sample: an `EncodedConversation`, an `EncodedSample`."""

    @property
    def tokens(self) -> NDArray[np.int32]:
        """Return the ids (T)."""
        ...

    @property
    def trained(self) -> NDArray[np.bool_]:
        """Return the tokens with a loss (T)."""
        ...


_TRAINED, _NOT_TRAINED, _PLAIN = "\x1b[32m", "\x1b[2m", "\x1b[0m"


def show(tokenizer: PreTrainedTokenizerFast, sample: MaskedTokens, color: bool) -> list[str]:
    """Return a sample's text as lines for a terminal, with what is trained marked.

    Args:
        tokenizer: the tokenizer that made it.
        sample: its tokens.
        color: trained text is green and the rest dim; otherwise trained text stands between ⟦ and ⟧.

    A line end of the text is shown as ↵; control characters are escaped. A character whose tokens are trained in part
    counts to the later ones.
    """
    shown: list[str] = []
    for text, is_trained in pieces_of(tokenizer, sample):
        parts = ["".join(c if c.isprintable() else printable(c) for c in part) for part in text.split("\n")]
        parts = [f"{part}↵" for part in parts[:-1]] + parts[-1:]
        if color:
            code = _TRAINED if is_trained else _NOT_TRAINED
            parts = [f"{code}{part}{_PLAIN}" if part else "" for part in parts]
        elif is_trained:
            parts[0] = f"⟦{parts[0]}"
            parts[-1] = f"{parts[-1]}⟧"
        shown = [*shown[:-1], (shown[-1] if shown else "") + parts[0], *parts[1:]]
    return shown if not shown or shown[-1] else shown[:-1]


def pieces_of(tokenizer: PreTrainedTokenizerFast, sample: MaskedTokens) -> Iterator[tuple[str, bool]]:
    """Yield the text of each run of tokens that are all trained, or all not, and which of the two they are."""
    edges = [*(np.flatnonzero(np.diff(sample.trained)) + 1).tolist(), len(sample.tokens)]
    before = ""
    start = 0
    for edge in edges:
        if edge == start:
            return
        # From the sample's beginning: some tokenizers write the first token of a text without its space.
        whole = str(
            tokenizer.decode(sample.tokens[:edge], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )
        if edge < len(sample.tokens):
            whole = whole.rstrip("\ufffd")
        yield whole[len(before) :], bool(sample.trained[start])
        before, start = whole, edge
