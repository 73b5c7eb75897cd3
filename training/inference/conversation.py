"""Conversation of several turns that fits what the model reads: the oldest turns are left out. No torch at import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from training.errors import UserError
from training.inference.speaker import Speaker
from training.tasks.answers.answer import Answer, check_length
from training.tasks.answers.prompt_format import Turns

if TYPE_CHECKING:
    from torch import Tensor


class Conversation:
    """Questions with their answers, which the next question is asked after; models that hold none get it alone.

    Args:
        speaker: who answers.
        system: system message; None: there is none.

    Raises:
        UserError: a system message for a model that reads none.
    """

    def __init__(self, speaker: Speaker, system: str | None = None) -> None:
        if system is not None and not speaker.format.holds_conversation:
            raise UserError("this model has no chat template, so it reads no system message; leave it out")
        self._speaker = speaker
        self._system = [] if system is None else [{"role": "system", "content": system}]
        self._turns: list[tuple[str, Answer]] = []
        self.num_left_out = 0
        """Turns that the latest question has left out for good."""

    def ask(self, question: str, choose: Callable[[Tensor], int], max_new_tokens: int) -> Answer:
        """Return the answer to a question, which belongs to the conversation as far as it is iterated over.

        Args:
            question: what the user says.
            choose: function from the logits (V,) to the next token.
            max_new_tokens: limit; up to half of what the model reads is kept free for it.

        Raises:
            UserError: the question cannot be asked, even alone; the conversation stays as it was.
        """
        limit, form = self._speaker.context_length, self._speaker.format
        turns = [turn for turn in self._turns if turn[1].text]  # one that was stopped before its first word is none
        prompt, first = form.encode(self._messages([], question)), len(turns)
        check_length(prompt, limit)
        kept_free = 0 if limit is None else min(max_new_tokens, limit // 2)
        for number in range(len(turns)):
            longer = form.encode(self._messages(turns[number:], question))
            if limit is None or len(longer) + kept_free <= limit:
                prompt, first = longer, number
                break
        answer = self._speaker.answer_tokens(prompt, choose, max_new_tokens)
        self.num_left_out = first
        if form.holds_conversation:
            self._turns = [*turns[first:], (question, answer)]
        return answer

    def restart(self) -> None:
        """Forget all turns; the system message stays."""
        self._turns, self.num_left_out = [], 0

    def _messages(self, turns: Sequence[tuple[str, Answer]], question: str) -> Turns:
        messages = list(self._system)
        for asked, answer in turns:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer.text}]
        return [*messages, {"role": "user", "content": question}]
