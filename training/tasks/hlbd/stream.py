"""Streaming of samples from HLBD files: those of `load_corpus`, one by one, without holding a file. No torch."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np

from apt_model.tokenizer import DynamicTagTokenizer
from training.errors import DataError
from training.tasks.hlbd.files import (
    Pairs,
    Sample,
    both_formats,
    concept_texts,
    data_files,
    directions,
    kind,
    level_tag,
    module_name,
    row_sample,
)
from training.tasks.hlbd.json_stream import HLBDStream, hlbd_stream


class CorpusStream:
    """Samples of one or more HLBD files, equal to `load_corpus(names, pairs).samples` and in the same order.

    A file of question rows is read once. A file of concepts is read twice: a prompt with two answers is left out, which
    is known only at the end; 24 bytes per sample are kept for it.

    Args:
        names: as for `load_corpus`.
        pairs: as for `load_corpus`.

    Raises:
        DataError: no file is given, one is given twice or not found. A fault inside a file is reported when it is
            reached.
    """

    def __init__(self, names: Sequence[str | Path], pairs: Pairs = "levels") -> None:
        self.paths = data_files(names)
        self.pairs: Pairs = pairs
        self.tags: set[str] = set()
        """Tags of the levels, as far as the files were read."""

    def __iter__(self) -> Iterator[Sample]:
        entries = 0
        for path in self.paths:
            entries += yield from self._file(path, entries)

    def _file(self, path: Path, first_entry: int) -> Generator[Sample, None, int]:
        """Yield the samples of one file; return the number of its entries."""
        ambiguous = self._ambiguous_prompts(path)
        entries = 0
        with hlbd_stream(path) as stream:
            for key in _top(stream):
                if key == "data" and ambiguous is None:
                    entries = yield from self._rows(stream, first_entry)
                elif key == "samples":
                    if ambiguous is None:
                        raise both_formats(path)
                    entries = yield from self._clear_samples(stream, first_entry, ambiguous)
                else:
                    stream.skip()
            stream.end()
        return entries

    def _rows(self, stream: HLBDStream, first_entry: int) -> Generator[Sample, None, int]:
        path, entries = stream.path, 0
        if not stream.at("{"):
            raise DataError(f"{path}: 'data' must map each module to a list of rows, it is a {kind(stream.value())}")
        for module in stream.members():
            module_name(path, module)
            if not stream.at("["):
                raise DataError(f"{path}: module {module!r} must be a list of rows, it is a {kind(stream.value())}")
            before = entries
            for _ in stream.items():
                yield row_sample(path, module, entries - before, stream.value(), first_entry + entries)
                entries += 1
            if entries == before:
                raise DataError(f"{path}: module {module!r} is empty; fill it or take it out")
        if not entries:
            raise DataError(f"{path}: the file holds no samples")
        return entries

    def _concepts(self, stream: HLBDStream) -> Iterator[list[tuple[str, str]]]:
        """Yield lists of (prompt, answer), one for each direction, concept by concept."""
        if not stream.at("["):
            found = kind(stream.value())
            raise DataError(f"{stream.path}: 'samples' must be a list of concepts, it is a {found}")
        for number, _ in enumerate(stream.items()):
            concept, texts = concept_texts(stream.path, number, stream.value())
            self.tags.update(map(level_tag, texts))
            yield list(directions(concept, texts, self.pairs))

    def _clear_samples(
        self, stream: HLBDStream, first_entry: int, ambiguous: frozenset[bytes]
    ) -> Generator[Sample, None, int]:
        entries = samples = 0
        for asked in self._concepts(stream):
            for prompt, answer in asked:
                if _digest(prompt) not in ambiguous:
                    yield Sample(prompt, answer, "concept", first_entry + entries)
                    samples += 1
            entries += 1
        if not samples:
            raise DataError(f"{stream.path}: the file holds no samples")
        return entries

    def _ambiguous_prompts(self, path: Path) -> frozenset[bytes] | None:
        """Return digests of the prompts with several answers in a file of concepts; None: it has question rows."""
        keys: list[str] = []
        prompts, answers = bytearray(), array("Q")
        with hlbd_stream(path) as stream:
            for key in _top(stream):
                keys.append(key)
                if key == "data" and "samples" in keys:
                    raise both_formats(path)
                if key == "data":
                    return None
                if key != "samples":
                    stream.skip()
                    continue
                for asked in self._concepts(stream):
                    for prompt, answer in asked:
                        prompts += _digest(prompt)
                        answers.append(int.from_bytes(_digest(answer)[:8], "little"))
            stream.end()
        if "samples" not in keys:
            raise DataError(
                f"{path}: neither 'data' (modules of question rows) nor 'samples' (concepts on levels) "
                f"among its keys {sorted(keys)}; this is not an HLBD file"
            )
        return _with_several(prompts, answers)


def _top(stream: HLBDStream) -> Iterator[str]:
    """Yield the keys of the document."""
    if not stream.at("{"):
        found = stream.value()
        stream.end()
        raise DataError(f"{stream.path}: an HLBD file is a JSON object, this one is a {kind(found)}")
    yield from stream.members()


def _digest(text: str) -> bytes:
    """Return 16 bytes that identify a text; a collision of two texts is less likely than a memory error."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _with_several(prompts: bytearray, answers: array[int]) -> frozenset[bytes]:
    """Return the prompts that have more than one answer.

    Args:
        prompts: 16 bytes for each sample.
        answers: a number for each sample's answer.
    """
    halves = np.frombuffer(prompts, dtype="<u8").reshape(-1, 2)
    numbers = np.frombuffer(answers, dtype=np.uint64) if answers else np.zeros(0, dtype=np.uint64)
    order = np.lexsort((numbers, halves[:, 1], halves[:, 0]))
    halves, numbers = halves[order], numbers[order]
    same_prompt = (halves[1:] == halves[:-1]).all(axis=1)
    clash = np.flatnonzero(same_prompt & (numbers[1:] != numbers[:-1]))
    return frozenset(halves[i].tobytes() for i in clash)


def stream_tokenizer(names: Sequence[str | Path], pairs: Pairs = "levels") -> DynamicTagTokenizer:
    """Build the tokenizer that training on these files would build, without holding the files.

    Raises:
        DataError: a file cannot be used.
    """
    stream = CorpusStream(names, pairs)
    found = DynamicTagTokenizer.from_texts(text for sample in stream for text in sample[:2])
    return DynamicTagTokenizer(found.characters, {*found.tags, *stream.tags})
