"""Ignored tag: the model gives the same answer when another tag asks for something else."""

from __future__ import annotations

from collections import defaultdict

from tools.verification.questions.exam import Outcome, Scope
from tools.verification.shortcuts.trials import Example, Trials

IGNORED_TAG = "ignored tag"


def _tag_pairs(outcome: Outcome, scope: Scope) -> list[tuple[int, int]]:
    """Return one pair of questions per concept: the same content under two tags, with different truths.

    The two tags change from concept to concept, so that all combinations of neighbours are tried.
    """
    questions = outcome.exam.questions
    by_content: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for i in outcome.exam.places(*scope.rows.splits, module=scope.module):
        if questions[i].tags:
            by_content[questions[i].entry, questions[i].content].append(i)
    by_entry: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for (entry, _), rows in by_content.items():
        ring = zip(rows, rows[1:] + rows[:1], strict=True)
        by_entry[entry] += [(i, j) for i, j in ring if i != j and questions[i].expected != questions[j].expected]
    return [pairs[n % len(pairs)] for n, pairs in enumerate(by_entry.values()) if pairs]


def tag_trials(outcome: Outcome, scope: Scope) -> Trials:
    """Test whether two tags get the same answer more often than two concepts do.

    The control compares the first question with the second one of the next concept: a model with a majority answer
    repeats itself there as well, and is not accused of this shortcut.
    """
    questions, texts = outcome.exam.questions, outcome.texts
    trials = Trials(IGNORED_TAG, scope.module, scope.rows, {"other concept": []})
    pairs = _tag_pairs(outcome, scope)
    if len(pairs) < 2:
        return trials
    for (first, second), (_, other) in zip(pairs, pairs[1:] + pairs[:1], strict=True):
        hit = texts[first] == texts[second]
        trials.add(hit, **{"other concept": texts[first] == texts[other]})
        if hit:
            wrong = second if outcome.right[first] else first
            trials.examples.append(Example(questions[wrong].prompt, questions[wrong].truth, texts[wrong]))
    trials.detail = (
        f"{sum(trials.hits)} of {len(pairs)} concepts got one answer under two tags that ask for different things"
    )
    return trials
