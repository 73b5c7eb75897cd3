"""What a model habitually answers, learned on one half of the rows to be tested on the other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from tools.verification.exam import Outcome, Scope


class Leaders:
    """The two most frequent of some texts: one of them also leads where a single text is left out.

    Ties go to the text that sorts first, so that nothing depends on the order.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._leading = sorted(Counter(texts).items(), key=lambda item: (-item[1], item[0]))[:2]

    def first(self, left_out: str | None = None) -> str | None:
        """The most frequent text, `left_out` counted once less; None if there is none."""
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
        """The most frequent answer to the template in a fold; None if the fold has no such row."""
        key = (fold, template)
        if key not in self._of_template:
            self._of_template[key] = self._most_frequent(fold, template)
        return self._of_template[key]

    def of_others(self, fold: int, template: str) -> str | None:
        """The most frequent answer to all *other* templates in a fold; None if it has no other."""
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
