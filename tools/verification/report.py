"""The report: all results of a verification, as plain data with a versioned schema (docs/VERIFIER.md)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.figures.output_file import write_atomically
from tools.verification.calibration import Calibration, calibrate
from tools.verification.probes import Probe, majority_guesses, template_guesses
from tools.verification.questions.exam import Outcome, RowSet
from tools.verification.questions.question import Split
from tools.verification.questions.question_files import QuestionFile, contrast_groups
from tools.verification.shortcuts.number_copy import copy_share
from tools.verification.shortcuts.statistics import Share, entropy
from tools.verification.shortcuts.trials import FALSE_ALARM_LEVEL, Verdict
from tools.verification.shortcuts.verdicts import Shortcut

SCHEMA_VERSION = 1
FORMAT = "apt-verification"


@dataclass(frozen=True)
class Diversity:
    """The variety of the answers, compared with that of the truths to the same questions."""

    answers: int
    """Different answers."""
    truths: int
    """Different truths."""
    answer_entropy: float
    """Entropy in bits; so is `truth_entropy`."""
    truth_entropy: float
    ratio: float | None
    """Answer entropy over truth entropy: 0 is one answer to everything, about 1 is as varied as the truth."""

    @classmethod
    def of(cls, answers: Sequence[str], truths: Sequence[str]) -> Diversity | None:
        """Measure it; None without questions."""
        if not truths:
            return None
        of_answers, of_truths = entropy(answers), entropy(truths)
        ratio = of_answers / of_truths if of_truths else None
        return cls(len(set(answers)), len(set(truths)), of_answers, of_truths, ratio)


@dataclass(frozen=True)
class ModuleReport:
    """The figures of one module, of one tag of it, or of everything. None: no such questions."""

    label: str
    train: Share | None
    validation: Share | None
    """Rows of the training files that the run held back: they decide no verdict."""
    paraphrase: Share | None
    new_fact: Share | None
    contrast: Share | None
    """Rows of contrast groups, each by itself."""
    contrast_groups: Share | None
    """Contrast groups; one counts only when all its rows are right."""
    majority: Share | None
    """The training rows whose truth is the most frequent one: the accuracy of a constant answer."""
    template_majority: Share | None
    """The same for the most frequent truth of each template, the row itself left out."""
    diversity: dict[str, Diversity | None]
    number_copies: dict[str, Share | None]


@dataclass(frozen=True)
class Report:
    """All results of one verification."""

    model: str
    num_parameters: int | None
    weights: str | None
    """Digest (`training.checkpoints.single_file.digest`) of the parameters by name: which model the report is about."""
    files: tuple[QuestionFile, ...]
    notes: tuple[str, ...]
    modules: tuple[ModuleReport, ...]
    probes: tuple[Probe, ...]
    calibration: tuple[Calibration, ...]
    shortcuts: tuple[Shortcut, ...]
    seconds: float

    @property
    def found(self) -> tuple[Shortcut, ...]:
        """The shortcuts that the model takes."""
        return tuple(s for s in self.shortcuts if s.verdict is Verdict.FOUND)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with floats to six digits."""
        plain: dict[str, Any] = _rounded(asdict(self))
        for shortcut, found in zip(self.shortcuts, plain["shortcuts"], strict=True):
            for evidence, item in zip(shortcut.evidence, found["evidence"], strict=True):
                item["verdict"] = evidence.verdict.value
        head = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "false_alarm_level": FALSE_ALARM_LEVEL}
        return {**head, **plain}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value


def module_reports(outcome: Outcome) -> tuple[ModuleReport, ...]:
    """Return the figures of each module, of its tags if it has several, and overall."""
    groups = contrast_groups(outcome.exam.questions)
    return tuple(_module_report(outcome, label, places, groups) for label, places in outcome.labelled())


def _module_report(outcome: Outcome, label: str, places: Sequence[int], groups: dict[str, list[int]]) -> ModuleReport:
    questions = outcome.exam.questions
    of_split = {split: [i for i in places if questions[i].split is split] for split in Split}

    def accuracy(split: Split) -> Share | None:
        # The questions about one concept, and the rows of one contrast group, stand or fall together.
        clusters = [questions[i].group.partition("\n")[0] or questions[i].entry for i in of_split[split]]
        return Share.of([outcome.right[i] for i in of_split[split]], clusters)

    here = set(places)
    own_groups = [rows for rows in groups.values() if rows[0] in here]
    whole = [all(outcome.right[i] for i in rows) for rows in own_groups]
    train = of_split[Split.TRAIN]
    row_sets = {rows: [i for split in rows.splits for i in of_split[split]] for rows in RowSet}
    return ModuleReport(
        label,
        accuracy(Split.TRAIN),
        accuracy(Split.VALIDATION),
        accuracy(Split.PARAPHRASE),
        accuracy(Split.NEW_FACT),
        accuracy(Split.CONTRAST),
        Share.of(whole, [questions[rows[0]].group.partition("\n")[0] for rows in own_groups]),
        Share.of(majority_guesses(questions, train)),
        Share.of(template_guesses(questions, train)),
        {
            rows.value: Diversity.of([outcome.texts[i] for i in own], [questions[i].expected for i in own])
            for rows, own in row_sets.items()
        },
        {rows.value: copy_share(outcome, own, *rows.splits) for rows, own in row_sets.items()},
    )


def calibrations(outcome: Outcome) -> tuple[Calibration, ...]:
    """Return the calibration on seen and on unseen facts, as far as the answerer states its confidence."""
    found = [calibrate(outcome, rows.value, rows.splits) for rows in RowSet]
    return tuple(c for c in found if c is not None)


def write_json(report: Report, path: Path) -> None:
    """Write the report as JSON.

    Raises:
        UserError: it cannot be written.
    """
    text = json.dumps(report.to_dict(), ensure_ascii=False, indent=1, allow_nan=False)
    write_atomically(path, (text + "\n").encode())
