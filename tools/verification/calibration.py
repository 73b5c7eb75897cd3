"""Calibration: when the model says 90 %, is it right nine times out of ten?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tools.verification.questions.exam import Outcome
from tools.verification.questions.question import Split
from tools.verification.shortcuts.statistics import Share

NUM_BINS = 10


@dataclass(frozen=True)
class Bin:
    """The answers in one tenth of the confidence scale."""

    confidence: float
    """Mean confidence of the answers in it."""
    right: Share


@dataclass(frozen=True)
class Calibration:
    """Reliability of the answers to some questions."""

    name: str
    answers: int
    mean_confidence: float
    accuracy: float
    expected_error: float
    """Expected calibration error: mean distance of confidence and accuracy over the bins, weighted by answers."""
    bins: tuple[Bin, ...]


def calibrate(outcome: Outcome, name: str, splits: Sequence[Split]) -> Calibration | None:
    """Return the calibration of the answers to these splits, in bins of equal width; None without stated confidences.

    Confidences are given to three digits: the sixth depends on the batch size, through rounding.
    """
    stated = [
        (answer.confidence, right)
        for answer, right, q in zip(outcome.answers, outcome.right, outcome.exam.questions, strict=True)
        if q.split in splits and answer.confidence is not None
    ]
    if not stated:
        return None
    columns: list[list[tuple[float, bool]]] = [[] for _ in range(NUM_BINS)]
    for confidence, right in stated:
        columns[min(NUM_BINS - 1, int(confidence * NUM_BINS))].append((confidence, right))
    bins = [
        Bin(round(sum(c for c, _ in column) / len(column), 3), share)
        for column in columns
        if (share := Share.of([right for _, right in column])) is not None
    ]
    return Calibration(
        name,
        len(stated),
        round(sum(c for c, _ in stated) / len(stated), 3),
        sum(right for _, right in stated) / len(stated),
        round(sum(b.right.total * abs(b.confidence - b.right.rate) for b in bins) / len(stated), 3),
        tuple(bins),
    )
