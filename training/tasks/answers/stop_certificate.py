"""Certificate of the stop: a finished model is asked, and how many of its answers end by themselves.

A model that has learned everything but the stop token writes on until it is cut, and no loss shows it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.language.messages import Message
from training.models.protocol import ModelFamily

if TYPE_CHECKING:
    from torch import nn

LONGEST_ANSWER = 256
"""Tokens within which an answer should have ended."""


@dataclass(frozen=True)
class StopCertificate:
    """Counts over the prompts that were asked."""

    asked: int
    ended: int
    """Number of answers that a stop token ended."""
    longest: int
    """Tokens that an answer may have."""
    prompts: tuple[tuple[int, ...], ...] = ()
    """Tokens of each prompt that was asked."""
    answers: tuple[tuple[int, ...], ...] = ()
    """Tokens of each answer, without its stop token."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Return the number of tokens of each answer."""
        return tuple(map(len, self.answers))

    def facts(self) -> dict[str, Any]:
        """Return the counts as plain data, for the report."""
        return {"asked": self.asked, "ended": self.ended, "longest": self.longest, "lengths": list(self.lengths)}

    def lines(self) -> Iterator[str]:
        """Yield lines for the user; none where nothing was asked."""
        if self.asked:
            yield Message(
                "stop    {ended} of {asked} answers end by themselves within {longest} tokens",
                ended=self.ended, asked=self.asked, longest=self.longest,
            )  # fmt: skip


def prompt_of(tokens: NDArray[np.int32], trained: NDArray[np.bool_]) -> list[int]:
    """Return the tokens (T,) of one sample before its first trained one, which are what the model is asked.

    They are empty where the sample asks nothing: all of it is learned, or nothing.
    """
    (places,) = np.nonzero(trained)
    ids: list[int] = tokens[: int(places[0]) if len(places) else 0].tolist()
    return ids if len(ids) > 1 else []


def certify_stops(
    family: ModelFamily,
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    stops: Collection[int],
    longest: int = LONGEST_ANSWER,
    context_length: int | None = None,
    seconds: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> StopCertificate:
    """Answer prompts greedily and count the answers that end by themselves.

    Args:
        family: the model's family.
        model: bare network, on its device.
        prompts: tokens of each prompt; one that leaves no room for an answer is not asked.
        stops: tokens that end an answer.
        longest: tokens that an answer may have.
        context_length: tokens that the network reads; None: any number.
        seconds: time after which no further prompt is asked; None: all are.
        clock: seconds, from any beginning.
    """
    from training.tasks.answers.sampling import Chooser, Sampling

    choose, started = Chooser(Sampling()), clock()
    asked: list[tuple[int, ...]] = []
    answers: list[tuple[int, ...]] = []
    ended = 0
    for prompt in prompts:
        room = longest if context_length is None else min(longest, context_length - len(prompt))
        if not prompt or room < 1:
            continue
        if answers and seconds is not None and clock() - started > seconds:
            break
        answer: list[int] = []
        has_ended = False
        for token in family.stream(model, prompt, room, choose):
            if has_ended := token in stops:
                break
            answer.append(token)
        asked.append(tuple(prompt))
        answers.append(tuple(answer))
        ended += has_ended
    return StopCertificate(len(answers), ended, longest, tuple(asked), tuple(answers))
