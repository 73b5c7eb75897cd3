"""The data files together: which are missing, and whether the held-out ones are really unseen and readable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.diagnosis.data_file import (
    COMMITTED,
    DATA,
    HELD_OUT_ENDING,
    DataFile,
    diagnose_file,
    is_held_out,
    remedy,
    section_of,
    texts,
    unreadable,
)
from tools.diagnosis.findings import Finding, Status
from tools.verification.questions.question import Split, normalised
from training.errors import DataError
from training.machine.commands import python_command
from training.tasks.hlbd.files import Sample, find_dataset

DEFAULT = "HLBD_Hardcore_Full"
"""The file that `train.py` reads by default."""


def data_paths(names: Sequence[str] | None) -> list[Path]:
    """Return the files to check: those named, else every .json file in data/.

    Raises:
        DataError: a named file does not exist.
    """
    if names is None:
        return sorted(DATA.glob("*.json"))
    return [find_dataset(name) for name in names]


def diagnose_data(paths: Sequence[Path], complete: bool) -> Iterator[Finding]:
    """Check every file by itself, then every held-out file against the training files.

    Args:
        paths: the files to check.
        complete: True if these should be all files of the project, so that a missing one is a finding.
    """
    if complete:
        yield from _missing(paths)
    files: dict[Path, DataFile | DataError] = {}
    for path in paths:
        files[path.resolve()] = _load(path)
    training = [f for f in files.values() if isinstance(f, DataFile) and not f.is_held_out]
    for path in paths:
        file = files[path.resolve()]
        if isinstance(file, DataError):
            yield unreadable(path, file)
            continue
        yield from diagnose_file(file)
        if not file.is_held_out:
            continue
        partner = _partner(path)
        own = files.get(partner.resolve()) or (_load(partner) if partner.is_file() else None)
        if isinstance(own, DataFile):
            others = [f for f in training if f.path.resolve() != partner.resolve()]
            yield _leaks(file, [own, *others])
            yield _characters(file, own)
        else:
            yield _nothing_to_compare(file, partner)


def _load(path: Path) -> DataFile | DataError:
    try:
        return DataFile.load(path)
    except DataError as error:
        return error


def _partner(held_out: Path) -> Path:
    """Return the training file that belongs to a held-out file."""
    return held_out.with_name(f"{held_out.stem.removesuffix(HELD_OUT_ENDING)}{held_out.suffix}")


def _missing(paths: Sequence[Path]) -> Iterator[Finding]:
    there = {path.stem for path in paths if not is_held_out(path)}
    for stem, generator in COMMITTED.items():
        if stem not in there:
            message = "missing; it is what train.py reads by default" if stem == DEFAULT else "missing"
            status = Status.ERROR if stem == DEFAULT else Status.WARNING
            yield Finding(section_of(DATA / f"{stem}.json"), "rows", status, message, python_command(*generator))


def _nothing_to_compare(file: DataFile, partner: Path) -> Finding:
    message = f"not compared: its training file {partner.name} is not in the same folder or cannot be read"
    return Finding(file.section, "leaks", Status.WARNING, message, remedy(partner))


def _leaks(file: DataFile, training: Sequence[DataFile]) -> Finding:
    """Find held-out questions that are in a training file, compared as the verifier compares them."""
    questions = _unseen_by_design(file, training[0])
    details: list[str] = []
    leaking: set[str] = set()
    for other in training:
        for s in questions:
            if normalised(s.prompt) in other.questions:
                leaking.add(s.prompt)
                details.append(f"{s.prompt!r} ({file.place(s)}) is in {other.path.name}")
    facts = {"leaks": len(leaking), "compared_with": [other.path.name for other in training]}
    if not leaking:
        names = training[0].path.name + (f" and {len(training) - 1} other training files" if training[1:] else "")
        return Finding(file.section, "leaks", Status.OK, f"none into {names}", facts=facts)
    message = f"held-out questions that are in a training file: {len(leaking):,}; scores on them mean nothing"
    return Finding(file.section, "leaks", Status.ERROR, message, remedy(file.path), tuple(details), facts)


def _unseen_by_design(file: DataFile, training: DataFile) -> list[Sample]:
    """Return the samples that must not be in the training file.

    A question row of any kind must be new. A paraphrased concept keeps its name, so its prompts are known; its wording
    must be new, and it leaks only if the training file has all of its answers too.
    """
    samples = file.corpus.samples
    if not file.has_concepts:
        return samples
    document = json.loads(file.path.read_text(encoding="utf-8-sig"))  # `load_corpus` has checked it
    paraphrased = {i for i, item in enumerate(document["samples"]) if item.get("kind") == Split.PARAPHRASE}
    known = {s[:2] for s in training.corpus.samples}
    retold = {s.entry for s in samples if s[:2] not in known}
    return [s for s in samples if s.entry not in paraphrased or s.entry not in retold]


def _characters(file: DataFile, training: DataFile) -> Finding:
    """Find characters and tags that a model trained on the training file cannot read or write."""
    unknown = training.tokenizer.unknown(texts(file.corpus.samples))
    new_tags = sorted(set(file.tokenizer.tags) - set(training.tokenizer.tags))
    facts = {"unknown_characters": dict(sorted(unknown.items())), "unknown_tags": new_tags}
    if not unknown and not new_tags:
        return Finding(file.section, "characters", Status.OK, f"all known from {training.path.name}", facts=facts)
    parts = [f"the characters {''.join(sorted(unknown))[:40]}"] if unknown else []
    parts += [f"the tags {' '.join(new_tags)}"] if new_tags else []
    details = tuple(f"{character!r} {count:,} times" for character, count in sorted(unknown.items()))
    message = f"{training.path.name} lacks {' and '.join(parts)}: a model trained on it cannot answer these rows"
    return Finding(file.section, "characters", Status.WARNING, message, remedy(file.path), details, facts)
