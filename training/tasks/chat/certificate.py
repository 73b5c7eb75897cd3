"""Certificate of a chat's loss mask: what will be trained, counted over all rows, and a sample shown. No torch.

The counts are plain data, so they are kept beside the tokens and read back where these come from a cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from training.errors import DataError, printable, without_middle
from training.language.messages import Message
from training.tasks.chat.masks import EncodedConversation, Note

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LONGEST_PLACE = 30
"""Characters of a row's place that a line of the table has room for."""


@dataclass
class MaskCertificate:
    """Counts over the rows of a data set. `MaskCertificate.of(tokenizer)` has none yet."""

    pad_is_eos: bool
    """True if one token is both. Batches have lengths and masks of their own, so no end is taken for padding."""
    eos: str | None
    """Text of the tokenizer's end-of-sequence token."""
    bos_id: int | None
    rows: int = 0
    tokens: int = 0
    trained: int = 0
    straddling: int = 0
    """Number of tokens left out because they lie on the edge of a turn."""
    unknown: int = 0
    untrained_rows: int = 0
    cut_rows: int = 0
    cut_answers: int = 0
    """Number of rows of which a trained token was cut off."""
    double_bos: int = 0
    turns: int = 0
    stops: dict[str, int] = field(default_factory=dict)
    """Number of turns by the end-of-turn token that is trained in them."""
    notes: dict[str, int] = field(default_factory=dict)
    """Number of rows by `Note`."""
    first: dict[str, str] = field(default_factory=dict)
    """Place of the first row of each count of rows that has one."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast) -> Self:
        """Return a certificate without rows."""
        eos = tokenizer.eos_token_id
        return cls(
            pad_is_eos=eos is not None and tokenizer.pad_token_id == eos,
            eos=tokenizer.eos_token,
            bos_id=tokenizer.bos_token_id,
        )

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Return the certificate that `facts()` describes."""
        return cls(**facts)

    def add(
        self, encoded: EncodedConversation, tokenizer: PreTrainedTokenizerFast, where: str, kept: int | None = None
    ) -> None:
        """Count a row.

        Args:
            encoded: the whole row.
            tokenizer: the tokenizer that it was made with.
            where: the row's place.
            kept: number of tokens that are kept of it, from its beginning; None: all.
        """
        length = len(encoded.tokens)
        kept = length if kept is None else min(kept, length)
        trained = int(np.count_nonzero(encoded.trained[:kept]))
        self.rows += 1
        self.tokens += kept
        self.trained += trained
        self.straddling += encoded.straddling
        self.unknown += encoded.unknown
        self.turns += encoded.turns
        self._count("untrained_rows", trained == 0, where)
        self._count("cut_rows", kept < length, where)
        self._count("cut_answers", bool(encoded.trained[kept:].any()), where)
        is_double = self.bos_id is not None and kept > 1 and bool((encoded.tokens[:2] == self.bos_id).all())
        self._count("double_bos", is_double, where)
        for place in encoded.stops:
            if place < kept:
                name = str(tokenizer.convert_ids_to_tokens(int(encoded.tokens[place])))
                self.stops[name] = self.stops.get(name, 0) + 1
        for note in (note for note in Note if note in encoded.notes):  # a set has another order in every process
            self.notes[note.value] = self.notes.get(note.value, 0) + 1

    def _count(self, name: str, is_so: bool, where: str) -> None:
        if is_so:
            setattr(self, name, getattr(self, name) + 1)
            self.first.setdefault(name, where)

    def check(self) -> None:
        """Refuse data of which nothing is trained.

        Raises:
            DataError: no row has a trained token.
        """
        if self.trained:
            return
        if self.cut_answers:
            raise DataError(
                f"no token of the {self.rows:,} rows is trained: {self.cut_answers:,} are cut before their answer "
                f"begins (first: {self.first['cut_answers']}); keep more tokens of a row"
            )
        raise DataError(
            f"no token of the {self.rows:,} rows is trained, so there is nothing to learn"
            f"{f' (first: {place})' if (place := self.first.get('untrained_rows')) else ''}; check --loss-on"
        )

    def facts(self) -> dict[str, Any]:
        """Return the counts as plain data, for the report and for a cache."""
        return asdict(self)

    def lines(self) -> Iterator[Message]:
        """Yield the table and its notes."""
        yield Message("rows                              {rows:>13,}", rows=self.rows)
        mean = self.tokens / max(1, self.rows)
        yield Message(
            "tokens                            {tokens:>13,}  {mean:,.1f} a row", tokens=self.tokens, mean=mean
        )
        yield Message(
            "tokens that are trained           {trained:>13,}  {share:.1%} of them",
            trained=self.trained,
            share=self.trained / max(1, self.tokens),
        )
        yield Message("tokens left out on a turn's edge  {count:>13,}", count=self.straddling)
        yield Message("unknown tokens                    {count:>13,}", count=self.unknown)
        yield Message("rows with no trained token        {count:>13,}{first}", **self._rows("untrained_rows"))
        yield Message("rows that are cut                 {count:>13,}{first}", **self._rows("cut_rows"))
        yield Message("rows whose answer is cut          {count:>13,}{first}", **self._rows("cut_answers"))
        yield Message("rows that begin with two BOS      {count:>13,}{first}", **self._rows("double_bos"))
        yield Message("turns of the assistant            {turns:>13,}", turns=self.turns)
        stops, names = sum(self.stops.values()), without_middle(" ".join(map(printable, self.stops)), LONGEST_PLACE)
        yield Message("turns whose stop token is trained {stops:>13,}  {names}", stops=stops, names=names)
        if self.pad_is_eos:
            yield Message("pad is eos                                  yes  no matter: no mask goes by token id")
        else:
            yield Message("pad is eos                                   no")
        if stops < self.turns:
            yield Message(
                "note    {count:,} turns have no trained stop token: no end is learned",
                count=self.turns - stops,
            )
        if self.stops and self.eos not in self.stops:
            yield Message(
                "note    answers end by {names}, not {eos}; both are saved as ends",
                names=names,
                eos=self.eos or "-",
            )
        yield from self._notes()

    def _rows(self, name: str) -> dict[str, Any]:
        place = self.first.get(name)
        shown = "" if place is None else Message("  first: {where}", where=without_middle(place, LONGEST_PLACE - 10))
        return {"count": getattr(self, name), "first": shown}

    def _notes(self) -> Iterator[Message]:
        counts = {note: self.notes.get(note.value, 0) for note in Note}
        if count := counts[Note.REWRITTEN]:
            yield Message("note    {count:,} rows: earlier turns are written otherwise than the last one", count=count)
        if count := counts[Note.STOP_OUTSIDE_TAGS]:
            yield Message("note    {count:,} rows: the tags leave out the stop token; it is trained", count=count)
        if count := counts[Note.PROMPT_IN_TAGS]:
            yield Message("note    {count:,} rows: the tags hold the prompt too; it is not trained", count=count)
