"""All concepts that the lexicon makes, those that are reserved, and the order in which they are drawn."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from random import Random

from tools.datasets.hlbd_full.patterns.ability import Abstains, Can, Experienced, Must, Visited
from tools.datasets.hlbd_full.patterns.doing import Doing, DoingSomehow, Request, Skilled, Together
from tools.datasets.hlbd_full.patterns.mind import Favourite, FeelsSoWants, Likes, Want
from tools.datasets.hlbd_full.patterns.quality import Compare, IsLike, Isnt, TooMuch, Very
from tools.datasets.hlbd_full.patterns.questions import AskCan, AskDid, AskLike
from tools.datasets.hlbd_full.patterns.things import Exists, Gave, IsKind, Owned, Put, Wears
from tools.datasets.hlbd_full.patterns.times import After, Before, Did, DidNot, Errand, Habitual
from tools.datasets.hlbd_full.patterns.utterance import Utterance
from tools.datasets.hlbd_full.patterns.world import Aged, AnimalAt, Beside, CityWeather, Clock, HasJob, Prevented, Sky
from tools.datasets.hlbd_full.sample import longest_line

PATTERNS: tuple[type[Utterance], ...] = (
    Sky, CityWeather, Request, Doing, DoingSomehow, Together, Skilled, Did, DidNot, Habitual, Errand, Before, After,
    Want, Likes, Favourite, FeelsSoWants, Can, Must, Abstains, Experienced, Visited, AskCan, AskLike, AskDid,
    Very, TooMuch, Isnt, IsLike, Compare, Exists, Put, IsKind, Owned, Wears, Gave, Beside, AnimalAt, HasJob, Aged,
    Clock, Prevented,
)  # fmt: skip

LONGEST_LINE = 60
"""Characters of a line at most; a concept with a longer one is left out."""

BUCKETS = 100
CONTRAST_BUCKETS = 3
NEW_FACT_BUCKETS = 2


@dataclass(frozen=True)
class Space:
    """All concepts, each in one of three lists, in the order of the patterns and tables."""

    training: tuple[Utterance, ...]
    new_facts: tuple[Utterance, ...]
    contrasts: tuple[Utterance, ...]

    def __len__(self) -> int:
        return len(self.training) + len(self.new_facts) + len(self.contrasts)


@cache
def space() -> Space:
    """Walk through every pattern once (a few seconds) and set the reserved concepts aside."""
    training, new_facts, contrasts = [], [], []
    for utterance in _every_concept():
        if in_contrast(utterance):
            contrasts.append(utterance)
        elif is_new_fact(utterance):
            new_facts.append(utterance)
        else:
            training.append(utterance)
    return Space(tuple(training), tuple(new_facts), tuple(contrasts))


def in_contrast(utterance: Utterance) -> bool:
    """Return whether the concept's whole contrast group is reserved. A pattern of one slot has no groups."""
    return len(utterance.slots()) > 1 and _bucket(f"contrast {utterance.group()}") < CONTRAST_BUCKETS


def is_new_fact(utterance: Utterance) -> bool:
    """Return whether the concept is reserved by itself."""
    return _bucket(f"new fact {utterance.concept()}") < NEW_FACT_BUCKETS


def _every_concept() -> Iterator[Utterance]:
    seen: set[str] = set()
    for pattern in PATTERNS:
        for utterance in pattern.every():
            concept = utterance.concept()
            if concept not in seen and longest_line(utterance) <= LONGEST_LINE:
                seen.add(concept)
                yield utterance


def _bucket(text: str) -> int:
    """Return a number from 0 to 99, the same on every machine and in every run."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") % BUCKETS


def interleaved(utterances: Sequence[Utterance], seed: str) -> Iterator[Utterance]:
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
    """Reorder so that every word comes once before any comes twice, as far as possible, so that small sets have all.

    A concept moves to the round in which its rarest word so far comes up.
    """
    seen: Counter[str] = Counter()
    rounds: list[tuple[int, Utterance]] = []
    for member in members:
        names = member.slots().values()
        rounds.append((min(seen[name] for name in names), member))
        seen.update(names)
    return [member for _, member in sorted(rounds, key=lambda one: one[0])]
