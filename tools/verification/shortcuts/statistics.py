"""The statistics behind the verdicts: exact or score-based, no random draws, no dependency. Shares are 0 to 1."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Z_95 = 1.959963984540054
"""Standard normal quantile of a two-sided 95 % interval."""


class Interval(NamedTuple):
    """Two limits."""

    low: float
    high: float


def wilson(hits: float, total: float) -> Interval:
    """Return the 95 % score interval of a share (Wilson 1927): within 0 … 1, and not empty at 0 or all hits.

    `total` may be an effective sample size, so both may be fractions. No trials: 0 … 1.
    """
    if total <= 0:
        return Interval(0.0, 1.0)
    share, z2 = hits / total, Z_95 * Z_95
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z_95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    # Rounding must not put the share itself outside: at 0 and at all hits the limit is exact.
    return Interval(min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def design_effect(outcomes: Sequence[bool], clusters: Sequence[Hashable]) -> float:
    """Return how many rows count as one, because rows of a cluster (the questions about one concept) are dependent.

    The ratio of the cluster-robust variance of the share to the binomial one, at least 1 (Kish 1965). With all rows
    right or all wrong there is no variance to compare, and a cluster counts as one row.
    """
    total, hits = len(outcomes), sum(outcomes)
    sizes = Counter(clusters)
    if len(sizes) == total:
        return 1.0
    if hits in (0, total) or len(sizes) == 1:
        return total / len(sizes)
    share = hits / total
    residuals: Counter[Hashable] = Counter()
    for outcome, cluster in zip(outcomes, clusters, strict=True):
        residuals[cluster] += outcome - share  # type: ignore[assignment]  # Counter adds floats as well
    robust = sum(r * r for r in residuals.values()) * len(sizes) / (len(sizes) - 1)
    return max(1.0, robust / (total * share * (1 - share)))


@dataclass(frozen=True)
class Share:
    """A share: hits out of a total, with the 95 % Wilson interval."""

    hits: int
    total: int
    rate: float
    low: float
    high: float

    @classmethod
    def of(cls, outcomes: Sequence[bool], clusters: Sequence[Hashable] | None = None) -> Share | None:
        """Return the share of true outcomes; None without outcomes. Rows of one cluster count as dependent."""
        return cls.measure(outcomes, clusters) if outcomes else None

    @classmethod
    def measure(cls, outcomes: Sequence[bool], clusters: Sequence[Hashable] | None = None) -> Share:
        """Return the share of true outcomes, of which there must be at least one."""
        total, hits = len(outcomes), sum(outcomes)
        effective = total / (design_effect(outcomes, clusters) if clusters is not None else 1.0)
        rate = hits / total
        return cls(hits, total, rate, *wilson(rate * effective, effective))


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the p-value of "the first hits more often than the second" on the same rows: exact one-sided McNemar test.

    Only the rows where exactly one of the two hits count; under the null hypothesis each of these is a fair coin,
    so p = P(heads ≥ first_only). Integer arithmetic, exact for any size.
    """
    trials = first_only + second_only
    term = math.comb(trials, first_only)
    tail = 0
    for heads in range(first_only, trials + 1):
        tail += term
        term = term * (trials - heads) // (heads + 1)
    return tail / (1 << trials)


def paired_difference(first: Sequence[bool], second: Sequence[bool]) -> Interval:
    """Return the 95 % interval of share(first) - share(second) on the same rows (Newcombe 1998, method 10).

    Built from the two Wilson intervals and the correlation of the pairs, so it behaves at 0 and 1, where a normal
    approximation would have no width.
    """
    n = len(first)
    if n == 0:
        return Interval(-1.0, 1.0)
    a = sum(x and y for x, y in zip(first, second, strict=True))
    b, c = sum(first) - a, sum(second) - a
    d = n - a - b - c
    p1, p2 = (a + b) / n, (a + c) / n
    (l1, u1), (l2, u2) = wilson(a + b, n), wilson(a + c, n)
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    phi = 0.0
    if margins:
        cross = a * d - b * c
        phi = (max(cross - n / 2, 0.0) if cross > 0 else cross) / math.sqrt(margins)
    below = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    above = (u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2
    difference = p1 - p2
    return Interval(difference - math.sqrt(max(0.0, below)), difference + math.sqrt(max(0.0, above)))


def _contrast(weighted: Iterable[tuple[float, Sequence[bool]]]) -> Interval:
    """Return the 95 % interval of Σ weight · share, from the shares' Wilson limits (MOVER, Zou and Donner 2008)."""
    value = below = above = 0.0
    for weight, outcomes in weighted:
        share = sum(outcomes) / len(outcomes)
        ends = sorted(weight * limit for limit in wilson(sum(outcomes), len(outcomes)))
        value += weight * share
        below += (weight * share - ends[0]) ** 2
        above += (weight * share - ends[1]) ** 2
    return Interval(value - math.sqrt(below), value + math.sqrt(above))


LOST_LIMITS = Interval(-1.0, 2.0)
"""The interval of a lost share when the data sets no limit."""


def lost_share(known: Sequence[bool], new: Sequence[bool], guessed: Sequence[bool]) -> tuple[float | None, Interval]:
    """Return the share of the knowledge beyond guessing that does not carry over, and its 95 % interval.

    The share is (known - new) / (known - guessed). 0: new rows are answered as well as known ones; 1: no better than by
    guessing. The interval holds every λ for which (1 - λ)·known - new + λ·guessed may be 0; the value is None if
    nothing is known beyond a guess.
    """
    if not known:
        return None, LOST_LIMITS
    rates = [sum(x) / len(x) for x in (known, new, guessed)]
    if rates[0] <= rates[2]:
        return None, LOST_LIMITS

    def contrast(lost: float) -> Interval:
        return _contrast([(1.0 - lost, known), (-1.0, new), (lost, guessed)])

    low = _last_true(lambda lost: contrast(lost).low > 0.0)
    high = _last_true(lambda lost: contrast(lost).high >= 0.0)
    return (rates[0] - rates[1]) / (rates[0] - rates[2]), Interval(low, high)


def _last_true(holds_at: Callable[[float], bool]) -> float:
    """Return the largest λ within `LOST_LIMITS` at which a condition holds that fails for larger ones (bisection)."""
    low, high = LOST_LIMITS
    if not holds_at(low):
        return low
    if holds_at(high):
        return high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if holds_at(middle) else (low, middle)
    return low


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for testing all of them (Holm 1979): the chance of any false alarm keeps its level.

    Valid for any dependence between the tests. The order is kept.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected = [1.0] * len(p_values)
    worst = 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, p_values[i] * (len(p_values) - rank)))
        corrected[i] = worst
    return corrected


def entropy(texts: Iterable[str]) -> float:
    """Return the Shannon entropy of the distribution of `texts`, in bits; 0 for no texts."""
    counts = Counter(texts)
    total = sum(counts.values())
    return sum(n / total * math.log2(total / n) for n in counts.values())
