"""What a model habitually answers, learned on one half of the rows to be tested on the other."""

from __future__ import annotations

from collections import Counter, defaultdict

from tools.verification.exam import Outcome, Scope


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

    def of_template(self, fold: int, template: str) -> str | None:
        """The most frequent answer to the template in a fold; None if the fold has no such row."""
        counts = self._by_template.get((fold, template))
        return min(counts, key=lambda text: (-counts[text], text)) if counts else None

    def of_others(self, fold: int, template: str) -> str | None:
        """The most frequent answer to all *other* templates in a fold; None if it has no other."""
        own = self._by_template.get((fold, template), Counter[str]())
        best: tuple[int, str] | None = None
        for text, count in self._ranked[fold]:
            if best is not None and count < -best[0]:
                break  # later answers are no more frequent, with or without the template's own rows
            rest = (own[text] - count, text)
            if rest[0] < 0 and (best is None or rest < best):
                best = rest
        return best[1] if best else None
