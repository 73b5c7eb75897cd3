"""Successive halving: many trials begin, and at each rung only the best of them are trained further. No torch.

Jamieson and Talwalkar, 2016 (arXiv 1502.07943): with factor 3 and 27 epochs the rungs are 1, 3, 9 and 27 epochs; at
each a third of the trials goes on. A survivor is not begun again: it is resumed, and its run is as long as it was, so
it ends bit for bit as it would have without rungs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def rungs(epochs: int, trials: int, factor: int) -> list[int]:
    """Return the epochs after which trials are compared, ascending; the last is the end of the runs.

    Args:
        epochs: length of a whole run.
        trials: number of trials that begin.
        factor: number of trials of which one goes on; from 2.
    """
    found = [epochs]
    while trials >= factor and epochs >= factor ** len(found):
        found.insert(0, round(epochs / factor ** len(found)))
        trials //= factor
    return found


def survivors(values: Mapping[str, float | None], goal: str, factor: int) -> Sequence[str]:
    """Return the names of the trials that go on, in their own order: the best, at least one.

    Args:
        values: name of a trial -> value of the metric at this rung; None: it has none, and does not go on.
        goal: `minimize` or `maximize`.
        factor: number of trials of which one goes on.
    """
    sign = -1.0 if goal == "maximize" else 1.0
    measured = {name: sign * value for name, value in values.items() if value is not None}
    best = sorted(measured, key=lambda name: measured[name])[: math.ceil(len(values) / factor)]
    return [name for name in values if name in best]
