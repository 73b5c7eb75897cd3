"""Language modelling on texts: every token of every document is learned. No torch at import."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError
from training.language.messages import Message
from training.models.tokenizers import first_tokens
from training.settings.tree import TaskOptions
from training.tasks.card import CardFacts, TaskCard
from training.tasks.causal_lm.options import LanguageOptions
from training.tasks.causal_lm.task import DEFAULTS, LanguageData, LanguageTask
from training.tasks.protocol import Conclusion, Prepared
from training.tasks.rows.columns import find_text_column, text_of
from training.tasks.rows.source import Row, Source
from training.tasks.text.card import text_card
from training.tasks.text.options import TextOptions
from training.tasks.token_dataset import TokenSamples
from training.tasks.token_store import TokenStore, TokenStoreWriter

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerFast

IDS, LABELS, IGNORED = "input_ids", "labels", -100
"""Columns of data that is tokenized already, and the label of a token without a loss."""
AT_ONCE = 4_000_000
"""Characters that the tokenizer gets at once, from which it makes some hundred megabytes."""
PROMPT, CONTINUATION = 16, 48
"""Tokens of a text that the finished model reads, and that it then writes."""


class TextTask(LanguageTask):
    """Prediction of each token of a text from those before it.

    A document becomes pieces of at most max_seq_len tokens, after the tokenizer's first token where it has one and with
    its end token behind. A piece begins with the last token of the one before, so each token is predicted exactly once.
    """

    name: ClassVar[str] = "text"
    Options: ClassVar[type[TaskOptions]] = TextOptions
    defaults: ClassVar[Mapping[str, Any]] = {**DEFAULTS, "run.run_dir": "runs/text"}

    def texts(self, sources: Sequence[Source], options: LanguageOptions) -> Iterator[str]:
        """See `LanguageTask.texts`."""
        for source in sources:
            column: str | None = None
            for row in source.rows():
                if column is None:
                    if IDS in row.values:
                        raise DataError(
                            f"{source.place(row.number)}: has {IDS!r}: this data is tokenized already; say by which "
                            "tokenizer (--tokenizer DIR)"
                        )
                    column = find_text_column(row, cast(TextOptions, options).text_column, source)
                yield text_of(row, column, source)

    def _column_settings(self, options: LanguageOptions) -> Iterable[Any]:
        return (cast(TextOptions, options).text_column,)

    def settings_of_encoding(self, data: LanguageData) -> Mapping[str, Any]:
        """See `LanguageTask.settings_of_encoding`."""
        return {"longest": data.longest, "text_column": cast(TextOptions, data.options).text_column}

    def encode(self, data: LanguageData, writer: TokenStoreWriter) -> None:
        """See `LanguageTask.encode`."""
        pieces = _Pieces(data, writer)
        for source in data.sources:
            first = next(source.rows())
            if IDS in first.values:
                for row in source.rows():
                    pieces.add_ids(*_ids_of(row, source, data.vocabulary), at=source.place(row.number))
                continue
            column = find_text_column(first, cast(TextOptions, data.options).text_column, source)
            for batch in _batches(source, column):
                encoded = data.tokenizer.backend_tokenizer.encode_batch_fast(
                    [text for _, text in batch], add_special_tokens=False
                )
                for (continues, text), encoding in zip(batch, encoded, strict=True):
                    pieces.add_text(text, encoding.ids, continues=continues)
        pieces.end()
        writer.facts.update(pieces.facts())

    def units(self, store: TokenStore) -> NDArray[np.int64]:
        """See `LanguageTask.units`: documents."""
        starts = np.array(store.facts["first_pieces"], dtype=np.int64)
        return np.searchsorted(starts, np.arange(len(store)), side="right") - 1

    def report(self, data: LanguageData, store: TokenStore) -> Iterator[str]:
        """See `LanguageTask.report`."""
        facts = store.facts
        if not len(store) and facts["untrained"]:
            raise DataError(
                f"{data.sources[0].name}: no token of its {facts['untrained']:,} rows is trained (every label is "
                f"{IGNORED}), so there is nothing to learn; give the trained ones their token as label"
            )
        if not len(store):
            raise DataError(f"{data.sources[0].name}: every text in it is empty; there is nothing to learn")
        yield Message(
            "data    {documents:,} documents, {tokens:,} tokens in {pieces:,} pieces of up to {longest} tokens",
            documents=facts["documents"], tokens=facts["tokens"], pieces=len(store), longest=data.longest,
        )  # fmt: skip
        if facts["empty"]:
            empty = Message("{count:,} documents are empty and left out", count=facts["empty"])
            yield Message("warning: {message}", message=empty)
        if facts["untrained"]:
            untrained = Message("{count:,} rows without a trained token are left out", count=facts["untrained"])
            yield Message("warning: {message}", message=untrained)
        if facts["unknown"]:
            unknown = Message(
                "{count:,} tokens are unknown to the tokenizer ({share:.2%}): the model cannot read or write what they "
                "stand for",
                count=facts["unknown"],
                share=facts["unknown"] / max(1, facts["tokens"]),
            )
            yield Message("warning: {message}", message=unknown)

    def conclude(self, model: nn.Module, prepared: Prepared) -> Conclusion:
        """See `Task.conclude`: bits per byte of the texts that were held back, and how the model continues some."""
        tokenizer = prepared.family.tokenizer(prepared.artefacts, "the run")
        lines: list[str] = []
        figures: dict[str, Any] = {}
        if prepared.validation is not None:
            nats, size, share = _measured(model, prepared, tokenizer)
            figures["bits_per_byte"] = nats / math.log(2) / size
            figures["bytes_measured"] = size
            measured = Message("{bits:.4f} bits per byte over {size:,} bytes", bits=figures["bits_per_byte"], size=size)
            lines.append(Message("held back: {measured} ({share:.0%} of the data)", measured=measured, share=share))
        count = prepared.config.report.answer_samples
        count = 2 if count is None else min(count, 20)
        data = prepared.validation if prepared.validation is not None else prepared.train
        for number in range(min(count, len(data))):
            lines += _continued(model, prepared, tokenizer, data[number].tokens)
        return Conclusion(figures, lines)

    def card(self, facts: CardFacts) -> TaskCard:
        """See `Task.card`."""
        return text_card(facts)


def _batches(source: Source, column: str) -> Iterator[list[tuple[bool, str]]]:
    """Yield (whether it goes on with the row before, text) of some rows at a time."""
    batch: list[tuple[bool, str]] = []
    size = 0
    for row in source.rows():
        text = text_of(row, column, source)
        batch.append((row.continues, text))
        size += len(text)
        if size >= AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Pieces:
    """Cuts documents into pieces and counts what it sees."""

    def __init__(self, data: LanguageData, writer: TokenStoreWriter) -> None:
        tokenizer = data.tokenizer
        self._writer, self._longest = writer, data.longest
        self._end, self._unknown = int(cast(int, tokenizer.eos_token_id)), tokenizer.unk_token_id
        # Many tokenizers put a first token before a text and nothing behind it; the model was trained so.
        self._begin = np.array(first_tokens(tokenizer), dtype=np.int32)
        self._open = self._begin[:0]
        self._is_open = self._has_text = False
        self._first_pieces: list[int] = []
        self._count = dict.fromkeys(("documents", "empty", "tokens", "unknown", "bytes", "untrained"), 0)
        self._written = 0

    def add_text(self, text: str, ids: Sequence[int], *, continues: bool) -> None:
        """Add the tokens of a text, which goes on with the one before or begins a document."""
        if not continues:
            self.end()
            self._open, self._is_open = self._begin, True
            self._first_pieces.append(self._written)
        self._has_text = self._has_text or bool(ids)
        self._count["bytes"] += len(text.encode("utf-8", "surrogatepass"))
        self._count["tokens"] += len(ids)
        added = np.array(ids, dtype=np.int32)
        if self._unknown is not None:
            self._count["unknown"] += int((added == self._unknown).sum())
        self._open = np.concatenate([self._open, added])
        self._cut()

    def add_ids(self, ids: list[int], trained: NDArray[np.bool_] | None, at: str) -> None:
        """Add a row that was tokenized before, as it is.

        Raises:
            DataError: it has more tokens than a sample may have.
        """
        self.end()
        if len(ids) > self._longest:
            raise DataError(f"{at}: {len(ids)} tokens, more than max_seq_len={self._longest}; raise --max-seq-len")
        if trained is not None and not trained.any():
            self._count["untrained"] += 1
            return
        self._first_pieces.append(self._written)
        self._count["documents"] += 1
        self._count["tokens"] += len(ids)
        self._write(np.array(ids, dtype=np.int32), trained)

    def end(self) -> None:
        """End the document."""
        if self._is_open and self._has_text:
            self._open = np.append(self._open, np.int32(self._end))
            self._cut()
            if len(self._open) > 1:
                self._write(self._open)
            self._count["documents"] += 1
        elif self._is_open:
            self._first_pieces.pop()
            self._count["empty"] += 1
        self._open, self._is_open, self._has_text = self._begin[:0], False, False

    def facts(self) -> dict[str, Any]:
        """Return the counts, and the number of each document's first piece."""
        return {**self._count, "first_pieces": self._first_pieces}

    def _cut(self) -> None:
        start = 0
        while len(self._open) - start > self._longest:
            self._write(self._open[start : start + self._longest])
            start += self._longest - 1
        self._open = self._open[start:]

    def _write(self, ids: NDArray[np.int32], trained: NDArray[np.bool_] | None = None) -> None:
        self._writer.add(ids, trained)
        self._written += 1


def _ids_of(row: Row, source: Source, vocabulary: int) -> tuple[list[int], NDArray[np.bool_] | None]:
    """Return the tokens of a row that is tokenized already, and which are trained; None: all but the first.

    Raises:
        DataError: they are no tokens of the vocabulary, or the labels are not theirs.
    """
    ids, labels = row.values.get(IDS), row.values.get(LABELS)
    place = source.place(row.number)
    if not isinstance(ids, list) or len(ids) < 2 or not all(type(i) is int for i in ids):
        raise DataError(f"{place}: {IDS!r} should be a list of two or more whole numbers")
    if (wrong := next((i for i in ids if not 0 <= i < vocabulary), None)) is not None:
        raise DataError(
            f"{place}: token {wrong} is not in the vocabulary (0 to {vocabulary - 1}); give its --tokenizer"
        )
    if labels is None:
        return ids, None
    if not isinstance(labels, list) or len(labels) != len(ids):
        raise DataError(f"{place}: {LABELS!r} should be a list of {len(ids)} numbers, one for each of {IDS!r}")
    trained = np.array([label != IGNORED for label in labels])
    trained[0] = False
    if wrong := next((n for n in np.flatnonzero(trained).tolist() if labels[n] != ids[n]), None):
        raise DataError(
            f"{place}: label {wrong} is {labels[wrong]!r}, and should be {ids[wrong]}, or {IGNORED} (not trained)"
        )
    return ids, trained


def _measured(model: nn.Module, prepared: Prepared, tokenizer: PreTrainedTokenizerFast) -> tuple[float, int, float]:
    """Return (summed loss in nats, bytes that were predicted, share of the validation data), as time allows."""
    import torch

    data, objective = cast(TokenSamples, prepared.validation), prepared.objective
    size = prepared.config.run.batch_size
    device = next(model.parameters()).device
    started, limit = time.perf_counter(), prepared.seconds_to_conclude
    nats, count, done = 0.0, 0, 0
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(data), size):
            samples = [data[number] for number in range(start, min(start + size, len(data)))]
            nats += float(objective.loss(model, objective.collate(samples).to(device)).loss)
            count += sum(bytes_of(tokenizer, sample.tokens[sample.trained]) for sample in samples)
            done += len(samples)
            if limit is not None and time.perf_counter() - started > limit / 2:
                break
    model.train(was_training)
    return nats, max(1, count), done / len(data)


def bytes_of(tokenizer: PreTrainedTokenizerFast, ids: NDArray[np.int32]) -> int:
    """Return the number of bytes of UTF-8 that tokens stand for; control tokens stand for none."""
    special = set(tokenizer.all_special_ids)
    text = [i for i in ids.tolist() if i not in special]
    if "ByteLevel" in str(tokenizer.backend_tokenizer.decoder):
        return sum(map(len, tokenizer.convert_ids_to_tokens(text)))  # such a tokenizer writes each byte as a character
    return len(tokenizer.decode(text).encode())


def _continued(
    model: nn.Module, prepared: Prepared, tokenizer: PreTrainedTokenizerFast, tokens: NDArray[np.int32]
) -> Iterator[str]:
    prompt = tokens[:PROMPT].tolist()
    written: list[int] = []
    for token in prepared.family.stream(model, prompt, CONTINUATION, lambda logits_V: int(logits_V.argmax())):
        if token == tokenizer.eos_token_id:
            break
        written.append(token)
    begun, goes_on = (" ".join(tokenizer.decode(ids, skip_special_tokens=True).split()) for ids in (prompt, written))
    yield Message("  {begun} → {goes_on}", begun=begun, goes_on=goes_on)
