"""The combination space: every concept that the lexicon and the patterns can say, and which are kept from training.

Reserved concepts are chosen by a hash of what they say, so that a data set of any size leaves out the same ones:

* a contrast group (all concepts that differ in one slot only) is reserved whole in CONTRAST_BUCKETS of 1000 cases;
* a single concept is reserved in NEW_FACT_BUCKETS of 1000 cases.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

from tools.full.utterance import Utterance
from tools.full.utterances_ability import Abstains, Can, Experienced, Must, Visited
from tools.full.utterances_doing import Doing, DoingSomehow, Request, Skilled, Together
from tools.full.utterances_mind import Favourite, FeelsSoWants, Likes, Want
from tools.full.utterances_quality import Compare, IsLike, Isnt, TooMuch, Very
from tools.full.utterances_question import AskCan, AskDid, AskLike
from tools.full.utterances_thing import Exists, Gave, IsKind, Owned, Put, Wears
from tools.full.utterances_time import After, Before, Did, DidNot, Errand, Habitual
from tools.full.utterances_world import AnimalAt, Aged, Beside, CityWeather, Clock, HasJob, Prevented, Sky

PATTERNS: tuple[type[Utterance], ...] = (
    Sky, CityWeather, Request, Doing, DoingSomehow, Together, Skilled, Did, DidNot, Habitual, Errand, Before, After,
    Want, Likes, Favourite, FeelsSoWants, Can, Must, Abstains, Experienced, Visited, AskCan, AskLike, AskDid,
    Very, TooMuch, Isnt, IsLike, Compare, Exists, Put, IsKind, Owned, Wears, Gave, Beside, AnimalAt, HasJob, Aged,
    Clock, Prevented,
)  # fmt: skip

BUCKETS = 1000
CONTRAST_BUCKETS = 30
NEW_FACT_BUCKETS = 20


def bucket(text: str) -> int:
    """0 to 999, the same on every machine and in every run."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") % BUCKETS


def in_contrast(utterance: Utterance) -> bool:
    """True if the concept's whole contrast group is reserved."""
    return bucket(f"contrast {utterance.group()}") < CONTRAST_BUCKETS


def is_new_fact(utterance: Utterance) -> bool:
    """True if the concept alone is reserved."""
    return bucket(f"new fact {utterance.concept()}") < NEW_FACT_BUCKETS


def every_concept() -> Iterator[Utterance]:
    """Every concept once, pattern by pattern, in the order of the tables."""
    seen: set[str] = set()
    for pattern in PATTERNS:
        for utterance in pattern.every():
            concept = utterance.concept()
            if concept not in seen:
                seen.add(concept)
                yield utterance
