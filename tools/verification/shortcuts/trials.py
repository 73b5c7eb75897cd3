"""Paired trials of a shortcut: does the model follow it more often than a matched control does, and by how much?

Three criteria decide, never a bare threshold. The test: an exact McNemar test on the same rows, corrected for all tests
of the report (Holm), says whether there is any effect. The size: the 95 % interval of the effect must lie above the
smallest effect that counts as a shortcut, so that a large file does not turn a tiny effect into a verdict. And the
power: "not found" is reported only when the interval excludes a full shortcut, so that a small file does not turn
missing evidence into an acquittal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tools.verification.questions.exam import RowSet
from tools.verification.shortcuts.statistics import mcnemar, paired_difference

FALSE_ALARM_LEVEL = 0.01
"""Chance that an honest model is accused of anything at all by the tests of one report."""


class Verdict(StrEnum):
    """The result of weighing the evidence."""

    FOUND = "found"
    NOT_FOUND = "not found"
    TOO_LITTLE = "too little data to say"


@dataclass(frozen=True)
class Effect:
    """The strength of something, with its 95 % interval and the sizes that decide."""

    name: str
    value: float | None
    low: float
    high: float
    smallest: float
    """The shortcut counts only if the whole interval lies above this."""
    full: float
    """The shortcut is ruled out only if the whole interval lies below this."""


@dataclass(frozen=True)
class Example:
    """One row that shows it."""

    prompt: str
    truth: str
    answer: str


@dataclass(frozen=True)
class Evidence:
    """The outcome of one test."""

    shortcut: str
    module: str
    rows: RowSet
    trials: int
    hits: int
    """Trials in which the model did what the shortcut does."""
    controls: Mapping[str, int]
    """Trials in which each control did."""
    effects: tuple[Effect, ...]
    p_value: float
    detail: str = ""
    examples: tuple[Example, ...] = ()
    p_corrected: float = 1.0
    """Holm-corrected for all tests of the report."""
    is_fallback: bool = False
    """How a model that looks up answers unseen facts: reported with the lookup, not as a shortcut of its own."""

    @property
    def verdict(self) -> Verdict:
        """The verdict by the module's three criteria; one effect that is ruled out decides, whatever the others say."""
        if self.p_corrected < FALSE_ALARM_LEVEL and all(e.low > e.smallest for e in self.effects):
            return Verdict.FOUND
        return Verdict.NOT_FOUND if any(e.high < e.full for e in self.effects) else Verdict.TOO_LITTLE

    @property
    def weakest(self) -> Effect:
        """The effect whose lower limit is the furthest below what would count."""
        return min(self.effects, key=lambda e: e.low - e.smallest)

    def in_words(self) -> str:
        """Return `arithmetic, unseen: …`, or an empty string where there is nothing to add to the numbers."""
        return f"{self.module}, {self.rows}: {self.detail}" if self.detail else ""

    def corrected(self, p_value: float) -> Evidence:
        """Return a copy with the corrected p-value."""
        return replace(self, p_corrected=p_value)

    def as_fallback(self) -> Evidence:
        """Return a copy that is marked as a fallback."""
        return replace(self, is_fallback=True)


SMALLEST, FULL = 0.25, 0.5
"""A shortcut that decides less than a quarter of the answers is a weakness, not the way the model works; one that
decides three quarters must not be missed. (A habit is learned from the other half of the rows. Where that half has a
single row of the template, a share s of habitual answers shows as s², so 0.75 shows as 0.56.)"""


@dataclass
class Trials:
    """Rows on which a shortcut was tried, with the outcomes of the model and of each control."""

    shortcut: str
    module: str
    rows: RowSet
    controls: dict[str, list[bool]]
    hits: list[bool] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    detail: str = ""

    def add(self, hit: bool, **controls: bool) -> None:
        """Add one row. Controls are named as when the trials were created."""
        self.hits.append(hit)
        for name, outcome in controls.items():
            self.controls[name].append(outcome)

    def evidence(self) -> Evidence | None:
        """Run the tests and return their outcome; None without trials.

        With several controls the model must follow the shortcut more often than each: an intersection-union test,
        whose p-value is the largest. An effect is (hits - control) / (1 - control): 0 is no more than the control,
        1 is always.
        """
        if not self.hits:
            return None
        effects: list[Effect] = []
        p_value = 0.0
        for name, control in self.controls.items():
            only_hit = sum(h and not c for h, c in zip(self.hits, control, strict=True))
            p_value = max(p_value, mcnemar(only_hit, sum(control) - sum(self.hits) + only_hit))
            rest = 1.0 - sum(control) / len(control)
            if rest == 0.0:  # the control does it always: nothing is left that the shortcut could explain
                effects.append(Effect(f"beyond {name}", 0.0, 0.0, 0.0, SMALLEST, FULL))
                continue
            low, high = paired_difference(self.hits, control)
            value = (sum(self.hits) - sum(control)) / len(self.hits)
            effects.append(
                Effect(f"beyond {name}", value / rest, max(-1.0, low / rest), min(1.0, high / rest), SMALLEST, FULL)
            )
        return Evidence(
            self.shortcut,
            self.module,
            self.rows,
            len(self.hits),
            sum(self.hits),
            {name: sum(outcomes) for name, outcomes in self.controls.items()},
            tuple(effects),
            p_value,
            self.detail,
            tuple(self.examples[:3]),
        )


def pooled(trials: Sequence[Trials], module: str) -> Trials | None:
    """Return the trials of several modules together; None if fewer than two have any."""
    filled = [t for t in trials if t.hits]
    if len(filled) < 2:
        return None
    first = filled[0]
    return Trials(
        first.shortcut,
        module,
        first.rows,
        {name: [o for t in filled for o in t.controls[name]] for name in first.controls},
        [h for t in filled for h in t.hits],
    )
