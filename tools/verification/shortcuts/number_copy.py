"""Number copy: the answer is a number from the question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from tools.verification.questions.exam import Exam, Outcome, Scope
from tools.verification.questions.question import Question, Split, only_number
from tools.verification.shortcuts.statistics import Share
from tools.verification.shortcuts.trials import Example, Trials

NUMBER_COPY = "number copy"


def can_copy(question: Question) -> bool:
    """Return whether copying would be a mistake: there are numbers, and none of them is the truth."""
    return bool(question.numbers) and question.true_number not in question.numbers


def copies(question: Question, answer: str) -> bool:
    """Return whether the only number in an answer is from the question; its unit does not matter."""
    return only_number(answer) in question.numbers


def copy_share(outcome: Outcome, places: Sequence[int], *splits: Split) -> Share | None:
    """Return how often a number from the prompt is copied, among the questions where that is a mistake."""
    questions = outcome.exam.questions
    asked = [i for i in places if questions[i].split in splits and can_copy(questions[i])]
    return Share.of([copies(questions[i], outcome.texts[i]) for i in asked], [questions[i].entry for i in asked])


def _strange_numbers(exam: Exam, scope: Scope) -> list[tuple[int, frozenset[Decimal]]]:
    """Return (row, numbers of the next similar question) for each row where copying would be a mistake.

    This is the control for chance: as many numbers of the same size that are not in the row's own question and not its
    truth. They come from the next question of the same template, or else of the module.
    """
    ordered = [i for rows in exam.by_template[scope].values() for i in rows if can_copy(exam.questions[i])]
    found: list[tuple[int, frozenset[Decimal]]] = []
    for rows in exam.by_template[scope].values():
        ring = [i for i in rows if can_copy(exam.questions[i])]
        for n, i in enumerate(ring):
            own = exam.questions[i]
            known = {*own.numbers, own.true_number}
            nearby = ring[n + 1 :] + ring[:n] or ordered
            strange = next((s for j in nearby if (s := frozenset(exam.questions[j].numbers) - known)), None)
            if strange:
                found.append((i, strange))
    return found


def copy_trials(outcome: Outcome, scope: Scope) -> Trials:
    """Test whether the answer is a number from the question more often than a number from a similar question."""
    questions, texts = outcome.exam.questions, outcome.texts
    trials = Trials(NUMBER_COPY, scope.module, scope.rows, {"other numbers": []})
    positions: Counter[str] = Counter()
    several = 0
    for i, strange in _strange_numbers(outcome.exam, scope):
        question, said = questions[i], only_number(texts[i])
        hit = said in question.numbers
        trials.add(hit, **{"other numbers": said in strange})
        if hit:
            trials.examples.append(Example(question.prompt, question.truth, texts[i]))
            if len(set(question.numbers)) > 1:
                several += 1
                positions["last"] += said == question.numbers[-1]
                positions["first"] += said == question.numbers[0]
                positions["largest"] += said == max(question.numbers)
    if several:
        where, count = positions.most_common(1)[0]
        trials.detail = f"of {several} copies from questions with several numbers, {count / several:.0%} the {where}"
    return trials
