"""The shortcuts of a model: five names, each with a verdict and its evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tools.verification.questions.exam import OVERALL, Exam, Outcome, RowSet, Scope
from tools.verification.shortcuts.habitual_answers import (
    MAJORITY_ANSWER,
    TEMPLATE_ONLY,
    majority_trials,
    template_trials,
)
from tools.verification.shortcuts.ignored_tag import IGNORED_TAG, tag_trials
from tools.verification.shortcuts.lookup import LOOKUP, Matched, lookup_evidence, match_difficulty, pool_matches
from tools.verification.shortcuts.number_copy import NUMBER_COPY, copy_trials
from tools.verification.shortcuts.statistics import holm
from tools.verification.shortcuts.trials import Evidence, Trials, Verdict, pooled

_BEHAVIOURS: dict[str, Callable[[Outcome, Scope], Trials]] = {
    MAJORITY_ANSWER: majority_trials,
    TEMPLATE_ONLY: template_trials,
    NUMBER_COPY: copy_trials,
    IGNORED_TAG: tag_trials,
}
SHORTCUTS = (MAJORITY_ANSWER, TEMPLATE_ONLY, NUMBER_COPY, LOOKUP, IGNORED_TAG)

_NOTHING_TO_TEST = {
    MAJORITY_ANSWER: "no rows",
    TEMPLATE_ONLY: "no template is asked twice, or there is only one",
    NUMBER_COPY: "no question has a number that would be wrong to copy",
    LOOKUP: "no unseen facts (kind new_fact) were given",
    IGNORED_TAG: "no content is asked under two tags",
}


@dataclass(frozen=True)
class Shortcut:
    """One shortcut and whether the model takes it."""

    name: str
    verdict: Verdict
    where: tuple[str, ...]
    """The modules in which it was found."""
    summary: str
    """The clearest evidence in words, or why there is none."""
    evidence: tuple[Evidence, ...]


def find_shortcuts(outcome: Outcome, matches: list[Matched] | None = None) -> list[Shortcut]:
    """Test every shortcut in every module, on seen and on unseen facts, and in all modules together.

    A shortcut that is found in one module is found: a model may compute one module and look up another. All tests of
    the call are corrected together, so that the number of modules does not raise the chance of a false alarm. A
    behaviour on unseen facts only, in a module that the model looks up, is its fallback and is reported with the
    lookup.

    Args:
        outcome: an answered exam.
        matches: `matched_rows(outcome.exam)` if it is at hand; it does not depend on the answers.
    """
    matches = matches if matches is not None else matched_rows(outcome.exam)
    everywhere = pool_matches(matches, OVERALL)
    matches = [m for m in (*matches, *([everywhere] if everywhere else [])) if m.new]
    behaviours = _behaviour_evidence(outcome)
    lookups = _lookup_evidence(outcome, matches, frozenset())
    corrected = holm([e.p_value for e in (*behaviours, *lookups)])
    behaviours = [e.corrected(p) for e, p in zip(behaviours, corrected, strict=False)]
    by_template = frozenset(
        e.module
        for e in behaviours
        if e.shortcut == TEMPLATE_ONLY and e.rows is RowSet.TRAIN and e.verdict is Verdict.FOUND
    )
    again = _lookup_evidence(outcome, matches, by_template)
    lookups = [e.corrected(p) for e, p in zip(again, corrected[len(behaviours) :], strict=True)]
    looked_up = {e.module for e in lookups if e.verdict is Verdict.FOUND}
    evidence = [*lookups, *(e.as_fallback() if _is_fallback(e, looked_up) else e for e in behaviours)]
    return [_judge(name, evidence) for name in SHORTCUTS]


def _behaviour_evidence(outcome: Outcome) -> list[Evidence]:
    """Test every shortcut but lookup, in every module and in all together, on seen and on unseen facts."""
    found: list[Evidence | None] = []
    for trials_of in _BEHAVIOURS.values():
        for rows in RowSet:
            parts = [trials_of(outcome, Scope(module, rows)) for module in outcome.exam.modules]
            together = pooled(parts, OVERALL)
            found += [t.evidence() for t in (*parts, *([together] if together else []))]
    return [e for e in found if e is not None]


def _lookup_evidence(outcome: Outcome, matches: Sequence[Matched], by_template: frozenset[str]) -> list[Evidence]:
    return [lookup_evidence(outcome, m, by_template) for m in matches]


def _is_fallback(e: Evidence, looked_up: set[str]) -> bool:
    """Return whether it is only how a model that looks up answers unseen questions, which is not a second shortcut."""
    return e.rows is RowSet.UNSEEN and (e.module in looked_up or (e.module == OVERALL and bool(looked_up)))


def matched_rows(exam: Exam) -> list[Matched]:
    """Match training rows with new facts of equal difficulty, module by module."""
    return [match_difficulty(exam, module) for module in exam.modules]


def _judge(name: str, collected: Sequence[Evidence]) -> Shortcut:
    """Judge one shortcut: found if any evidence finds it, not found if all seen or all unseen rows rule it out."""
    evidence = tuple(e for e in collected if e.shortcut == name)
    if not evidence:
        return Shortcut(name, Verdict.TOO_LITTLE, (), _NOTHING_TO_TEST[name], ())
    counting = [e for e in evidence if not e.is_fallback]
    guilty = [e for e in counting if e.verdict is Verdict.FOUND]
    if guilty:
        single = [e for e in guilty if e.module != OVERALL] or guilty
        where = tuple(dict.fromkeys(e.module for e in single))
        summary = _clearest(single).in_words()
        fallbacks = [e for e in collected if e.is_fallback and e.verdict is Verdict.FOUND] if name == LOOKUP else []
        if fallbacks:
            names = dict.fromkeys(f"{e.shortcut} ({e.module})" for e in fallbacks)
            summary += f"; on unseen facts it falls back on: {', '.join(names)}"
        return Shortcut(name, Verdict.FOUND, where, summary, evidence)
    whole = [e for e in counting if e.module == OVERALL] or counting
    verdict = Verdict.NOT_FOUND if any(e.verdict is Verdict.NOT_FOUND for e in whole) else Verdict.TOO_LITTLE
    return Shortcut(name, verdict, (), _clearest(evidence).in_words(), evidence)


def _clearest(evidence: Sequence[Evidence]) -> Evidence:
    """Return the evidence whose weakest effect is the surest; of equal ones, the one with more trials."""
    return max(evidence, key=lambda e: (e.weakest.low - e.weakest.smallest, e.trials))
