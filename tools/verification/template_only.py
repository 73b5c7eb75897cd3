"""Template only: the answer follows from the wording of the question, its operands do not matter."""

from __future__ import annotations

from tools.verification.exam import Outcome, Scope
from tools.verification.habit import Habit
from tools.verification.trials import Example, Trials

NAME = "template only"


def template_trials(outcome: Outcome, scope: Scope) -> Trials:
    """Does the model give a template's favourite answer more often than two controls allow?

    The favourite is learned on the other half of the template's rows. Controls: how often that answer is the truth (a
    template with few possible answers makes anybody repeat himself), and how often the model gives the favourite of the
    *other* templates (else it is a majority answerer). One template alone cannot show this shortcut.
    """
    questions, texts, exam = outcome.exam.questions, outcome.texts, outcome.exam
    habit = Habit(outcome, scope)
    trials = Trials(NAME, scope.module, scope.rows, {"truth": [], "other templates": []})
    repeated = 0
    for template, rows in habit.templates.items():
        for i in rows:
            other = 1 - exam.fold[i]
            favourite, elsewhere = habit.of_template(other, template), habit.of_others(other, template)
            if favourite is None or elsewhere is None:
                continue
            hit = texts[i] == favourite
            trials.add(
                hit,
                **{"truth": questions[i].expected == favourite, "other templates": texts[i] == elsewhere},
            )
            repeated += hit
            if hit and not outcome.right[i]:
                trials.examples.append(Example(questions[i].prompt, questions[i].truth, texts[i]))
    if trials.hits:
        trials.detail = (
            f"{repeated / len(trials.hits):.1%} of the answers are what the same wording got with other operands, "
            f"{sum(trials.controls['truth']) / len(trials.hits):.1%} of the truths are"
        )
    return trials
