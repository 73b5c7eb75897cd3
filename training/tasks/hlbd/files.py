"""Reading of HLBD files into samples. Two formats, recognised by their keys. No torch.

Question rows ("Hardcore"):

    {"metadata": {…}, "data": {"arithmetic": [{"input": "12 + 34 = ?", "output": "46"}, …], …}}

Concepts described on levels ("Full"); a missing level is skipped, additional levels are used too:

    {"metadata": {…}, "samples": [{"concept": "下雨", "level_1": {"字卡": "雨", "emoji": "🌧️"}, …}, …]}

An *entry* is a row or a concept of the file; a *sample* is one prompt with its answer. A row gives one sample, a
concept gives one for each direction of `pairs`. The first tag of a concept's prompt names the level that is asked for,
a second one the level that is given: `[EN]下雨`, `[ZH][EMOJI]🌧️`, `[KR][JP]雨が降っています。`.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from apt_model.tokenizer import SPECIALS, is_tag
from training.errors import DataError
from training.language.messages import Message
from training.machine.units import as_size
from training.storage.file_formats import JSON, format_of

Pairs = Literal["levels", "full"]
MOST_BYTES = 1_000_000_000
"""Largest total size of data files that are read into memory, where they take eight times as much, and their tokens."""
SHAPES = """{"data": {"MODULE": [{"input": "…", "output": "…"}]}} or {"samples": [{"concept": "…", "level_1": {…}}]}"""

# Key of a level's text -> its tag. A key that is not listed gets a tag of its own: {"克林贡文": …} -> [克林贡文].
LEVEL_TAGS = {
    "字卡": "[CARD]",
    "emoji": "[EMOJI]",
    "短语": "[PHRASE]",
    "数学": "[MATH]",
    "拼音": "[PY]",
    "英文": "[EN]",
    "中文": "[ZH]",
    "日文": "[JP]",
    "韩文": "[KR]",
    "法文": "[FR]",
    "德文": "[DE]",
    "西班牙文": "[ES]",
    "葡萄牙文": "[PT]",
    "意大利文": "[IT]",
    "俄文": "[RU]",
    "阿拉伯文": "[AR]",
    "越南文": "[VI]",
    "泰文": "[TH]",
}
# Levels that express only a part (a picture, one character, a formula, a phrase). With pairs=full they ask for the
# Chinese sentence, if the data gives them a single one; the other levels are whole sentences and ask for each other.
_PARTS = frozenset({"字卡", "数学", "emoji", "短语"})
_ASKED_PARTS = frozenset({"短语"})
_CHINESE = "中文"


class Sample(NamedTuple):
    """Question with its answer."""

    prompt: str
    answer: str
    module: str
    """Module of a row; `concept` for samples from an eight-level file."""
    entry: int
    """Number of the row or concept in the corpus; samples of one concept share it, so a split never separates them."""


@dataclass(frozen=True)
class FileCount:
    """Counts of one file."""

    path: Path
    entries: int
    samples: int
    ambiguous: int
    """Number of samples left out because the file gives the same prompt several answers (eight-level files only)."""


@dataclass(frozen=True)
class Corpus:
    """Samples of one or more files, in the files' order."""

    samples: list[Sample]
    files: tuple[FileCount, ...]
    tags: frozenset[str]
    """Tags of the levels."""

    @property
    def num_entries(self) -> int:
        """Return the number of rows and concepts together."""
        return sum(f.entries for f in self.files)

    @property
    def modules(self) -> tuple[str, ...]:
        """Return the module names in order of first appearance."""
        return tuple(dict.fromkeys(s.module for s in self.samples))

    def contradictions(self) -> list[str]:
        """Return the prompts that have several answers: no model can get them all right."""
        answers: dict[str, str] = {}
        return sorted({s.prompt for s in self.samples if answers.setdefault(s.prompt, s.answer) != s.answer})

    def fingerprint(self) -> str:
        """Return a hash of every prompt and answer in order: two corpora with the same hash train the same."""
        digest = hashlib.blake2b(digest_size=16)
        for s in self.samples:
            digest.update(f"{s.prompt}\x1f{s.answer}\x1e".encode())
        return digest.hexdigest()

    def describe(self) -> Iterator[Message]:
        """Yield one line per file with its count and share."""
        total = max(1, self.num_entries)
        for f in self.files:
            yield Message(
                "{file}: {entries:,} entries ({share:.1%}), {samples:,} samples{left_out}",
                file=f.path.name,
                entries=f.entries,
                share=f.entries / total,
                samples=f.samples,
                left_out=Message(", {count:,} ambiguous left out", count=f.ambiguous) if f.ambiguous else "",
            )


def find_dataset(name: str | Path, root: Path | None = None) -> Path:
    """Find the file meant by `name`: as given, else in `data/` here, else in the checkout's `data/`.

    Raises:
        DataError: no such file; the message names the places that were searched.
    """
    root = root or Path(__file__).resolve().parents[3]
    try:
        given = Path(name).expanduser()
        places = [given]
        if not given.is_absolute():
            places += [Path("data") / given, root / "data" / given, root / given]
        for place in places:
            if place.is_file():
                return place
        is_directory, exists = given.is_dir(), given.exists()
    except (OSError, RuntimeError, ValueError) as error:  # an unknown ~user, a name that is too long or has a null byte
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{name}: no file can have this name ({reason}); check --datasets") from error
    if is_directory:
        raise DataError(f"{given}: this is a directory; give the HLBD .json file in it")
    if exists:
        raise DataError(f"{given}: this is no regular file (a pipe or a device); save the data in a file and give that")
    searched = ", ".join(dict.fromkeys(str(p.parent) for p in places))
    raise DataError(f"{given}: no such data file (searched {searched}); check --datasets")


def data_files(names: Sequence[str | Path], most_bytes: int | None = None) -> tuple[Path, ...]:
    """Find data files.

    Args:
        names: as `find_dataset` takes them.
        most_bytes: limit of their total size; None: there is none.

    Raises:
        DataError: no file is given, one is not found or given twice, or together they are too large.
    """
    if not names:
        raise DataError("no data file was given; name one with --datasets")
    found: dict[Path, Path] = {}
    size = 0
    for name in names:
        path = find_dataset(name)
        if path.resolve() in found:
            raise DataError(f"{path}: the file is given twice; give each data file once")
        found[path.resolve()] = path
        size += path.stat().st_size
        if most_bytes is not None and size > most_bytes:
            more = " with the files before it" if len(found) > 1 else ""
            raise DataError(
                f"{path}: {as_size(size)}{more} is more than is read into memory ({as_size(most_bytes)} at most); "
                "train on a part of it, or read it as a stream: hlbd_dataset(…, streaming=True) in "
                "training/tasks/hlbd/datasets_library.py"
            )
    return tuple(found.values())


def load_corpus(names: Sequence[str | Path], pairs: Pairs = "levels") -> Corpus:
    """Read one or more HLBD files.

    Raises:
        DataError: a file is missing, empty, cut short, not UTF-8, not JSON or not HLBD; the message names file and
            item.
    """
    samples: list[Sample] = []
    files: list[FileCount] = []
    tags: set[str] = set()
    entries = 0
    for path in data_files(names, most_bytes=MOST_BYTES):
        document = _read_json(path)
        if "data" in document and "samples" in document:
            raise both_formats(path)
        if "data" in document:
            found = list(_rows(path, document["data"], entries))
            ambiguous, count = 0, len(found)
        elif "samples" in document:
            concepts = list(_concepts(path, document["samples"]))
            for _, level_texts in concepts:
                tags.update(level_tag(key) for key in level_texts)
            found, ambiguous = _concept_samples(concepts, pairs, entries)
            count = len(concepts)
        else:
            raise DataError(
                f"{path}: neither 'data' (modules of question rows) nor 'samples' (concepts on levels) "
                f"among its keys {sorted(map(str, document))}; this is not an HLBD file"
            )
        if not found:
            raise DataError(f"{path}: the file holds no samples")
        samples += found
        files.append(FileCount(path, count, len(found), ambiguous))
        entries += count
    return Corpus(samples, tuple(files), frozenset(tags))


def level_tag(key: str) -> str:
    """Return the tag of a level's text: `英文` -> `[EN]`; an unknown key becomes its own tag."""
    return LEVEL_TAGS.get(key) or f"[{key.replace(' ', '_')}]"


def split_corpus(corpus: Corpus, validation_split: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Split into training and validation samples; a hash chooses the share `validation_split` of entries to hold back.

    Entries are ranked by a hash of their text and the seed, so the order of files does not change the split, and the
    same question in two files stays on one side. More data moves only entries near the cut.
    """
    if validation_split <= 0.0:
        return corpus.samples, []
    keys: dict[int, bytes] = {}
    for s in corpus.samples:
        if s.entry not in keys:
            keys[s.entry] = hashlib.blake2b(f"{seed}\x1f{s.prompt}".encode(), digest_size=8).digest()
    ranked = sorted(set(keys.values()))
    held_back = round(len(ranked) * validation_split)
    if held_back in (0, len(ranked)):
        raise DataError(
            f"validation_split={validation_split} of {len(keys)} entries leaves one side empty; "
            "choose a share that leaves at least one entry on each side"
        )
    chosen = set(ranked[:held_back])
    train = [s for s in corpus.samples if keys[s.entry] not in chosen]
    validation = [s for s in corpus.samples if keys[s.entry] in chosen]
    return train, validation


def _read_json(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the data file cannot be read ({error.strerror})") from error
    if not raw.strip():
        raise DataError(f"{path}: the data file is empty")
    try:
        document = json.loads(
            raw.decode("utf-8").removeprefix("\ufeff"), object_pairs_hook=object_without_repeats(path)
        )
    except UnicodeDecodeError as error:
        raise not_utf8(path, error.start, raw[error.start]) from error
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(error.doc.rstrip()) - 1 or error.msg.startswith("Unterminated")
        raise not_json(path, error.lineno, error.colno, error.msg, at_end=at_end) from error
    except (RecursionError, ValueError) as error:
        raise undecodable(path, error) from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: an HLBD file is a JSON object, this one is a {kind(document)}")
    return document


def not_utf8(path: Path, start: int, byte: int) -> DataError:
    """Return the error about the first byte that is not UTF-8, or about the format that the file has."""
    what = f"not UTF-8 text (byte {start} is 0x{byte:02x}); save the file as UTF-8"
    return other_format(path) or DataError(f"{path}: {what}")


def not_json(path: Path, line: int, column: int, reason: str, *, at_end: bool) -> DataError:
    """Return the error about the first place that is not JSON, or about the format that the file has.

    Args:
        path: the file.
        line, column: the place, from 1.
        reason: what `json` says.
        at_end: it is at the end of the file.
    """
    if (other := other_format(path)) is not None:
        return other
    cut = " the file seems to be cut short;" if at_end else ""
    return DataError(
        f"{path}: not valid JSON at line {line}, column {column} ({reason});{cut} repair it or fetch it again"
    )


def undecodable(path: Path, error: RecursionError | ValueError) -> DataError:
    """Return the error about JSON that is nested too deeply, or about a number of thousands of digits."""
    if isinstance(error, RecursionError):
        return DataError(f"{path}: JSON nested too deeply to be an HLBD file")
    return DataError(f"{path}: holds a number too long to read; answers are texts in quotes")


def repeated_key(path: Path, key: str) -> DataError:
    """Return the error about a key that is given twice in one object."""
    return DataError(f"{path}: key {key!r} is given twice in one object; its first value would be lost")


def other_format(path: Path) -> DataError | None:
    """Return the error about a file that is no JSON at all but of another format; None: it looks like JSON."""
    found = format_of(path)
    return None if found in (None, JSON) else DataError(f"{path}: {found}; HLBD is one JSON document: {SHAPES}")


def both_formats(path: Path) -> DataError:
    """Return the error about a file of question rows and of concepts."""
    return DataError(f"{path}: holds both 'data' and 'samples', and a file has one of them; put them into two files")


def object_without_repeats(path: Path) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """Return a JSON hook that refuses a key given twice; `json` would silently drop the rows of the first one."""

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) != len(pairs):
            names = [key for key, _ in pairs]
            twice = next(key for key in names if names.count(key) > 1)
            raise repeated_key(path, twice)
        return built

    return build


def kind(value: object) -> str:
    """Name the kind of a JSON value, for an error: `list`, `truth value`, `object`."""
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "a truth value",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null").removeprefix("a ").removeprefix("an ")


def _text(value: object, where: str) -> str:
    if isinstance(value, str) and value.strip():
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise DataError(f"{where} holds half of a surrogate pair, which is no character: {value!r}")
        return value
    got = "an empty text" if value == "" else f"{value!r}"
    raise DataError(f"{where} must be a non-empty text in quotes, not {got}")


def module_name(path: Path, name: str) -> str:
    """Return the name of a module.

    Raises:
        DataError: it is empty, or no text that a file can hold.
    """
    return _text(name, f"{path}: module {name!r}: its name")


def _rows(path: Path, modules: object, first_entry: int) -> Iterator[Sample]:
    if not isinstance(modules, dict):
        raise DataError(f"{path}: 'data' must map each module to a list of rows, it is a {kind(modules)}")
    entry = first_entry
    for module, rows in modules.items():
        module_name(path, module)
        if not isinstance(rows, list):
            raise DataError(f"{path}: module {module!r} must be a list of rows, it is a {kind(rows)}")
        if not rows:
            raise DataError(f"{path}: module {module!r} is empty; fill it or take it out")
        for i, row in enumerate(rows):
            yield row_sample(path, module, i, row, entry)
            entry += 1


def row_sample(path: Path, module: str, number: int, row: object, entry: int) -> Sample:
    """Return the sample of one question row, the `number`-th of its module.

    Raises:
        DataError: it is not a row; the message names file, module and number.
    """
    where = f"{path}: module {module!r}, row {number}"
    if not isinstance(row, dict):
        raise DataError(f"{where}: a row is {{'input': …, 'output': …}}, this is a {kind(row)}")
    for key in ("input", "output"):
        if key not in row:
            raise DataError(f"{where}: no {key!r}; its keys are {sorted(map(str, row))}")
    prompt = _text(row["input"], f"{where}: 'input'")
    return Sample(prompt, _text(row["output"], f"{where}: 'output'"), module, entry)


def _concepts(path: Path, samples: object) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (concept, {level's key: text}) of each item."""
    if not isinstance(samples, list):
        raise DataError(f"{path}: 'samples' must be a list of concepts, it is a {kind(samples)}")
    for i, item in enumerate(samples):
        yield concept_texts(path, i, item)


def concept_texts(path: Path, number: int, item: object) -> tuple[str, dict[str, str]]:
    """Return (concept, {level's key: text}) of one item, the `number`-th of its file.

    Raises:
        DataError: it is not a concept; the message names file and number.
    """
    where = f"{path}: sample {number}"
    if not isinstance(item, dict):
        raise DataError(f"{where}: a sample is {{'concept': …, 'level_1': {{…}}, …}}, this is a {kind(item)}")
    concept = _text(item.get("concept"), f"{where}: 'concept'")
    texts: dict[str, str] = {}
    for name, level in item.items():
        if not name.startswith("level_"):
            continue
        if not isinstance(level, dict):
            raise DataError(f"{where}: {name!r} must be an object such as {{'英文': …}}, it is a {kind(level)}")
        for key, value in level.items():
            _text(key, f"{where}: {name!r}: the name {key!r}")
            if not is_tag(level_tag(key)):
                raise DataError(
                    f"{where}: {name!r}: the name {key!r} cannot be a tag; give one of at most 24 characters without "
                    f"brackets and line ends, and none of {', '.join(name.strip('[]') for name in SPECIALS)}"
                )
            if key in texts:
                raise DataError(f"{where}: {key!r} is given on two levels")
            texts[key] = _text(value, f"{where}: {name!r}, {key!r}")
    if not texts:
        raise DataError(f"{where}: concept {concept!r} has no level")
    return concept, texts


def _concept_samples(
    concepts: Sequence[tuple[str, dict[str, str]]], pairs: Pairs, first_entry: int
) -> tuple[list[Sample], int]:
    """Return the samples of all concepts, and the number left out because their prompt has several answers."""
    found: list[Sample] = []
    answers: defaultdict[str, set[str]] = defaultdict(set)
    for number, (concept, texts) in enumerate(concepts):
        for prompt, answer in directions(concept, texts, pairs):
            answers[prompt].add(answer)
            found.append(Sample(prompt, answer, "concept", first_entry + number))
    clear = [s for s in found if len(answers[s.prompt]) == 1]
    return clear, len(found) - len(clear)


def directions(concept: str, texts: dict[str, str], pairs: Pairs) -> Iterator[tuple[str, str]]:
    """Yield (prompt, answer) for each way in which a concept's levels ask for each other."""
    for key, text in texts.items():
        yield f"{level_tag(key)}{concept}", text
    if pairs == "levels":
        return
    if _CHINESE in texts:
        for key in (k for k in texts if k in _PARTS):
            yield f"{level_tag(_CHINESE)}{level_tag(key)}{texts[key]}", texts[_CHINESE]
    for given in (key for key in texts if key not in _PARTS):
        for asked in (key for key in texts if key not in _PARTS or key in _ASKED_PARTS):
            if asked != given:
                yield f"{level_tag(asked)}{level_tag(given)}{texts[given]}", texts[asked]
