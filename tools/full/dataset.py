"""The two files: training samples of any size, and held-out samples that share no fact with them."""

from __future__ import annotations

import heapq
import json
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tools.full.sample import Sample, sample
from tools.full.space import LONGEST_LINE, Space, space
from tools.full.utterance import Utterance

NAME = "HLBD Full"
VERSION = "2.0"
DEFAULT_SIZE = 5000
DEFAULT_SEED = 2

PARAPHRASES = 160
NEW_FACTS = 140
CONTRAST_GROUPS = 26
CONTRAST_MEMBERS = 4
SPOKEN_LEVELS = ("level_5", "level_6", "level_7", "level_8")


@dataclass(frozen=True)
class Dataset:
    """What the generator writes: concepts for training, and rows held out from them."""

    training: list[Utterance]
    held_out: list[Sample]


def build(size: int = DEFAULT_SIZE, seed: int = DEFAULT_SEED) -> Dataset:
    """Choose ``size`` training concepts and the held-out rows that fit them.

    A bigger size keeps the concepts of a smaller one (same seed) and adds to them.

    Raises:
        ValueError: size is below 1 or beyond the combination space.
    """
    whole = space()
    if not 1 <= size <= len(whole.training):
        raise ValueError(
            f"size {size} is not possible: the lexicon makes {len(whole)} concepts, of which {len(whole.training)} "
            f"may be trained on; choose 1 to {len(whole.training)}"
        )
    training = [one for one, _ in zip(_interleaved(whole.training, f"{seed} train"), range(size), strict=False)]
    return Dataset(training, list(_held_out(whole, training, seed)))


def _interleaved(utterances: Sequence[Utterance], seed: str) -> Iterator[Utterance]:
    """Mix the patterns in proportion to their weights, each pattern's concepts in random order, rare words first."""
    by_pattern: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        by_pattern[type(utterance).__name__].append(utterance)
    for name, members in by_pattern.items():
        Random(f"{seed} {name}").shuffle(members)
        by_pattern[name] = _rare_first(members)
    queue = [(1 / members[0].weight, name, 0) for name, members in by_pattern.items()]
    heapq.heapify(queue)
    while queue:
        _, name, index = heapq.heappop(queue)
        members = by_pattern[name]
        yield members[index]
        if index + 1 < len(members):
            heapq.heappush(queue, ((index + 2) / members[0].weight, name, index + 1))


def _rare_first(members: list[Utterance]) -> list[Utterance]:
    """Let every word come up once before any comes up twice, as far as the order allows, so that small sets have all.

    A concept moves to the round in which its rarest word so far comes up.
    """
    seen: Counter[str] = Counter()
    rounds: list[tuple[int, Utterance]] = []
    for member in members:
        names = member.slots().values()
        rounds.append((min(seen[name] for name in names), member))
        seen.update(names)
    return [member for _, member in sorted(rounds, key=lambda one: one[0])]


def _held_out(whole: Space, training: list[Utterance], seed: int) -> Iterator[Sample]:
    known = _Known(training)
    yield from _paraphrases(training, known, seed)
    yield from _new_facts(whole, known, seed)
    yield from _contrasts(whole, known, seed)


class _Known:
    """What the training samples have shown: patterns, words in their slots, characters."""

    def __init__(self, training: Iterable[Utterance]) -> None:
        self.words: set[str] = set()
        self.characters: set[str] = set()
        for utterance in training:
            self.words.update(self._words(utterance))
            self.characters.update(_characters(sample(utterance)))

    def covers(self, utterance: Utterance, row: Sample) -> bool:
        """True if every word and character of the row occurs in training."""
        return self._words(utterance) <= self.words and _characters(row) <= self.characters

    @staticmethod
    def _words(utterance: Utterance) -> set[str]:
        return {type(utterance).__name__, *utterance.slots().values()}


def _characters(row: Sample) -> set[str]:
    return set(json.dumps([row[level] for level in SPOKEN_LEVELS], ensure_ascii=False)) | set(  # type: ignore[literal-required]
        "".join(
            [*row["level_1"].values(), *row["level_2"].values(), *row["level_3"].values(), *row["level_4"].values()]
        )
    )


def _paraphrases(training: list[Utterance], known: _Known, seed: int) -> Iterator[Sample]:
    """Concepts of the training file, said by a pattern that the training file never uses."""
    candidates = [utterance for utterance in training if utterance.rephrased() is not None]
    count = 0
    for utterance in _interleaved(candidates, f"{seed} paraphrase"):
        row = sample(utterance, utterance.rephrased())
        if count < PARAPHRASES and _fits(row) and known.covers(utterance, row):
            row["kind"] = "paraphrase"
            yield row
            count += 1


def _new_facts(whole: Space, known: _Known, seed: int) -> Iterator[Sample]:
    """Concepts that training never has, of words that it has."""
    count = 0
    for utterance in _interleaved(whole.new_facts, f"{seed} new fact"):
        row = sample(utterance)
        if count < NEW_FACTS and known.covers(utterance, row):
            row["kind"] = "new_fact"
            yield row
            count += 1


def _contrasts(whole: Space, known: _Known, seed: int) -> Iterator[Sample]:
    """Groups of concepts that differ in one word, so that every spoken level must differ."""
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in whole.contrasts:
        groups[utterance.group()].append(utterance)
    heads = [members[0] for members in groups.values()]
    count = 0
    for head in _interleaved(heads, f"{seed} contrast"):
        members = groups[head.group()]
        Random(f"{seed} contrast {head.group()}").shuffle(members)
        rows = _different([row for one in members if known.covers(one, row := sample(one))])
        if count < CONTRAST_GROUPS and len(rows) >= CONTRAST_MEMBERS - 1:
            count += 1
            for row in rows:
                row["kind"], row["group"] = "contrast", f"contrast_{count:02}"
                yield row


def _different(rows: list[Sample]) -> list[Sample]:
    """The first rows that differ from each other in every spoken level."""
    chosen: list[Sample] = []
    for row in rows:
        clash = any(row[level] == other[level] for other in chosen for level in SPOKEN_LEVELS)  # type: ignore[literal-required]
        if not clash and len(chosen) < CONTRAST_MEMBERS:
            chosen.append(row)
    return chosen


def _fits(row: Sample) -> bool:
    return all(len(line) <= LONGEST_LINE for level in SPOKEN_LEVELS for line in row[level].values())  # type: ignore[literal-required]


def training_file(dataset: Dataset, seed: int) -> str:
    """The training file's text: metadata, then one sample a line."""
    return _file_text(
        {
            "name": NAME,
            "version": VERSION,
            "description": "Chinese concepts on eight levels: character and emoji, phrase, syntax, pinyin, English, "
            "Chinese, Japanese, Korean; composed from a lexicon by grammar rules",
            "total_samples": len(dataset.training),
            "combination_space": len(space()),
            "seed": seed,
        },
        [sample(utterance) for utterance in dataset.training],
    )


def held_out_file(dataset: Dataset, seed: int) -> str:
    """The held-out file's text."""
    kinds = [row["kind"] for row in dataset.held_out]
    return _file_text(
        {
            "name": f"{NAME} held out",
            "version": VERSION,
            "description": "paraphrase: a training concept said by a pattern that training never uses; new_fact: a "
            "concept that training never has, of words that it has; contrast: groups of new concepts that differ in "
            "one word, so that levels 5 to 8 must all differ",
            "total_samples": len(kinds),
            "kinds": {kind: kinds.count(kind) for kind in ("paraphrase", "new_fact", "contrast")},
            "training_samples": len(dataset.training),
            "seed": seed,
        },
        dataset.held_out,
    )


def _file_text(metadata: dict[str, Any], rows: list[Sample]) -> str:
    head = json.dumps(metadata, ensure_ascii=False, indent=2).replace("\n", "\n  ")
    lines = ",\n    ".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f'{{\n  "metadata": {head},\n  "samples": [\n    {lines}\n  ]\n}}\n'


def write(path: Path, text: str) -> None:
    """Write a file in one step: readers see the old file or the new one, never half of it."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False, newline="\n") as part:
        part.write(text)
    Path(part.name).chmod(0o644)
    os.replace(part.name, path)  # noqa: PTH105 - Path.replace is the same call
