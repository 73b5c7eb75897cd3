"""How many questions were answered rightly, per module, as lines of a table. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def score_lines(counts: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    """One line per module and one for all.

    Args:
        counts: module -> (right, asked), at least one.
    """
    width = max([len(module) for module in counts] + [len("overall")])
    right, asked = (sum(column) for column in zip(*counts.values(), strict=True))
    for module, (of_module, asked_of_it) in {**counts, "overall": (right, asked)}.items():
        yield f"  {module:<{width}}  {of_module:>5} / {asked_of_it:<5} {of_module / asked_of_it:7.1%}"
