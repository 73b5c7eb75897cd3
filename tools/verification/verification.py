"""One verification from beginning to end: read, ask, measure, judge."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tools.verification.probes import run_probes
from tools.verification.questions.answerer import Answerer, ModelAnswerer
from tools.verification.questions.exam import Exam, Outcome
from tools.verification.questions.question import Question, Split
from tools.verification.questions.question_files import Questions
from tools.verification.report import Report, calibrations, module_reports
from tools.verification.shortcuts.verdicts import find_shortcuts
from training.checkpoints.single_file import digest
from training.errors import DataError


def verify(answerer: Answerer, questions: Questions, name: str) -> Report:
    """Ask all questions and return the report.

    Args:
        answerer: the model, or anything with the same interface.
        questions: the questions to ask.
        name: name of the model, for the report.

    Raises:
        DataError: the answerer lacks characters of the data.
    """
    started = time.perf_counter()
    refuse_unknown_characters(answerer, questions.all, questions.tags)
    exam = Exam(questions.all)
    outcome = Outcome(exam, answerer.answer([q.prompt for q in exam.questions]))
    notes = list(questions.notes)
    num_parameters = weights = None
    if isinstance(answerer, ModelAnswerer):
        num_parameters = answerer.model.num_parameters()
        weights = digest(dict(answerer.model.named_parameters()))
        if answerer.num_too_long:
            notes.append(
                f"prompts longer than the model's max_seq_len={answerer.model.config.max_seq_len} tokens: "
                f"{answerer.num_too_long:,}; they count as answered wrongly, with nothing"
            )
    probes = run_probes(outcome, answerer)
    return Report(
        name,
        num_parameters,
        weights,
        tuple(questions.files),
        tuple(notes),
        module_reports(outcome),
        tuple(probes),
        calibrations(outcome),
        tuple(find_shortcuts(outcome)),
        time.perf_counter() - started,
    )


def refuse_unknown_characters(answerer: Answerer, questions: Sequence[Question], tags: frozenset[str]) -> None:
    """Raise DataError if prompts or truths hold characters or tags that the answerer has no token for."""
    missing = answerer.unknown(text for q in questions for text in (q.prompt, q.truth))
    if isinstance(answerer, ModelAnswerer):
        for tag in sorted(tags - set(answerer.tokenizer.tags)):
            missing[tag] = sum(tag in q.tags for q in questions)
    if not missing:
        return
    shown = " ".join([*(text for text, _ in missing.most_common(8)), *(["…"] if len(missing) > 8 else [])])
    first = next(q for q in questions if any(m in q.prompt or m in q.truth for m in missing))
    source = {Split.TRAIN: "training", Split.VALIDATION: "validation"}.get(first.split, "held-out")
    raise DataError(
        f"the model's tokenizer lacks {len(missing)} characters of the data ({shown}), first in "
        f"the {source} question {first.prompt[:40]!r}: it was trained on other data; give the files that it was "
        "trained on with --dataset and --held-out"
    )
