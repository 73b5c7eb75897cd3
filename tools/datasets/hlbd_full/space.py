"""The combination space: every concept that the lexicon and the patterns can say, and which are kept from training.

Reserved concepts are chosen by a hash of what they say, so that a data set of any size leaves out the same ones:

* a contrast group (all concepts that differ in one slot only) is reserved whole in 3 of 100 cases;
* any other concept is reserved by itself in 2 of 100 cases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b

from tools.datasets.hlbd_full.sample import longest_line
from tools.datasets.hlbd_full.utterance import Utterance
from tools.datasets.hlbd_full.utterances_ability import Abstains, Can, Experienced, Must, Visited
from tools.datasets.hlbd_full.utterances_doing import Doing, DoingSomehow, Request, Skilled, Together
from tools.datasets.hlbd_full.utterances_mind import Favourite, FeelsSoWants, Likes, Want
from tools.datasets.hlbd_full.utterances_quality import Compare, IsLike, Isnt, TooMuch, Very
from tools.datasets.hlbd_full.utterances_question import AskCan, AskDid, AskLike
from tools.datasets.hlbd_full.utterances_thing import Exists, Gave, IsKind, Owned, Put, Wears
from tools.datasets.hlbd_full.utterances_time import After, Before, Did, DidNot, Errand, Habitual
from tools.datasets.hlbd_full.utterances_world import Aged, AnimalAt, Beside, CityWeather, Clock, HasJob, Prevented, Sky

PATTERNS: tuple[type[Utterance], ...] = (
    Sky, CityWeather, Request, Doing, DoingSomehow, Together, Skilled, Did, DidNot, Habitual, Errand, Before, After,
    Want, Likes, Favourite, FeelsSoWants, Can, Must, Abstains, Experienced, Visited, AskCan, AskLike, AskDid,
    Very, TooMuch, Isnt, IsLike, Compare, Exists, Put, IsKind, Owned, Wears, Gave, Beside, AnimalAt, HasJob, Aged,
    Clock, Prevented,
)  # fmt: skip

LONGEST_LINE = 60
"""A concept is left out when one of its lines would have more characters."""

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
    """True if the concept's whole contrast group is reserved. A pattern of one slot has no groups."""
    return len(utterance.slots()) > 1 and _bucket(f"contrast {utterance.group()}") < CONTRAST_BUCKETS


def is_new_fact(utterance: Utterance) -> bool:
    """True if the concept is reserved by itself."""
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
    """0 to 99, the same on every machine and in every run."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") % BUCKETS
