"""The held-out samples: rows that share no fact with the training concepts, of three kinds.

* paraphrase: a training concept, said by a pattern that training never uses;
* new_fact: a concept that training never has, of words that it has;
* contrast: groups of concepts that differ in one word, none in training, whose sentences must all differ.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from random import Random

from tools.datasets.hlbd_full.patterns.utterance import Utterance
from tools.datasets.hlbd_full.sample import Sample, characters, sample, spoken
from tools.datasets.hlbd_full.space import LONGEST_LINE, Space, interleaved

PARAPHRASES = 160
NEW_FACTS = 140
CONTRAST_GROUPS = 26
CONTRAST_MEMBERS = 4


class Known:
    """The patterns, words in their slots and characters that occur in the training samples."""

    def __init__(self, training: Iterable[Utterance]) -> None:
        self.words: set[str] = set()
        self.characters: set[str] = set()
        for utterance in training:
            self.words.update(self._words(utterance))
            self.characters.update(characters(sample(utterance)))

    def covers(self, utterance: Utterance, row: Sample) -> bool:
        """Return whether every word and character of the row occurs in training."""
        return self._words(utterance) <= self.words and characters(row) <= self.characters

    @staticmethod
    def _words(utterance: Utterance) -> set[str]:
        return {type(utterance).__name__, *utterance.slots().values()}


def held_out(whole: Space, training: list[Utterance], seed: int) -> Iterator[Sample]:
    """Yield paraphrases, then new facts, then contrast groups; fewer where a small training set lacks the words."""
    known = Known(training)
    for row in islice(_paraphrases(training, known, seed), PARAPHRASES):
        yield {**row, "kind": "paraphrase"}
    for row in islice(_new_facts(whole, known, seed), NEW_FACTS):
        yield {**row, "kind": "new_fact"}
    for number, rows in enumerate(islice(_contrast_groups(whole, known, seed), CONTRAST_GROUPS), start=1):
        for row in rows:
            yield {**row, "kind": "contrast", "group": f"contrast_{number:02}"}


def _paraphrases(training: list[Utterance], known: Known, seed: int) -> Iterator[Sample]:
    candidates = [utterance for utterance in training if utterance.rephrased() is not None]
    for utterance in interleaved(candidates, f"{seed} paraphrase"):
        row = sample(utterance, utterance.rephrased())
        if max(map(len, spoken(row))) <= LONGEST_LINE and known.covers(utterance, row):
            yield row


def _new_facts(whole: Space, known: Known, seed: int) -> Iterator[Sample]:
    for utterance in interleaved(whole.new_facts, f"{seed} new fact"):
        row = sample(utterance)
        if known.covers(utterance, row):
            yield row


def _contrast_groups(whole: Space, known: Known, seed: int) -> Iterator[list[Sample]]:
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in whole.contrasts:
        groups[utterance.group()].append(utterance)
    for head in interleaved([members[0] for members in groups.values()], f"{seed} contrast"):
        members = groups[head.group()]
        Random(f"{seed} contrast {head.group()}").shuffle(members)
        rows = _different([row for one in members if known.covers(one, row := sample(one))])
        if len(rows) >= CONTRAST_MEMBERS - 1:
            yield rows


def _different(rows: list[Sample]) -> list[Sample]:
    """Return the first rows that differ from each other in every spoken level."""
    chosen: list[Sample] = []
    for row in rows:
        clash = any(mine == theirs for other in chosen for mine, theirs in zip(spoken(row), spoken(other), strict=True))
        if not clash and len(chosen) < CONTRAST_MEMBERS:
            chosen.append(row)
    return chosen
