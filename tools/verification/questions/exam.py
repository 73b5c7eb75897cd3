"""The exam: all questions in order, and the row sets that the tests work on; then the exam with its answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from tools.verification.questions.answerer import Answer
from tools.verification.questions.question import Question, Split, normalised

OVERALL = "overall"
"""The label for all modules together."""


class RowSet(StrEnum):
    """The rows whose facts the model has seen in training, or those whose facts it has not."""

    TRAIN = "train"
    UNSEEN = "unseen"

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that belong to it. Paraphrases (seen fact, unseen words) are in neither."""
        return (Split.TRAIN,) if self is RowSet.TRAIN else (Split.NEW_FACT, Split.CONTRAST)


@dataclass(frozen=True)
class Scope:
    """One module's rows of one row set."""

    module: str
    rows: RowSet


class Exam:
    """The questions, and everything that is known of them before they are answered.

    Args:
        questions: training questions, then held-out ones.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        self.questions = list(questions)

    @cached_property
    def modules(self) -> list[str]:
        """The modules in order of first appearance."""
        return list(dict.fromkeys(q.module for q in self.questions))

    def places(self, *splits: Split, module: str | None = None) -> list[int]:
        """Return the indices of the questions of these splits, of one module or of all."""
        return [i for i, q in enumerate(self.questions) if q.split in splits and (module is None or q.module == module)]

    @cached_property
    def test_rows(self) -> dict[Scope, list[int]]:
        """The rows that tests work on: one question per row or concept, so that they are independent.

        Of a concept with nine directions, the first concept gives its first, the next one its second, and so on.
        """
        found: dict[Scope, list[int]] = {}
        for module in self.modules:
            for rows in RowSet:
                by_entry: defaultdict[int, list[int]] = defaultdict(list)
                for i in self.places(*rows.splits, module=module):
                    by_entry[self.questions[i].entry].append(i)
                found[Scope(module, rows)] = [own[n % len(own)] for n, own in enumerate(by_entry.values())]
        return found

    @cached_property
    def by_template(self) -> dict[Scope, dict[str, list[int]]]:
        """The test rows of each template."""
        found: dict[Scope, dict[str, list[int]]] = {}
        for scope, rows in self.test_rows.items():
            templates: defaultdict[str, list[int]] = defaultdict(list)
            for i in rows:
                templates[self.questions[i].template].append(i)
            found[scope] = dict(templates)
        return found

    @cached_property
    def fold(self) -> dict[int, int]:
        """Test row -> 0 or 1. The answers of a shortcut are learned on one half and tested on the other.

        Each template is dealt out to both halves in turn.
        """
        templates = [rows for found in self.by_template.values() for rows in found.values()]
        return {i: n % 2 for rows in templates for n, i in enumerate(rows)}


@dataclass(frozen=True)
class Outcome:
    """An exam with its answers."""

    exam: Exam
    answers: list[Answer]

    @cached_property
    def texts(self) -> list[str]:
        """The answers in the form in which they are compared."""
        return [normalised(answer.text) for answer in self.answers]

    @cached_property
    def right(self) -> list[bool]:
        """For each question, True if the answer is exactly the truth."""
        return [text == q.expected for text, q in zip(self.texts, self.exam.questions, strict=True)]

    def labelled(self) -> Iterator[tuple[str, list[int]]]:
        """Yield (label, indices) for each module, for the tags of a module that has several, and for `overall`."""
        questions = self.exam.questions
        for module in self.exam.modules:
            places = [i for i, q in enumerate(questions) if q.module == module]
            yield module, places
            tags = Counter(questions[i].asked_tag for i in places)
            if len(tags) > 1:
                for tag in tags:
                    yield f"{module} {tag or 'untagged'}", [i for i in places if questions[i].asked_tag == tag]
        if len(self.exam.modules) > 1:
            yield OVERALL, list(range(len(questions)))
