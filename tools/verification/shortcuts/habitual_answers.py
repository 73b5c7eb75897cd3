"""Habitual answers: one answer to everything (majority answer), or to every question of one wording (template only)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from tools.verification.questions.exam import Outcome, Scope
from tools.verification.shortcuts.trials import Example, Trials

MAJORITY_ANSWER = "majority answer"
TEMPLATE_ONLY = "template only"


class Leaders:
    """The two most frequent of some texts: one of them also leads when a single text is left out.

    Ties go to the text that sorts first, so that nothing depends on the order.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._leading = sorted(Counter(texts).items(), key=lambda item: (-item[1], item[0]))[:2]

    def first(self, left_out: str | None = None) -> str | None:
        """Return the most frequent text, with `left_out` counted once less; None if there is none."""
        counts = [(count - (text == left_out), text) for text, count in self._leading]
        return min(((-count, text) for count, text in counts if count), default=(0, None))[1]


class Habit:
    """The most frequent answers of one scope, fold by fold and template by template.

    Ties go to the answer that sorts first, so that nothing depends on the rows' order.
    """

    def __init__(self, outcome: Outcome, scope: Scope) -> None:
        exam = outcome.exam
        self.templates = exam.by_template[scope]
        self._by_template: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
        totals: dict[int, Counter[str]] = {0: Counter(), 1: Counter()}
        for template, rows in self.templates.items():
            for i in rows:
                self._by_template[exam.fold[i], template][outcome.texts[i]] += 1
                totals[exam.fold[i]][outcome.texts[i]] += 1
        self._ranked = {fold: sorted(c.items(), key=lambda item: (-item[1], item[0])) for fold, c in totals.items()}
        # Every row of a template asks for the same two answers, and each is a search over all answers of the fold.
        self._of_template: dict[tuple[int, str], str | None] = {}
        self._of_others: dict[tuple[int, str], str | None] = {}

    def of_template(self, fold: int, template: str) -> str | None:
        """Return the most frequent answer to the template in a fold; None if the fold has no such row."""
        key = (fold, template)
        if key not in self._of_template:
            self._of_template[key] = self._most_frequent(fold, template)
        return self._of_template[key]

    def of_others(self, fold: int, template: str) -> str | None:
        """Return the most frequent answer to all *other* templates in a fold; None if it has no other."""
        key = (fold, template)
        if key not in self._of_others:
            self._of_others[key] = self._most_frequent_elsewhere(fold, template)
        return self._of_others[key]

    def _most_frequent(self, fold: int, template: str) -> str | None:
        counts = self._by_template.get((fold, template))
        return min(counts, key=lambda text: (-counts[text], text)) if counts else None

    def _most_frequent_elsewhere(self, fold: int, template: str) -> str | None:
        own = self._by_template.get((fold, template), Counter[str]())
        best: tuple[int, str] | None = None
        for text, count in self._ranked[fold]:
            if best is not None and count < -best[0]:
                break  # later answers are no more frequent, with or without the template's own rows
            rest = (own[text] - count, text)
            if rest[0] < 0 and (best is None or rest < best):
                best = rest
        return best[1] if best else None


def majority_trials(outcome: Outcome, scope: Scope) -> Trials:
    """Test whether the model gives its favourite answer more often than that answer is true.

    The favourite is learned on the other half of the rows, and from other templates than the row's own: an answer that
    belongs to one template shows the shortcut "template only". A module with a single template cannot tell the two
    apart; there the favourite comes from all rows.
    """
    questions, texts, exam = outcome.exam.questions, outcome.texts, outcome.exam
    habit = Habit(outcome, scope)
    trials = Trials(MAJORITY_ANSWER, scope.module, scope.rows, {"truth": []})
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


def template_trials(outcome: Outcome, scope: Scope) -> Trials:
    """Test whether the model gives a template's favourite answer more often than two controls allow.

    The favourite is learned on the other half of the template's rows. Controls: how often that answer is the truth (any
    answerer repeats itself on a template with few possible answers), and how often the model gives the favourite of the
    *other* templates (else it gives a majority answer). A single template cannot show this shortcut.
    """
    questions, texts, exam = outcome.exam.questions, outcome.texts, outcome.exam
    habit = Habit(outcome, scope)
    trials = Trials(TEMPLATE_ONLY, scope.module, scope.rows, {"truth": [], "other templates": []})
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
