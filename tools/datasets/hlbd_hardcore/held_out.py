"""The held-out questions for a training file: seen facts in new words, unseen facts, and contrast groups."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from tools.datasets.hlbd_hardcore.dataset import SIZES, Weights, module_sizes, training_rows, write_rows
from tools.datasets.hlbd_hardcore.fact import Fact, Kind, Row
from tools.datasets.hlbd_hardcore.modules import MODULES

T = TypeVar("T")

MIN_TRAINING_SIZE = SIZES[1]
"""Smaller training files know too few facts and phrasings to be asked about."""


@dataclass(frozen=True, slots=True)
class HeldOutRow:
    """A held-out question; `kind` is paraphrase, new_fact or contrast, `group` names a contrast group."""

    row: Row
    kind: str
    group: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the row as it is written in the file."""
        cells = {"input": self.row.input, "output": self.row.output, "kind": self.kind}
        return {**cells, "fact": self.row.fact.identity, **({"group": self.group} if self.group else {})}


@dataclass(frozen=True)
class _Quota:
    """Rows per module."""

    paraphrase: int
    new_fact: int
    contrast: int


_SMALL, _LARGE = _Quota(20, 20, 10), _Quota(80, 80, 40)


def held_out_rows(size: int, seed: int, weights: Weights | None = None) -> dict[str, list[HeldOutRow]]:
    """Return the held-out rows for the training file of this size, seed and weights, by module.

    Only the first rows of each module are read, no more than version 2 has: a larger file of the same seed holds their
    facts too, and a file of any size never holds a reserved fact. So memory stays bounded. Every character of a
    held-out row occurs in those training rows. A module of few rows is asked fewer questions.

    Raises:
        ValueError: the size is below `MIN_TRAINING_SIZE`.
    """
    if size < MIN_TRAINING_SIZE:
        raise ValueError(f"a held-out file needs at least {MIN_TRAINING_SIZE} training rows, got {size}")
    quota = _LARGE if size >= SIZES[2] else _SMALL
    enough = module_sizes(SIZES[2])
    seen = {
        module: list(training_rows(module, min(rows, enough[module]), seed))
        for module, rows in module_sizes(size, weights).items()
    }
    alphabet = {char for rows in seen.values() for row in rows for char in row.input + row.output}
    return {module: _Selection(module, rows, alphabet, seed).rows(quota) for module, rows in seen.items()}


def write_held_out_file(
    path: Path, training_name: str, version: int, size: int, seed: int, weights: Weights | None = None
) -> int:
    """Write the held-out file of `training_name` atomically; returns the number of rows."""
    modules = held_out_rows(size, seed, weights)
    counts: dict[str, int] = defaultdict(int)
    for row in (row for rows in modules.values() for row in rows):
        counts[row.kind] += 1
    metadata = {
        "name": "HLBD_Hardcore_Heldout" if version == 1 else f"HLBD_Hardcore_V{version}_Heldout",
        "version": f"{version}.0",
        "description": (
            "训练时见不到的题，按事实与训练数据隔开。Questions that training never sees, disjoint from it by fact."
        ),
        "held_out_of": training_name,
        "total_samples": sum(counts.values()),
        "modules": list(modules),
        "samples_per_kind": dict(counts),
        "seed": seed,
        "generator": "tools/generate_hlbd_hardcore.py",
    }
    write_rows(path, metadata, {module: [row.as_json() for row in rows] for module, rows in modules.items()})
    return sum(counts.values())


class _Selection:
    """Chooses the held-out rows of one module, each kind of question in turn."""

    def __init__(self, module: str, seen: Sequence[Row], alphabet: set[str], seed: int) -> None:
        self._kinds = {kind.name: kind for kind in MODULES[module]}
        self._module = module
        self._seen = seen
        self._alphabet = alphabet
        self._random = random.Random(f"{seed}/held-out/{module}")
        # Kinds may share an identity (the animal of a year, the animal of who is born in it): ask each once.
        self._used: set[tuple[str, str]] = set()
        self._phrasings: dict[str, list[str]] = {}
        numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
        for row in seen:
            known = self._phrasings.setdefault(row.fact.kind, [])
            if row.phrasing not in known:
                known.append(row.phrasing)
            for name, value in row.fact.operands.items():
                if isinstance(value, int):
                    numbers[row.fact.kind, name].append(value)
        self._spans = {place: range(min(values), max(values) + 1) for place, values in numbers.items()}

    def rows(self, quota: _Quota) -> list[HeldOutRow]:
        """Return all rows of the module. Contrast groups choose first, because they are the hardest to find."""
        contrast = self._contrast(quota.contrast)
        new_facts = self._in_turn(self._new_facts, quota.new_fact)
        paraphrases = self._in_turn(self._paraphrases, quota.paraphrase)
        return [
            *(HeldOutRow(row, "paraphrase") for row in paraphrases),
            *(HeldOutRow(row, "new_fact") for row in new_facts),
            *contrast,
        ]

    def _in_turn(self, candidates: Callable[[Kind], Iterator[Row]], count: int) -> list[Row]:
        return list(islice(_round_robin([candidates(kind) for kind in self._kinds.values()]), count))

    def _readable(self, row: Row) -> bool:
        return self._alphabet.issuperset(row.input + row.output)

    def _claim(self, fact: Fact) -> bool:
        """Take a fact for one row; False if it is taken already."""
        name = (fact.kind, fact.identity)
        if name in self._used:
            return False
        self._used.add(name)
        return True

    def _within_training(self, fact: Fact) -> bool:
        """Return whether each number is between the smallest and the largest that training shows in its position."""
        return all(
            value in self._spans[fact.kind, name] for name, value in fact.operands.items() if isinstance(value, int)
        )

    def _reserved(self, kind: Kind) -> list[Fact]:
        """Return the reserved facts that need no larger or smaller numbers than training shows, shuffled."""
        if kind.rote or kind.name not in self._phrasings:
            return []
        facts = [fact for fact in kind.facts(reach=1) if fact.is_reserved() and self._within_training(fact)]
        self._random.shuffle(facts)
        return facts

    def _new_facts(self, kind: Kind) -> Iterator[Row]:
        for fact in self._reserved(kind):
            row = Row(fact, self._random.choice(self._phrasings[kind.name]))
            if self._readable(row) and self._claim(fact):
                yield row

    def _paraphrases(self, kind: Kind) -> Iterator[Row]:
        for seen in self._seen:
            row = Row(seen.fact, self._random.choice(kind.held_out_phrasings))
            if seen.fact.kind == kind.name and self._readable(row) and self._claim(seen.fact):
                yield row

    def _contrast(self, count: int) -> list[HeldOutRow]:
        """Return groups of three or four rows, `count` rows in all."""
        chosen: list[HeldOutRow] = []
        groups = _round_robin([self._groups(kind) for kind in self._kinds.values()])
        for number, group in enumerate(groups, start=1):
            rest = {n: count - len(chosen) - n for n in (4, 3) if n <= len(group)}
            # 1, 2 and 5 are no sum of threes and fours.
            fitting = [n for n, left in rest.items() if left >= 0 and left not in (1, 2, 5)]
            if fitting:
                members = group[: fitting[0]]
                self._used.update((row.fact.kind, row.fact.identity) for row in members)
                name = f"{self._module}/{members[0].fact.kind}/{number}"
                chosen += [HeldOutRow(row, "contrast", name) for row in members]
        return chosen

    def _groups(self, kind: Kind) -> Iterator[list[Row]]:
        """Yield groups of reserved facts that differ in one operand and in the answer, asked in one phrasing."""
        families: dict[tuple[str, tuple[object, ...]], list[Fact]] = defaultdict(list)
        for fact in self._reserved(kind):
            for varying in kind.contrast:
                fixed = tuple(value for name, value in fact.operands.items() if name != varying)
                families[varying, fixed].append(fact)
        names = list(families)
        self._random.shuffle(names)
        for name in names:
            phrasing = self._random.choice(self._phrasings[kind.name])
            members: list[Row] = []
            for fact in families[name]:
                row = Row(fact, phrasing)
                distinct = all(row.output != m.output and fact.identity != m.fact.identity for m in members)
                if distinct and self._readable(row) and (kind.name, fact.identity) not in self._used:
                    members.append(row)
            if len(members) >= 3:
                yield members[:4]


def _round_robin(sources: Sequence[Iterator[T]]) -> Iterator[T]:
    """Yield one item from each source in turn; an exhausted source drops out."""
    waiting = list(sources)
    while waiting:
        still = []
        for source in waiting:
            for item in islice(source, 1):
                still.append(source)
                yield item
        waiting = still
