"""Samples as a person reads them: each token marked as trained or not. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from training.errors import printable
from training.tasks.token_dataset import EncodedSample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TRAINED, DIM, END = "\x1b[32m", "\x1b[2m", "\x1b[0m"


def show(tokenizer: PreTrainedTokenizerFast, sample: EncodedSample, color: bool) -> Iterator[str]:
    """Yield the lines of a sample's text: trained tokens green or between ⟦ and ⟧, the others dim or plain."""
    text = ""
    tokens = zip(sample.tokens.tolist(), sample.trained.tolist(), strict=True)
    for trained, run in groupby(tokens, key=lambda token: token[1]):
        piece = "↵\n".join(map(printable, tokenizer.decode([i for i, _ in run]).split("\n")))
        opening, closing = (TRAINED if trained else DIM, END) if color else ("⟦", "⟧") if trained else ("", "")
        text += f"\n{closing and ''}".join(f"{opening}{line}{closing}" for line in piece.split("\n"))
    yield from text.split("\n")
