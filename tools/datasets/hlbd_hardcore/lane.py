"""A lane: the training rows that one kind of question gains when its operand ranges grow by one step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from tools.datasets.hlbd_hardcore.fact import Kind, Row, parameters
from tools.datasets.hlbd_hardcore.permutation import Permutation

MAX_REACH = 12
"""Far beyond what a million rows need (reach 4)."""
_COUNTED_EXACTLY = 8192
_SURELY_FREE = 0.75
"""Lower bound on the unreserved share of a large space. Expected are (15/16)² ≈ 0.88 when a row reveals a
second fact, and more than 8192 draws stay within ± 0.02 of it."""


@dataclass(frozen=True)
class Lane:
    """Rows of `kind` that are within `reach` but not within the next smaller one."""

    kind: Kind
    reach: int

    def rows(self, seed: int) -> Iterator[Row]:
        """Yield every training row of the lane once: fact × phrasing in an order that depends on the seed only.

        One permutation runs over the product of facts and phrasings, so the phrasing is independent of the
        operands. Reserved facts are skipped. Memory does not grow with the number of rows.
        """
        kind, phrasings = self.kind, self.kind.phrasings
        axes = kind.axes(self.reach)
        inner = [frozenset(axis) for axis in kind.axes(self.reach - 1)] if self.reach > 1 else []
        size = kind.fact_count(self.reach) * len(phrasings)
        if size == 0:
            return
        order = Permutation(size, f"{seed}/{_key(kind)}/{self.reach}")
        for index in range(size):
            fact_index, phrasing = divmod(order(index), len(phrasings))
            point = parameters(axes, fact_index)
            if inner and all(value in axis for value, axis in zip(point, inner, strict=True)):
                continue
            fact = kind.solve(*point)
            if not kind.reserves(fact):
                yield Row(fact, phrasings[phrasing])

    def room(self) -> int:
        """Return the number of rows that the lane holds: counted in a small space, a lower bound in a large one."""
        return _room(self)


def _key(kind: Kind) -> str:
    """Return the part of a permutation's key that names the kind.

    It holds the name that this package had when the committed files were generated. It must not follow a move or a
    rename: every generated file would change.
    """
    home = "functools" if isinstance(kind.solve, partial) else f"tools.hardcore.{kind.solve.__module__.split('.')[-1]}"
    return f"{home}/{kind.name}"


@lru_cache(maxsize=4096)
def _room(lane: Lane) -> int:
    kind, reach = lane.kind, lane.reach
    facts = kind.fact_count(reach) - (kind.fact_count(reach - 1) if reach > 1 else 0)
    if kind.fact_count(reach) > _COUNTED_EXACTLY:
        return int(facts * _SURELY_FREE) * len(kind.phrasings)
    free = _free_facts(kind, reach) - (_free_facts(kind, reach - 1) if reach > 1 else 0)
    return free * len(kind.phrasings)


@lru_cache(maxsize=4096)
def _free_facts(kind: Kind, reach: int) -> int:
    return sum(not kind.reserves(fact) for fact in kind.facts(reach))


def shares(kinds: Sequence[Kind], rows: int) -> list[tuple[Lane, int]]:
    """Return how many of a module's `rows` each lane gives: evenly over the kinds, small numbers before large ones.

    An exhausted kind leaves its share to the others; operand ranges widen only when all kinds are exhausted. Shares
    never shrink as `rows` grows, so a larger file holds every row of a smaller one.

    Raises:
        ValueError: there are fewer questions, even with the widest operands.
    """
    wanted = rows
    given: list[tuple[Lane, int]] = []
    for reach in range(1, MAX_REACH + 1):
        lanes = [Lane(kind, reach) for kind in kinds]
        filled = _fill([lane.room() for lane in lanes], rows)
        given += [(lane, share) for lane, share in zip(lanes, filled, strict=True) if share]
        rows -= sum(filled)
        if rows == 0:
            return given
    raise ValueError(f"{wanted} rows wanted, only {wanted - rows} exist")


def _fill(rooms: Sequence[int], wanted: int) -> list[int]:
    """Fill vessels of these sizes with `wanted` in all, to one common level; the remainder goes to the first ones."""
    filled = [0] * len(rooms)
    open_vessels = [i for i, room in enumerate(rooms) if room]
    wanted = min(wanted, sum(rooms))
    while wanted:
        each, rest = divmod(wanted, len(open_vessels))
        for position, i in enumerate(open_vessels):
            poured = min(each + (position < rest), rooms[i] - filled[i])
            filled[i] += poured
            wanted -= poured
        open_vessels = [i for i in open_vessels if filled[i] < rooms[i]]
    return filled
