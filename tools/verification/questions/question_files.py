"""The files with questions: the training file, whole or evenly sampled, and the held-out file next to it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tools.verification.questions.question import Question, Split, normalised
from tools.verification.questions.training_data import TrainingData
from training.errors import DataError, did_you_mean
from training.tasks.hlbd.files import Corpus, Pairs, Sample, find_dataset, load_corpus

T = TypeVar("T")

_HELD_OUT_KINDS = [split.value for split in (Split.PARAPHRASE, Split.NEW_FACT, Split.CONTRAST)]


@dataclass(frozen=True)
class QuestionFile:
    """A file, and how many of its questions are asked."""

    path: str
    questions: int
    asked: int


@dataclass(frozen=True)
class Questions:
    """Everything that will be asked."""

    train: list[Question]
    validation: list[Question]
    """Rows of the training files that the run held back."""
    held_out: list[Question]
    files: list[QuestionFile]
    tags: frozenset[str]
    notes: list[str]
    """Facts that a reader of the results must know: sampling, questions that could not be used."""

    @property
    def all(self) -> list[Question]:
        """All of them, in the order in which they are asked."""
        return [*self.train, *self.validation, *self.held_out]


def held_out_beside(dataset: Path) -> Path | None:
    """Return `X_Heldout.json` in the folder of `X.json`, if there is one."""
    beside = dataset.with_name(f"{dataset.stem}_Heldout.json")
    return beside if beside.is_file() else None


def load_questions(data: TrainingData, held_out: Sequence[str] | None = None, sample: int | None = None) -> Questions:
    """Choose training questions and read held-out ones.

    Args:
        data: the files that the model was trained on.
        held_out: held-out files; None: those next to the training files, as far as they exist.
        sample: about how many questions of each group (training, validation, each held-out file) are asked at most;
            whole concepts and whole contrast groups are chosen evenly; None: all.

    Raises:
        DataError: a file cannot be used (see `load_corpus`), or a held-out question is in the training file.
    """
    corpus, pairs = data.corpus, data.pairs
    files = held_out if held_out is not None else _found_beside(corpus)
    seen = {normalised(s.prompt) for s in corpus.samples}
    notes = list(data.notes)

    def chosen_of(split: Split) -> list[Question]:
        samples = [s for s in corpus.samples if (s.prompt in data.held_back) is (split is Split.VALIDATION)]
        chosen = _evenly(samples, sample, [s.entry for s in samples])
        if len(chosen) < len(samples):
            kind = "training" if split is Split.TRAIN else "validation"
            notes.append(f"{len(chosen):,} of {len(samples):,} {kind} questions were asked, evenly chosen (--sample)")
        return [Question(s.prompt, s.answer, s.module, split, s.entry) for s in chosen]

    train, validation = chosen_of(Split.TRAIN), chosen_of(Split.VALIDATION)
    asked: list[Question] = []
    counts = [QuestionFile(str(f.path), f.samples, 0) for f in corpus.files]
    entry, tags = corpus.num_entries, corpus.tags
    for name in files:
        unseen, unseen_tags, entry = _read_held_out(name, pairs, seen, entry, notes)
        keys = [q.group.partition("\n")[0] or q.entry for q in unseen]
        chosen = _evenly(unseen, sample, keys)
        if len(chosen) < len(unseen):
            notes.append(f"{len(chosen):,} of {len(unseen):,} held-out questions were asked, evenly chosen (--sample)")
        counts.append(QuestionFile(str(find_dataset(name)), len(unseen), len(chosen)))
        asked += chosen
        tags |= unseen_tags
    if not files:
        notes.append("no held-out file: unseen facts were not tested (give one with --held-out)")
    in_file = _files_of(corpus)
    per_file = Counter(in_file[q.entry] for q in (*train, *validation))
    counts[: len(corpus.files)] = [
        QuestionFile(c.path, c.questions, per_file[i]) for i, c in enumerate(counts[: len(corpus.files)])
    ]
    return Questions(train, validation, asked, counts, tags, notes)


def _found_beside(corpus: Corpus) -> list[str]:
    return [str(beside) for f in corpus.files if (beside := held_out_beside(f.path)) is not None]


def _files_of(corpus: Corpus) -> list[int]:
    """Return for each entry the number of its file."""
    return [number for number, f in enumerate(corpus.files) for _ in range(f.entries)]


def _evenly(questions: list[T], limit: int | None, keys: Sequence[Hashable]) -> list[T]:
    """Return about `limit` questions at most: those of a key together, the keys spread evenly over the list."""
    if limit is None or len(questions) <= limit:
        return questions
    sizes = Counter(keys)
    wanted = max(1, limit * len(sizes) // len(questions))
    order = list(sizes)
    chosen = {order[i * len(order) // wanted] for i in range(wanted)}
    return [q for q, key in zip(questions, keys, strict=True) if key in chosen]


def _read_held_out(
    name: str, pairs: Pairs, seen: set[str], first_entry: int, notes: list[str]
) -> tuple[list[Question], frozenset[str], int]:
    """Return (questions, tags, next free entry number) of one held-out file."""
    corpus = load_corpus([name], pairs)
    path = corpus.files[0].path
    document = json.loads(path.read_text(encoding="utf-8-sig"))  # `load_corpus` has checked it
    of_concepts = "data" not in document
    rows: list[dict[str, Any]] = (
        document["samples"] if of_concepts else [r for m in document["data"].values() for r in m]
    )
    splits = [_split(path, number, row) for number, row in enumerate(rows)]
    if of_concepts:
        samples, left_out = _unseen_wordings(corpus.samples, splits, seen)
        if left_out:
            notes.append(
                f"{path.name}: {left_out:,} questions about its concepts are word for word in the training data "
                "and were left out (a card, an emoji or a phrase that several concepts share; a seen concept's name)"
            )
        if pairs == "levels" and Split.PARAPHRASE in splits:
            notes.append(f"{path.name}: paraphrases of concepts are asked sentence to sentence, with --pairs full")
        if not samples:
            raise DataError(f"{path}: all of its questions are in the training file; give another --held-out")
    else:
        samples = corpus.samples
    _refuse_overlap(path, samples, seen)
    questions = [
        Question(
            s.prompt, s.answer, s.module, splits[s.entry], first_entry + s.entry, _group(rows[s.entry], of_concepts, s)
        )
        for s in samples
    ]
    return questions, corpus.tags, first_entry + corpus.num_entries


def _split(path: Path, number: int, row: dict[str, Any]) -> Split:
    """Return the row's kind; a row without one counts as a new fact (any unseen HLBD file can be given)."""
    kind = row.get("kind", Split.NEW_FACT.value)
    if kind not in _HELD_OUT_KINDS:
        raise DataError(
            f"{path}: row {number}: kind {kind!r} is not one of {', '.join(_HELD_OUT_KINDS)}"
            f"{did_you_mean(str(kind), _HELD_OUT_KINDS)}"
        )
    return Split(kind)


def _group(row: dict[str, Any], of_concepts: bool, sample: Sample) -> str:
    group = str(row.get("group", ""))
    if not group or not of_concepts:
        return group
    # Concepts of a group are compared direction by direction: all their [EN], all their [KR][ZH] …
    probe = Question(sample.prompt, sample.answer, sample.module, Split.CONTRAST, 0)
    return f"{group}\n{probe.tags}"


def _unseen_wordings(samples: Iterable[Sample], splits: Sequence[Split], seen: set[str]) -> tuple[list[Sample], int]:
    """Return the samples whose prompt training never showed, and how many others were left out.

    A held-out concept shares its card, emoji or phrase with training concepts, and a paraphrase also its name: such a
    prompt is not an unseen question. The *name* of a new concept must be new; `_refuse_overlap` checks that.
    """
    kept: list[Sample] = []
    left_out = 0
    for s in samples:
        is_name = Question(s.prompt, s.answer, s.module, Split.TRAIN, 0).tags.count("[") == 1
        if normalised(s.prompt) not in seen or (is_name and splits[s.entry] is not Split.PARAPHRASE):
            kept.append(s)
        else:
            left_out += 1
    return kept, left_out


def _refuse_overlap(path: Path, samples: Sequence[Sample], seen: set[str]) -> None:
    overlap = [s.prompt for s in samples if normalised(s.prompt) in seen]
    if overlap:
        raise DataError(
            f"{path}: {len(overlap):,} of its {len(samples):,} questions are also in the training file, the first is "
            f"{overlap[0][:60]!r}; held-out questions must be unseen, so take them out or give another --held-out"
        )


def contrast_groups(questions: Sequence[Question]) -> dict[str, list[int]]:
    """Return group -> indices of its rows in `questions`, for groups of two or more rows whose truths all differ."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for place, question in enumerate(questions):
        if question.split is Split.CONTRAST and question.group:
            groups[f"{question.module}\n{question.group}"].append(place)
    return {
        name: rows
        for name, rows in groups.items()
        if len(rows) > 1 and len({questions[i].expected for i in rows}) == len(rows)
    }
