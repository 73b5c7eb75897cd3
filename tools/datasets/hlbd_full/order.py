"""The order in which concepts enter a data set: patterns mixed by weight, words that are rare first."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from random import Random

from tools.datasets.hlbd_full.utterance import Utterance


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
