"""Majority answer: one and the same answer, whatever is asked."""

from __future__ import annotations

from collections import Counter

from tools.verification.exam import Outcome, Scope
from tools.verification.habit import Habit
from tools.verification.trials import Example, Trials

NAME = "majority answer"


def majority_trials(outcome: Outcome, scope: Scope) -> Trials:
    """Does the model give its favourite answer more often than that answer is true?

    The favourite is learned on the other half of the rows, and from other templates than the row's own: an answer that
    belongs to one template is `template_only`'s business. Only a module with a single template cannot tell them apart;
    there the favourite comes from all rows.
    """
    questions, texts, exam = outcome.exam.questions, outcome.texts, outcome.exam
    habit = Habit(outcome, scope)
    trials = Trials(NAME, scope.module, scope.rows, {"truth": []})
    favourites: Counter[str] = Counter()
    for template, rows in habit.templates.items():
        for i in rows:
            other = 1 - exam.fold[i]
            favourite = (
                habit.of_others(other, template) if len(habit.templates) > 1 else habit.of_template(other, template)
            )
            if favourite is None:
                continue
            hit = texts[i] == favourite
            trials.add(hit, **{"truth": questions[i].expected == favourite})
            favourites[favourite] += 1
            if hit and not outcome.right[i]:
                trials.examples.append(Example(questions[i].prompt, questions[i].truth, texts[i]))
    if favourites:
        favourite, _ = favourites.most_common(1)[0]
        rows = outcome.exam.test_rows[scope]
        said = sum(texts[i] == favourite for i in rows)
        true = sum(questions[i].expected == favourite for i in rows)
        trials.detail = (
            f"most frequent answer {favourite or '(nothing)'!r}: "
            f"{said / len(rows):.1%} of the answers, {true / len(rows):.1%} of the truths"
        )
    return trials
