"""A fact, the kinds of question that ask for it, and the rule that keeps some facts out of training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

Operand = int | str
Axes = tuple[Sequence[int], ...]
"""One range of values per parameter of a kind; their product is the kind's space of facts."""

RESERVED_OF_256 = 16
"""Share of the identities that training never sees: 16 of 256 hash buckets, 6.25 %."""


def is_reserved(identity: str) -> bool:
    """Return whether training, at any size and any seed, must never reveal this identity.

    A keyed hash of the identity decides (blake2b, not `hash`, which differs from run to run), so that a
    held-out file stays valid for training files that are generated after it.
    """
    digest = blake2b(identity.encode(), digest_size=1, key=b"hlbd hardcore held-out").digest()
    return digest[0] < RESERVED_OF_256


@dataclass(frozen=True, slots=True)
class Fact:
    """Something true that can be asked for: module, kind, operands and the one right answer.

    `identity` names the fact without its wording: the phrasing is no part of it, nor are the order of
    operands that commute and the unit of length (3 × 5 stays 15 in metres). `reveals` names further facts
    that a reader of question and answer learns too: "the first 马年 after 2000 is 2002" gives 2002 away.
    """

    module: str
    kind: str
    operands: Mapping[str, Operand]
    answer: str
    identity: str
    reveals: tuple[str, ...] = ()

    def is_reserved(self) -> bool:
        """True if the fact, or anything that it reveals, is kept out of training."""
        return is_reserved(self.identity) or any(map(is_reserved, self.reveals))


@dataclass(frozen=True, slots=True)
class Row:
    """A fact asked for in one phrasing, a `str.format` template over the fact's operands."""

    fact: Fact
    phrasing: str

    @property
    def input(self) -> str:
        """The question as the model reads it."""
        return self.phrasing.format_map(self.fact.operands)

    @property
    def output(self) -> str:
        """The right answer."""
        return self.fact.answer


@dataclass(frozen=True)
class Kind:
    """One kind of question: its space of facts, and the phrasings in which it may be asked.

    `axes(reach)` gives the operand ranges; reach 1 is the range of version 2, and every larger reach
    contains the smaller ones. `solve(*parameters)` makes the fact; different parameters must give
    different operands. `contrast` names the operands that may vary inside a contrast group. The facts of a
    `rote` kind (the order of the twelve animals) follow from no rule, so none of them is ever reserved.
    """

    name: str
    axes: Callable[[int], Axes]
    solve: Callable[..., Fact]
    phrasings: tuple[str, ...]
    held_out_phrasings: tuple[str, ...]
    contrast: tuple[str, ...] = ()
    rote: bool = False
    _sizes: dict[int, int] = field(default_factory=dict, repr=False, compare=False)

    def fact_count(self, reach: int) -> int:
        """Return the number of facts within `reach`, reserved ones included."""
        if reach not in self._sizes:
            self._sizes[reach] = math.prod(map(len, self.axes(reach)))
        return self._sizes[reach]

    def reserves(self, fact: Fact) -> bool:
        """Return whether a fact of this kind is kept out of training."""
        return not self.rote and fact.is_reserved()

    def facts(self, reach: int) -> Iterator[Fact]:
        """Yield every fact within `reach`, reserved ones included, in a fixed order."""
        axes = self.axes(reach)
        return (self.solve(*parameters(axes, index)) for index in range(self.fact_count(reach)))


def parameters(axes: Axes, index: int) -> list[int]:
    """Return the point of the product of `axes` with this index (mixed radix, last axis fastest)."""
    point = []
    for axis in reversed(axes):
        index, digit = divmod(index, len(axis))
        point.append(axis[digit])
    point.reverse()
    return point
