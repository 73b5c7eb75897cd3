"""The task's part of a model card: the data, the figures and the limits of a trained model, as Markdown. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.errors import printable
from training.settings.tree import ModelOptions
from training.tasks.metrics import metrics_of

VERIFICATION_NAME = "verification.json"


@dataclass(frozen=True)
class VerifiedShare:
    """A share of right answers with its interval."""

    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class VerifiedModule:
    """A module of a verifier's report."""

    label: str
    train: VerifiedShare | None = None
    validation: VerifiedShare | None = None
    paraphrase: VerifiedShare | None = None
    new_fact: VerifiedShare | None = None
    contrast_groups: VerifiedShare | None = None


@dataclass(frozen=True)
class VerifiedShortcut:
    """A verdict of a verifier's report."""

    name: str
    verdict: str
    where: Sequence[str]
    summary: str


@dataclass(frozen=True)
class VerifiedFile:
    """A file of questions of a verifier's report."""

    asked: int


@dataclass(frozen=True)
class VerifierReport:
    """Schema of a verifier's report, as far as cards quote it."""

    files: Sequence[VerifiedFile]
    modules: Sequence[VerifiedModule]
    shortcuts: Sequence[VerifiedShortcut]


"""File of a run directory in which a verifier's report on the finished model is looked for."""

_MARKUP = re.compile(r"([\\`*|<>\[\]~])")


@dataclass(frozen=True)
class CardFacts:
    """Everything known of a model and its past. None: not known."""

    task: str | None
    """Name of the task that it was trained on."""
    options: ModelOptions
    num_parameters: int
    artefacts: Mapping[str, Any]
    """Plain data of its task that is saved with it (the tokenizer)."""
    is_final: bool
    """Whether it is a finished run's model, and not a checkpoint."""
    is_best: bool
    """Whether the finished run chose its best weights, and not its last."""
    step: int | None
    """Updates that the model has had."""
    settings: Mapping[str, Any] | None
    """`TrainingConfig.to_dict()` of its run."""
    report: Mapping[str, Any] | None
    """`experiment_report.json` of its run."""
    verification: Mapping[str, Any] | None
    """The verifier's report on these very weights."""

    @property
    def share_held_back(self) -> float:
        """Share of the data that was held back for validation; 0 also where that is not known."""
        share: float = self.data_settings.get("validation_split", 0.0)
        return share

    @property
    def data_settings(self) -> Mapping[str, Any]:
        """The task's settings; empty where they are not known."""
        section: Mapping[str, Any] = (self.settings or {}).get("data") or {}
        return section

    def evaluation(self) -> Mapping[str, Any] | None:
        """Return the evaluation of these weights on the samples that were held back; None: there was none."""
        evaluations: Sequence[Mapping[str, Any]] = (self.report or {}).get("evaluations", ())
        found = [row for row in evaluations if row["step"] == self.step and row["loss"] is not None]
        return found[-1] if found else None


@dataclass(frozen=True)
class TaskCard:
    """Sections of a model card that a task writes. Texts and lines are Markdown."""

    purpose: str = ""
    """Continues "A network of 4,200 parameters": "that answers short questions"; may be empty."""
    form: str = ""
    """A clause about what goes in and comes out: "it reads and writes single characters"; may be empty."""
    tags: Sequence[str] = ()
    """On the Hub."""
    example: str | None = None
    """An input as text for the example code; None: inputs are no texts."""
    is_chat: bool = False
    """True if the example is a user's message in a conversation."""
    settings: Sequence[str] = ()
    """The task's settings that the table of the training shows."""
    heading: str = "What was measured"
    measured: Sequence[str] = ()
    data: Sequence[str] = ()
    limits: Sequence[str] = ()
    """One list item each."""


def task_card(facts: CardFacts) -> TaskCard:
    """Return the card of a task that has nothing of its own to say: true for every task, also for one not known."""
    known = facts.task is not None
    return TaskCard(
        purpose=f"that was trained on the task `{facts.task}`" if known else "",
        tags=(facts.task,) if facts.task is not None else (),
        measured=list(measured_table(facts)),
        data=list(_data(facts)),
        limits=list(task_limits(facts)),
    )


def measured_table(facts: CardFacts, more: Sequence[tuple[str, str]] = ()) -> Iterator[str]:
    """Yield what the validation measured, and further rows of the task's own."""
    found = facts.evaluation()
    if facts.report is None:
        yield "Nothing was measured."
    elif found is None:
        yield "Nothing was measured on data that the model was not trained on."
    else:
        yield f"After update {found['step']:,}, on the samples that were held back for validation:"
        yield ""
        rows = [["loss", f"{found['loss']:.4f}"]]
        for metric in metrics_of(facts.report):
            value = found.get(metric.name) if metric.derived == "measured" else metric.of_loss(found["loss"])
            if value is not None:
                rows.append([metric.name, metric.text(value)])
        yield from table(["", ""], [*rows, *more])


def _data(facts: CardFacts) -> Iterator[str]:
    if not facts.data_settings and facts.report is None:
        yield "What it was trained on is not recorded next to the model."
        return
    if facts.data_settings:
        yield "The settings of the task:"
        yield ""
        yield from table(["", ""], [[name, value] for name, value in facts.data_settings.items()])
    samples = (facts.report or {}).get("num_train_samples")
    if samples is not None:
        share = facts.share_held_back
        held_back = f", {percent(share)} of the data were held back for validation" if share else ""
        yield ""
        yield f"{samples:,} samples were trained on{held_back}."
    if fingerprint := (facts.report or {}).get("data_fingerprint"):
        yield f"Fingerprint of the data: {plain(fingerprint)}."


def task_limits(facts: CardFacts) -> Iterator[str]:
    """Yield what is true of a model of any task."""
    yield (
        "It was trained for one task on the data above, and tested on nothing else. It was not trained to be safe or "
        "fair."
    )
    yield "Figures are of one run with one seed."
    if facts.evaluation() is None:
        yield "How it does on data that it has not seen is unknown."


# -- Markdown ---------------------------------------------------------------------------------------------------------


def plain(text: object) -> str:
    """Return text of unknown origin on one line, so that Markdown shows it as it is."""
    return _MARKUP.sub(r"\\\1", printable(" ".join(str(text).split())))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a table: the first column to the left, the others to the right."""
    yield f"| {' | '.join(map(plain, head))} |"
    yield f"|{'|'.join(['---', *['--:'] * (len(head) - 1)])}|"
    for row in rows:
        yield f"| {' | '.join(map(plain, row))} |"


def percent(rate: float) -> str:
    """Format a share: `88.1 %`."""
    return f"{100 * rate:.1f} %"
