"""Loss mask of a conversation: the tokens that are trained, read by two independent methods that must agree. No torch.

The rendered conversation is tokenized once, as a whole. A *turn* is the assistant's part of it: from after the
generation prompt (so what a model is asked to continue) up to and including the end-of-turn token; white space that the
template writes after that token is not part of it. A token is trained if it lies in a trained turn.

First reading, from the whole text:
    tags        what the template itself marks with `{% generation %}`; or, without tags,
    markers     each answer is replaced by a text that occurs nowhere else, and found again.
Second reading, from other texts, which begin the same if the template only ever appends:
    prefixes    a turn lies between the messages before it (with the generation prompt) and the same with the turn.

Some templates write an earlier turn otherwise than the last one: Qwen3's leaves out its thinking. The text with the
turn last is then no beginning of the whole text. Such a turn's end is read from the messages up to the next one, whose
content is replaced by a marker: what lies before the marker must be the beginning of the whole text, and the turn ends
at the last end-of-turn token in it, or (gpt-oss ends earlier turns by another one) at that behind the answer. Both
readings still have to agree, and `Note.REWRITTEN` is kept: these turns are learned as later answers see them, not as
the model says them. What only one method can read is refused.

Where prefixes fail and the template has tags, tags and markers are the two readings.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError
from training.tasks.chat.formats import Conversation
from training.tasks.chat.template import ChatTemplate, Spans

if TYPE_CHECKING:
    import tokenizers
    from transformers import PreTrainedTokenizerFast

LossOn = Literal["assistant", "last", "completion", "all"]
LOSS_ON: tuple[LossOn, ...] = get_args(LossOn)
Span = tuple[int, int]


class Note(Enum):
    """A peculiarity of a row that its user should know, though nothing is wrong."""

    REWRITTEN = "rewritten"
    """The template writes an earlier turn otherwise than the last one."""
    STOP_OUTSIDE_TAGS = "stop outside tags"
    """The template's generation tags leave out the end-of-turn token, which is trained all the same."""
    PROMPT_IN_TAGS = "prompt in tags"
    """The template's generation tags hold the generation prompt too, which is not trained."""


@dataclass(frozen=True)
class EncodedConversation:
    """Tokens of one conversation."""

    tokens: NDArray[np.int32]
    trained: NDArray[np.bool_]
    """True for the tokens that the loss is on; never for the first one, which nothing predicts."""
    turns: int
    """Number of the assistant's turns that are trained."""
    stops: tuple[int, ...]
    """Places of the end-of-turn tokens that are trained; a turn that ends by no such token has none."""
    straddling: int = 0
    """Number of tokens left out because they lie on the beginning or the end of a turn."""
    unknown: int = 0
    """Number of tokens that stand for characters that the tokenizer lacks."""
    notes: frozenset[Note] = frozenset()


def encode(
    tokenizer: PreTrainedTokenizerFast,
    template: ChatTemplate,
    conversation: Conversation,
    loss_on: LossOn,
    where: str,
) -> EncodedConversation:
    """Return a conversation's tokens and its loss mask.

    Args:
        tokenizer: the model's tokenizer, to which the tokens that the template needs have been added.
        template: the chat template.
        conversation: messages, tools, and where the prompt ends.
        loss_on: `assistant`: all turns; `last`: the last one; `completion`: those after the prompt; `all`: every token.
        where: the row's place, such as `chats.jsonl, line 7`, which each error begins with.

    A message with `weight: 0` is not trained (OpenAI's form), but for `all`.

    Raises:
        DataError: the template fails; it leaves out tools or calls of tools; the conversation ends with somebody
            else than the assistant; the two readings of the mask differ, or only one is possible.
    """
    last = conversation.messages[-1]["role"]
    if last != "assistant" and loss_on != "all":
        raise DataError(
            f"{where}: the conversation ends with a message of the {last}, which no answer follows, so it can never be "
            "learned; remove that message (or choose --loss-on all)"
        )
    row = _Row(tokenizer, template, conversation, where)
    row.check_nothing_left_out()
    pieces = _pieces(tokenizer, row.text, where)
    if loss_on == "all":
        trained = np.ones(len(pieces.tokens), dtype=np.bool_)
        turns = [span for span in map(row.read_by_prefixes, row.assistants) if span is not None]
    else:
        turns = _confirmed_turns(row, pieces, loss_on)
        trained = pieces.within(turns)
    trained[:1] = False
    return EncodedConversation(
        pieces.tokens,
        trained,
        turns=len(turns),
        stops=tuple(stop for span in turns if (stop := pieces.stop_of(span, trained)) is not None),
        straddling=0 if loss_on == "all" else pieces.straddling(turns),
        unknown=pieces.unknown,
        notes=frozenset(row.notes),
    )


def _confirmed_turns(row: _Row, pieces: _Pieces, loss_on: LossOn) -> Spans:
    """Return the trained turns, in which both readings agree token for token."""
    messages = row.messages
    chosen = row.assistants
    if loss_on == "last":
        chosen = chosen[-1:]
    elif loss_on == "completion":
        chosen = [number for number in chosen if number >= row.prompt_messages]
    second = [row.second_reading(number) for number in chosen]
    by = "markers" if row.failure.keys() & set(chosen) else "prefixes"
    if row.template.has_generation_tags:
        beginning = second[0][0] if second and chosen[0] != row.assistants[0] else 0
        first = [span for span in row.tagged if span[1] > beginning]
        _check_same(row, pieces, chosen, ("generation tags", by), first, second)
    else:
        for number, span in zip(chosen, second, strict=True):
            marked = row.markers.get(number)
            if marked is None:
                raise row.unconfirmed(number, "its text is not found in the rendered conversation")
            _check_same(row, pieces, [number], ("markers", by), [marked], [span])
    return [span for number, span in zip(chosen, second, strict=True) if messages[number].get("weight") != 0]


def _check_same(
    row: _Row, pieces: _Pieces, chosen: Sequence[int], methods: tuple[str, str], first: Spans, second: Spans
) -> None:
    by_first, by_second = pieces.within(first), pieces.within(second)
    differing = np.flatnonzero(by_first != by_second)
    if not len(differing):
        return
    token = int(differing[0])
    place = pieces.begins[token]
    turn = max((n for n, (start, _) in enumerate(second) if start <= place), default=0)
    said = {True: "trained", False: "not trained"}
    raise DataError(
        f"{row.where}: the two readings of the loss mask differ in turn {row.turn_number(chosen[turn])} "
        f"(message {chosen[turn] + 1}) at token {token}, {pieces.text_of(token)!r} after {pieces.before(token)!r}: "
        f"{said[bool(by_first[token])]} by the {methods[0]}, {said[bool(by_second[token])]} by the {methods[1]}; "
        f"mend {row.template.name}, or choose another one with --chat-template"
    )


class _Row:
    """A conversation rendered, and the readings of its turns."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, template: ChatTemplate, conversation: Conversation, where: str
    ) -> None:
        self.template, self.where = template, where
        self.messages, self.tools = conversation.messages, conversation.tools
        self.prompt_messages = conversation.prompt_messages
        self.assistants = [n for n, message in enumerate(self.messages) if message["role"] == "assistant"]
        self.text, self._tagged = template.render_tagged(self.messages, self.tools, where)
        self._stops = _vocabulary(tokenizer).stops
        self.notes: set[Note] = set()
        self.failure: dict[int, str] = {}
        """Why prefixes cannot read a turn, by number of the message."""

    def turn_number(self, number: int) -> int:
        """Return the place of a message among the assistant's turns, from 1."""
        return self.assistants.index(number) + 1

    def unconfirmed(self, number: int, reason: str) -> DataError:
        """Return the error about a turn that only one method can read."""
        is_last = number == self.assistants[-1]
        remedy = "choose another template with --chat-template"
        if not is_last:
            remedy = f"train the last turns only (--loss-on last), or {remedy}"
        return DataError(
            f"{self.where}: the loss mask of turn {self.turn_number(number)} (message {number + 1}) cannot be "
            f"confirmed with {self.template.name}: {reason}; {remedy}"
        )

    def check_nothing_left_out(self) -> None:
        """Refuse a template that has no form for tools or their calls and leaves them out.

        Raises:
            DataError: what is left out, and what to do.
        """
        if not self.text:
            raise DataError(f"{self.where}: {self.template.name} makes an empty text of the conversation")
        other = "choose another one with --chat-template, or remove them from the row"
        if self.tools and self._render(self.messages, tools=None) == self.text:
            raise DataError(f"{self.where}: {self.template.name} leaves out the tools; {other}")
        callers = [number for number in self.assistants if self.messages[number].get("tool_calls")]
        marks = {number: f"Call{self._salt}{number}End" for number in callers}
        if callers:  # a name may stand among the tools too, a marker cannot
            marked = self._try([_marked(m, marks[n]) if n in marks else m for n, m in enumerate(self.messages)])
            for number, mark in marks.items():
                if marked is not None and mark not in marked:
                    raise DataError(
                        f"{self.where}: {self.template.name} leaves out the calls of tools (message {number + 1}); "
                        f"{other}"
                    )

    # -- first reading ---------------------------------------------------------------------------------------------

    @cached_property
    def tagged(self) -> Spans:
        """Spans that the template marks, in the normal form of a turn."""
        found = []
        for start, end in self._tagged:
            given = self._end_of_prompt(start)
            if given is not None and given <= end:
                start = given
                self.notes.add(Note.PROMPT_IN_TAGS)
            if end > start and not self.text[start:end].rstrip().endswith(self._stops):
                following = next((stop for stop in self._stops if self.text.startswith(stop, end)), "")
                end += len(following)
                if following:
                    self.notes.add(Note.STOP_OUTSIDE_TAGS)
            found.append(self._normal(start, end))
        return found

    def _end_of_prompt(self, place: int) -> int | None:
        """Return where the generation prompt ends that a place lies in; None: it lies in none."""
        prompt = self.template.generation_prompt
        for offset in range(min(len(prompt), place + 1)):
            if self.text.startswith(prompt, place - offset):
                return place - offset + len(prompt)
        return None

    @cached_property
    def markers(self) -> dict[int, Span]:
        """Turns found by replacing each answer by a marker, by number of the message; those that were found.

        The marked text is `head marker head marker … tail`. A head is cut after its generation prompt: what the
        template writes between that and the answer (an empty thought) belongs to the turn. The heads are looked for in
        the real text, one after the other.
        """
        marks = {number: f"Answer{self._salt}{place}End" for place, number in enumerate(self.assistants)}
        messages = [_marked(m, marks[n]) if n in marks else m for n, m in enumerate(self.messages)]
        marked = self._try(messages)
        if marked is None or any(marked.count(mark) != 1 for mark in marks.values()):
            return {}
        segments = re.split("|".join(marks.values()), marked)  # one more than there are turns
        heads = [self._head(messages, number, s) for number, s in zip(self.assistants, segments, strict=False)]
        found: dict[int, Span] = {}
        place: int | None = 0
        for turn, number in enumerate(self.assistants):
            head, following = heads[turn], segments[turn + 1]
            start = None if head is None else self._place_after(head, place, is_first=turn == 0)
            place = None
            if start is None or head is None:
                continue
            is_last = turn == len(self.assistants) - 1
            if is_last:
                end = len(self.text) - len(following) if self.text.endswith(following) else -1
            else:
                between = segments[turn][len(head) :]
                end = self._end_of_answer(number, start, between, heads[turn + 1])
            if end < start:
                continue
            place = end
            found[number] = self._normal(start, end + len(self._suffix(messages, number, following, segments[-1])))
        return found

    def _head(self, messages: Sequence[Mapping[str, Any]], number: int, segment: str) -> str | None:
        """Return the part of a marked text's segment that a model is given, not asked for."""
        prompt = self.template.generation_prompt
        if prompt:
            end = segment.rfind(prompt)
            return None if end < 0 else segment[: end + len(prompt)]
        asked = self._try(messages[:number], add_generation_prompt=True)
        if asked is None:
            return None
        given = asked.rpartition(f"{self._salt}{self.assistants.index(number) - 1}End")[2]
        return given if segment.startswith(given) else None

    def _place_after(self, head: str, place: int | None, is_first: bool) -> int | None:
        """Return where a head ends in the text, given where it begins; None for that: it must occur once."""
        if is_first or place is not None:
            return (place or 0) + len(head) if self.text.startswith(head, place or 0) else None
        return self.text.find(head) + len(head) if self.text.count(head) == 1 else None

    def _end_of_answer(self, number: int, start: int, between: str, next_head: str | None) -> int:
        """Return where an answer ends: before the next head; -1: there is none."""
        if next_head is None:
            return -1
        answer = _text_of(self.messages[number])
        for form in _forms(answer):
            end = start + len(between) + len(form)
            if self.text.startswith(between + form, start) and self.text.startswith(next_head, end):
                return end
        return self.text.find(next_head, start)

    def _suffix(self, messages: Sequence[Mapping[str, Any]], number: int, following: str, tail: str) -> str:
        """Return what the template writes after an answer and before the next message."""
        if number == self.assistants[-1]:
            return following
        if any("tool_calls" in self.messages[n] for n in (number, self.assistants[-1])):
            alone = self._try(messages[: number + 1])
            tail = "" if alone is None else alone.rpartition(f"{self._salt}{self.turn_number(number) - 1}End")[2]
        equal = 0
        for one, other in zip(following, tail, strict=False):
            if one != other:
                break
            equal += 1
        if equal < len(tail.rstrip()):  # it ends the last turn by another token than earlier ones, as gpt-oss's does
            return next((stop for stop in self._stops if following.startswith(stop)), "")
        return following[:equal]

    @cached_property
    def _salt(self) -> str:
        """Letters that the text does not have."""
        salt = "Zq"
        while salt in self.text:
            salt += "Xq"
        return salt

    # -- second reading --------------------------------------------------------------------------------------------

    def second_reading(self, number: int) -> Span:
        """Return a turn as the rendering of prefixes has it, or else tags confirmed by markers.

        Raises:
            DataError: it cannot be read.
        """
        span = self.read_by_prefixes(number)
        if span is None and self.template.has_generation_tags:
            span = self.markers.get(number)
        if span is None:
            raise self.unconfirmed(number, self.failure[number])
        return span

    def read_by_prefixes(self, number: int) -> Span | None:
        """Return a turn as the rendering of prefixes has it; None: the template does not only append."""
        asked = self._try(self.messages[:number], add_generation_prompt=True)
        if asked is None:
            self.failure[number] = "it does not render the messages before that turn alone"
            return None
        if not self.text.startswith(asked):
            wanted, found = _first_difference(asked, self.text)
            self.failure[number] = (
                f"what it asks the model with is not what it writes before the answer ({wanted!r}, then {found!r})"
            )
            return None
        if number == len(self.messages) - 1:
            return self._normal(len(asked), len(self.text))
        answered = self._try(self.messages[: number + 1])
        if answered is not None and self.text.startswith(answered) and len(answered) >= len(asked):
            return self._normal(len(asked), len(answered))
        span = self._read_rewritten(number, len(asked))
        if span is None:
            self.failure[number] = "it writes that turn otherwise when other messages follow"
        return span

    def _read_rewritten(self, number: int, start: int) -> Span | None:
        """Return a turn that the template writes otherwise when other messages follow."""
        mark = f"Next{self._salt}End"
        followed = self._try([*self.messages[: number + 1], {**self.messages[number + 1], "content": mark}])
        if followed is None or followed.count(mark) != 1:
            return None
        before = followed[: followed.index(mark)]
        end = self._end_before(number, start, len(before)) if self.text.startswith(before) else None
        if end is None:
            return None
        self.notes.add(Note.REWRITTEN)
        return self._normal(start, end)

    def _end_before(self, number: int, start: int, following: int) -> int | None:
        """Return where a turn ends before the content of the next message: at its last end-of-turn token.

        That is the token that ends the last turn, or else one that stands right behind the answer.
        """
        last = self.text.rstrip()
        for ending in self._stops:
            if last.endswith(ending) and (place := self.text.rfind(ending, start, following)) >= 0:
                return place + len(ending)
        for form in _forms(self.messages[number]["content"]):
            # The first place with an end behind it: a short answer may stand in the next message's head too.
            place = self.text.find(form, start, following)
            while place >= 0:
                behind = place + len(form)
                ending = next((stop for stop in self._stops if self.text.startswith(stop, behind)), "")
                if ending and behind + len(ending) <= following:
                    return behind + len(ending)
                place = self.text.find(form, place + 1, following)
        return None

    # -- both ------------------------------------------------------------------------------------------------------

    def _normal(self, start: int, end: int) -> Span:
        """Return a turn without what stands after its end-of-turn token: white space, or the conversation's own end."""
        turn = self.text[start:end].rstrip()
        if not turn.endswith(self._stops):
            return start, end
        last = next(stop for stop in self._stops if turn.endswith(stop))
        before = turn.removesuffix(last)
        if self._ending and last != self._ending and before != before.rstrip():
            # Phi-3's ends a turn by <|end|> and a line end, and writes eos once, after the whole conversation.
            turn = before.rstrip() if before.rstrip().endswith(self._ending) else turn
        return start, start + len(turn)

    @cached_property
    def _ending(self) -> str:
        """The token that ends a turn which others follow; empty if none does."""
        return next((stop for stop in self._stops if self.template.after_answer.startswith(stop)), "")

    def _render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        add_generation_prompt: bool = False,
    ) -> str:
        return self.template.render(messages, tools, self.where, add_generation_prompt)

    def _try(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = False) -> str | None:
        """Return the text of a part of the conversation; None: the template refuses it, which a part may deserve."""
        try:
            return self._render(messages, self.tools, add_generation_prompt)
        except DataError:
            return None


def _text_of(message: Mapping[str, Any]) -> str:
    """Return what of an answer a marker replaces: its text, or the name in its first call of a tool."""
    calls = message.get("tool_calls")
    return str(calls[0]["function"]["name"] if calls else message["content"])


def _forms(answer: str) -> tuple[str, ...]:
    """Return an answer as templates write it: as it is, or trimmed; nothing if it is blank."""
    return tuple(form for form in (answer, answer.strip(), answer.rstrip(), answer.lstrip()) if form)


def _marked(message: Mapping[str, Any], mark: str) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if not calls:
        return {**message, "content": mark}
    first = {**calls[0], "function": {**calls[0]["function"], "name": mark}}
    return {**message, "tool_calls": [first, *calls[1:]]}


def _first_difference(one: str, other: str) -> tuple[str, str]:
    """Return some characters of two texts from where they differ."""
    place = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[place : place + 20], other[place : place + 20]


# -- tokens --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pieces:
    """Tokens of a text of N tokens, and the characters that each stands for."""

    text: str
    tokens: NDArray[np.int32]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    unknown: int
    stop_ids: frozenset[int]

    def within(self, spans: Spans) -> NDArray[np.bool_]:
        """Return for each token (N) if it lies in one of the spans, as a whole."""
        inside = np.zeros(len(self.tokens), dtype=np.bool_)
        for start, end in spans:
            inside |= (self.begins >= start) & (self.begins < end) & (self.ends <= end)
        return inside

    def straddling(self, spans: Spans) -> int:
        """Return the number of tokens that lie on the beginning or the end of a span."""
        across = np.zeros(len(self.tokens), dtype=np.bool_)
        for place in {place for span in spans for place in span}:
            across |= (self.begins < place) & (place < self.ends)
        return int(across.sum())

    def stop_of(self, span: Span, trained: NDArray[np.bool_]) -> int | None:
        """Return the place of a turn's end-of-turn token, if it is trained."""
        (inside,) = np.nonzero(self.within([span]) & trained)
        if not len(inside) or self.ends[inside[-1]] != span[1]:
            return None
        return int(inside[-1]) if int(self.tokens[inside[-1]]) in self.stop_ids else None

    def text_of(self, token: int) -> str:
        """Return the characters that a token stands for."""
        return self.text[self.begins[token] : self.ends[token]]

    def before(self, token: int) -> str:
        """Return some characters before a token."""
        return self.text[max(0, int(self.begins[token]) - 30) : self.begins[token]]


def token_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Return the tokens of a rendered text, as `encode` reads it: what the template writes, and nothing around it."""
    ids: list[int] = _vocabulary(tokenizer).backend.encode(text, add_special_tokens=False).ids
    return ids


def end_of_turn(tokenizer: PreTrainedTokenizerFast, template: ChatTemplate) -> int | None:
    """Return the token by which the template ends an answer; None: it writes none there."""
    vocabulary, answer = _vocabulary(tokenizer), "Answer"
    messages = [{"role": "user", "content": "Question"}, {"role": "assistant", "content": answer}]
    try:
        following = template.render(messages, None, "").rpartition(answer)[2].lstrip()
    except DataError:
        return None
    stop = next((stop for stop in vocabulary.stops if following.startswith(stop)), None)
    return None if stop is None else tokenizer.get_added_vocab()[stop]


def _pieces(tokenizer: PreTrainedTokenizerFast, text: str, where: str) -> _Pieces:
    vocabulary = _vocabulary(tokenizer)
    try:
        encoding = vocabulary.backend.encode(text, add_special_tokens=False)
    except (TypeError, UnicodeError, ValueError) as error:  # a half of a surrogate pair, written by a template
        raise DataError(f"{where}: the tokenizer cannot read the rendered conversation ({error})") from error
    tokens = np.array(encoding.ids, dtype=np.int32)
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    unknown = 0
    if tokenizer.unk_token_id is not None:
        where_unknown = offsets[tokens == tokenizer.unk_token_id]
        unknown = sum(text[start:end] != tokenizer.unk_token for start, end in where_unknown)  # written out: known
    return _Pieces(text, tokens, offsets[:, 0], offsets[:, 1], unknown, vocabulary.stop_ids)


class _Vocabulary(NamedTuple):
    """A tokenizer as the masks need it."""

    size: int
    backend: tokenizers.Tokenizer
    """The same tokens, with exact offsets: many tokenizers leave the white space of a token out of its offsets."""
    stops: tuple[str, ...]
    """Added tokens but white space; the one that ends a turn is one of them. The longest come first."""
    stop_ids: frozenset[int]


_vocabularies: weakref.WeakKeyDictionary[PreTrainedTokenizerFast, _Vocabulary] = weakref.WeakKeyDictionary()


def _vocabulary(tokenizer: PreTrainedTokenizerFast) -> _Vocabulary:
    found = _vocabularies.get(tokenizer)
    if found is None or found.size != len(tokenizer):  # tokens may be added later
        from tokenizers import Tokenizer

        backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        backend.post_processor = None  # adds no tokens here; all that it would do is to trim the offsets
        backend.no_padding()
        backend.no_truncation()
        added = {text: number for text, number in tokenizer.get_added_vocab().items() if text.strip()}
        stops = tuple(sorted(added, key=lambda text: (-len(text), text)))
        found = _Vocabulary(len(tokenizer), backend, stops, frozenset(added.values()))
        _vocabularies[tokenizer] = found
    return found
