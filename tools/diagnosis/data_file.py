"""One HLBD file, read by the trainer's own loader: counts, repeats, contradictions, lengths, tags, vocabulary."""

from __future__ import annotations

import difflib
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from apt_model.tokenizer import KNOWN_TAGS, SPECIALS, DynamicTagTokenizer
from tools.diagnosis.findings import Finding, Status
from tools.verification.questions.question import normalised
from training.errors import DataError
from training.machine.commands import ROOT, python_command, shown
from training.tasks.hlbd.files import LEVEL_TAGS, Corpus, Sample, load_corpus

DATA = ROOT / "data"
COMMITTED = {
    "HLBD_Hardcore_Full": ("tools/generate_hlbd_hardcore.py", "--version", "1"),
    "HLBD_Hardcore_Full_V2": ("tools/generate_hlbd_hardcore.py", "--version", "2"),
    "HLBD_Full_V2": ("tools/generate_hlbd_full.py",),
}
"""Training files that belong to the project -> the command that writes each, and its held-out file, again."""
HELD_OUT_ENDING = "_Heldout"

_MODULES_SHOWN = 8
_FAMILIAR_TAGS = frozenset(KNOWN_TAGS) | frozenset(LEVEL_TAGS.values())
_BRACKETED = re.compile(r"\[[^\[\]\s]{1,24}\]")


@dataclass(frozen=True)
class DataFile:
    """A file that could be read."""

    path: Path
    corpus: Corpus

    @classmethod
    def load(cls, path: Path) -> DataFile:
        """Read a file.

        Raises:
            DataError: it cannot be used; the message is one line that says what is wrong and where.
        """
        return cls(path, load_corpus([path]))

    @property
    def section(self) -> str:
        """The heading of its findings."""
        return section_of(self.path)

    @property
    def is_held_out(self) -> bool:
        """True if its questions are kept from training."""
        return is_held_out(self.path)

    @property
    def has_concepts(self) -> bool:
        """True for eight-level concepts, False for question rows."""
        return self.corpus.num_entries < len(self.corpus.samples) or self.corpus.modules == ("concept",)

    @cached_property
    def tokenizer(self) -> DynamicTagTokenizer:
        """The vocabulary that a training on this file alone would have."""
        return DynamicTagTokenizer.from_texts(texts(self.corpus.samples), self.corpus.tags)

    def place(self, sample: Sample) -> str:
        """Return the place of a sample: `module 'arithmetic', row 3` or `sample 12`."""
        if self.has_concepts:
            return f"sample {sample.entry}"
        return f"module {sample.module!r}, row {sample.entry - self._first_entries[sample.module]}"

    @cached_property
    def repeated(self) -> dict[str, list[Sample]]:
        """Prompts that occur more than once, each with all its samples."""
        counts = Counter(s.prompt for s in self.corpus.samples)
        found: defaultdict[str, list[Sample]] = defaultdict(list)
        for s in self.corpus.samples:
            if counts[s.prompt] > 1:
                found[s.prompt].append(s)
        return dict(found)

    @cached_property
    def questions(self) -> frozenset[str]:
        """Prompts in the form in which the verifier compares them."""
        return frozenset(normalised(s.prompt) for s in self.corpus.samples)

    @cached_property
    def _first_entries(self) -> dict[str, int]:
        first: dict[str, int] = {}
        for s in self.corpus.samples:
            first.setdefault(s.module, s.entry)
        return first


def texts(samples: Iterable[Sample]) -> Iterator[str]:
    """Yield all prompts and answers."""
    for s in samples:
        yield s.prompt
        yield s.answer


def section_of(path: Path) -> str:
    """Return the heading of a file's findings."""
    return f"data {shown(path)}"


def is_held_out(path: Path) -> bool:
    """Return whether the name says that the file is kept from training."""
    return path.stem.endswith(HELD_OUT_ENDING)


def remedy(path: Path) -> str:
    """Return the fix for a faulty file: the project's own are generated again, a user's own must be edited."""
    generator = COMMITTED.get(path.stem.removesuffix(HELD_OUT_ENDING))
    if generator is not None and path.resolve().parent == DATA:
        return python_command(*generator)
    return f"edit {shlex.quote(shown(path))}"


def unreadable(path: Path, error: DataError) -> Finding:
    """Return the finding for a file that the loader refuses."""
    message = str(error).removeprefix(f"{path}: ")
    return Finding(section_of(path), "rows", Status.ERROR, message, remedy(path))


def diagnose_file(file: DataFile) -> Iterator[Finding]:
    """Yield the findings that need no other file."""
    yield _rows(file)
    yield _repeats(file)
    yield _contradictions(file)
    yield _lengths(file)
    yield _vocabulary(file)
    yield _tags(file)


def _ok(file: DataFile, subject: str, message: str, **facts: Any) -> Finding:
    return Finding(file.section, subject, Status.OK, message, facts=facts)


def _rows(file: DataFile) -> Finding:
    corpus = file.corpus
    if file.has_concepts:
        count, samples = corpus.num_entries, len(corpus.samples)
        message = f"{count:,} concepts, {samples:,} samples with --pairs levels"
        return _ok(file, "rows", message, concepts=count, samples=samples)
    rows, modules = len(corpus.samples), Counter(s.module for s in corpus.samples)
    named = [f"{module} {count:,}" for module, count in modules.items()]
    if len(named) > _MODULES_SHOWN:
        named[_MODULES_SHOWN:] = [f"and {len(named) - _MODULES_SHOWN} more modules"]
    return _ok(
        file, "rows", f"{rows:,} row{'s' if rows > 1 else ''}: {', '.join(named)}", rows=rows, modules=dict(modules)
    )


def _repeats(file: DataFile) -> Finding:
    """Find questions that are repeated with the same answer: training and every score count them twice."""
    repeats = {p: samples for p, samples in file.repeated.items() if len({s.answer for s in samples}) < len(samples)}
    if not repeats:
        return _ok(file, "duplicates", "none")
    details = tuple(f"{p!r}: {'; '.join(map(file.place, samples))}" for p, samples in repeats.items())
    message = f"questions that are repeated with the same answer: {len(repeats):,}"
    facts = {"count": len(repeats)}
    return Finding(file.section, "duplicates", Status.WARNING, message, remedy(file.path), details, facts)


def _contradictions(file: DataFile) -> Finding:
    """Find inputs with two answers: no model can get both right. The loader itself drops such samples of concepts."""
    prompts = file.corpus.contradictions()
    ambiguous = sum(f.ambiguous for f in file.corpus.files)
    if not prompts and not ambiguous:
        return _ok(file, "contradictions", "none")
    if ambiguous:
        message = f"samples left out of training, because their concept has several wordings: {ambiguous:,}"
        facts = {"left_out": ambiguous}
        return Finding(file.section, "contradictions", Status.WARNING, message, remedy(file.path), facts=facts)
    details = tuple(
        f"{p!r}: " + "; ".join(f"{s.answer!r} ({file.place(s)})" for s in file.repeated[p]) for p in prompts
    )
    message = f"questions with several answers: {len(prompts):,}; no model can get them all right"
    facts = {"count": len(prompts)}
    return Finding(file.section, "contradictions", Status.ERROR, message, remedy(file.path), details, facts)


def _limit() -> int | None:
    """Return the default of `--max-seq-len`; None without pydantic, which the section `dependencies` reports."""
    try:
        from apt_model.config import ModelConfig
    except ImportError:
        return None
    limit: int = ModelConfig.model_fields["max_seq_len"].default
    return limit


def _lengths(file: DataFile) -> Finding:
    """Compare the tokens of `[BOS] prompt [SEP] answer [EOS]` with the default limit."""
    tokenizer, limit, samples = file.tokenizer, _limit(), file.corpus.samples
    longest = 0
    too_long: list[tuple[Sample, int]] = []
    # A text has at most as many tokens as characters, so only the longest texts have to be encoded.
    most = [len(s.prompt) + len(s.answer) + 3 for s in samples]
    for i in sorted(range(len(samples)), key=lambda i: -most[i]):
        if most[i] <= longest and (limit is None or most[i] <= limit):
            break
        length = len(tokenizer.prompt_ids(samples[i].prompt)) + len(tokenizer.encode(samples[i].answer)) + 1
        longest = max(longest, length)
        if limit is not None and length > limit:
            too_long.append((samples[i], length))
    facts = {"longest_tokens": longest, "max_seq_len": limit, "too_long": len(too_long)}
    if not too_long:
        of = f" of {limit}" if limit is not None else ""
        return Finding(file.section, "longest row", Status.OK, f"{longest}{of} tokens", facts=facts)
    details = tuple(f"{length} tokens: {file.place(s)}" for s, length in too_long)
    message = f"{longest} tokens; rows longer than max_seq_len={limit}: {len(too_long):,}"
    fix = python_command("train.py", "--datasets", file.path, "--max-seq-len", str(longest))
    return Finding(file.section, "longest row", Status.WARNING, message, fix, details, facts)


def _vocabulary(file: DataFile) -> Finding:
    tokenizer = file.tokenizer
    parts = f"{len(SPECIALS)} control, {len(tokenizer.tags)} tags, {len(tokenizer.characters):,} characters"
    return _ok(
        file, "vocabulary", f"{tokenizer.vocab_size:,} tokens: {parts}",
        vocab_size=tokenizer.vocab_size, tags=list(tokenizer.tags), characters=len(tokenizer.characters),
    )  # fmt: skip


def _tags(file: DataFile) -> Finding:
    """Find tags that the program does not know: a new one is fine, a misspelt known one is a meaningless token."""
    counts = Counter(w for text in texts(file.corpus.samples) if "[" in text for w in _BRACKETED.findall(text))
    unknown = sorted(counts.keys() - _FAMILIAR_TAGS)
    misspelt = {word: meant for word in unknown if (meant := _meant(word))}
    if misspelt:
        details = tuple(f"{word} ({counts[word]:,} times): did you mean {misspelt[word]}?" for word in sorted(misspelt))
        message = f"unknown, probably misspelt: {' '.join(sorted(misspelt))}"
        return Finding(
            file.section, "tags", Status.WARNING, message, remedy(file.path), details, {"misspelt": dict(misspelt)}
        )
    used = sorted(counts.keys() & set(file.tokenizer.tags))
    brought = [word for word in unknown if word in used]
    message = "none unknown" if not brought else f"new to the program, one token each: {' '.join(brought)}"
    return _ok(file, "tags", message + (f" (in use: {' '.join(used)})" if used else ""), used=used, new=brought)


def _meant(word: str) -> str:
    """Return the known tag that an unknown word in brackets seems to mean, or an empty string.

    The same letters in another case always count; a similar word only with four letters or more: `[FR]` is not `[KR]`.
    """
    by_upper = {tag.upper(): tag for tag in _FAMILIAR_TAGS}
    if word.upper() in by_upper:
        return by_upper[word.upper()]
    long_tags = [tag for tag in sorted(_FAMILIAR_TAGS) if len(tag) >= 6]
    near = difflib.get_close_matches(word, long_tags, n=1, cutoff=0.8) if len(word) >= 6 else []
    return near[0] if near else ""
