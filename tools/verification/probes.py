"""Partial inputs: the model's answers when the operands are hidden, or when only the operands are left."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tools.verification.questions.answerer import Answerer
from tools.verification.questions.exam import OVERALL, Exam, Outcome, RowSet, Scope
from tools.verification.questions.question import Question
from tools.verification.shortcuts.habitual_answers import Leaders
from tools.verification.shortcuts.statistics import Share, mcnemar

PER_MODULE = 200
"""Training rows of a module that are probed, evenly chosen."""
MASKS = ("？", "?", "_", "□", "几")
"""Signs for a hidden operand; the first one that the model can read is used."""


class Part(StrEnum):
    """The part that is taken away from the question."""

    OPERANDS_HIDDEN = "operands hidden"
    TEMPLATE_HIDDEN = "template hidden"

    def of(self, question: Question, mask: str) -> str:
        """Return the rest of the question: the template with masked operands, or the operands alone."""
        if self is Part.TEMPLATE_HIDDEN:
            return " ".join(question.operands)
        return question.template.replace("□", mask)


@dataclass(frozen=True)
class Probe:
    """Accuracy on a module's rows with a part of the question, and the accuracy of guesses on the same rows."""

    module: str
    part: Part
    right: Share
    whole: Share
    """The same rows with the whole question."""
    majority: Share
    """The module's most frequent truth as the answer."""
    template_majority: Share
    """The most frequent truth of the row's own template, without the row itself: all that a template can reveal."""
    p_value: float
    """Exact McNemar test of "better than the majority answer" (one-sided)."""


def readable_mask(answerer: Answerer) -> str:
    """Return the sign for hidden operands; an empty string if the answerer can read none."""
    return next((mask for mask in MASKS if not answerer.unknown([mask])), "")


def majority_guesses(questions: Sequence[Question], places: Sequence[int]) -> list[bool]:
    """Return for each row whether its truth is the most frequent truth of these rows."""
    counts = Counter(questions[i].expected for i in places)
    guess = min(counts, key=lambda text: (-counts[text], text), default="")
    return [questions[i].expected == guess for i in places]


def template_guesses(questions: Sequence[Question], places: Sequence[int]) -> list[bool]:
    """Return for each row whether its truth is the most frequent truth of its template's *other* rows."""
    by_template: defaultdict[str, list[str]] = defaultdict(list)
    for i in places:
        by_template[questions[i].template].append(questions[i].expected)
    guesses = {template: Leaders(truths) for template, truths in by_template.items()}
    truths = [(questions[i].template, questions[i].expected) for i in places]
    return [guesses[template].first(left_out=truth) == truth for template, truth in truths]


def run_probes(outcome: Outcome, answerer: Answerer) -> list[Probe]:
    """Ask parts of the training questions and return the results by part and module, `overall` last.

    The results are shown next to the verdicts and decide none: a masked prompt is a text that training never showed,
    and the answer to it says little about how the model answers the whole question.
    """
    exam, mask = outcome.exam, readable_mask(answerer)
    asked: dict[tuple[str, Part], tuple[list[int], list[str]]] = {}
    for module in exam.modules:
        rows = _probed(exam, module)
        for part in Part:
            texts = [part.of(exam.questions[i], mask) for i in rows]
            kept = [(i, t) for i, t in zip(rows, texts, strict=True) if t and t != exam.questions[i].prompt]
            if kept:
                asked[module, part] = ([i for i, _ in kept], [t for _, t in kept])
    answers = iter(answerer.answer([t for _, texts in asked.values() for t in texts]))
    right = {key: [exam.questions[i].is_right(next(answers).text) for i in rows] for key, (rows, _) in asked.items()}
    guesses = {module: _guesses(exam, module) for module in exam.modules}
    found: list[Probe] = []
    for part in Part:
        columns: list[tuple[bool, bool, bool, bool]] = []
        modules = [module for module, p in asked if p is part]
        for module in modules:
            rows = asked[module, part][0]
            own = [(r, outcome.right[i], *guesses[module][i]) for r, i in zip(right[module, part], rows, strict=True)]
            found.append(_probe(module, part, own))
            columns += own
        if len(modules) > 1:
            found.append(_probe(OVERALL, part, columns))
    return found


def _probed(exam: Exam, module: str) -> list[int]:
    rows = exam.test_rows[Scope(module, RowSet.TRAIN)]
    return [rows[n * len(rows) // PER_MODULE] for n in range(PER_MODULE)] if len(rows) > PER_MODULE else rows


def _guesses(exam: Exam, module: str) -> dict[int, tuple[bool, bool]]:
    rows = exam.test_rows[Scope(module, RowSet.TRAIN)]
    pairs = zip(majority_guesses(exam.questions, rows), template_guesses(exam.questions, rows), strict=True)
    return dict(zip(rows, pairs, strict=True))


def _probe(module: str, part: Part, rows: Sequence[tuple[bool, bool, bool, bool]]) -> Probe:
    right, whole, majority, template_majority = (list(column) for column in zip(*rows, strict=True))
    only_right = sum(r and not m for r, m in zip(right, majority, strict=True))
    return Probe(
        module,
        part,
        Share.measure(right),
        Share.measure(whole),
        Share.measure(majority),
        Share.measure(template_majority),
        mcnemar(only_right, sum(majority) - sum(right) + only_right),
    )
