"""Hostile HLBD files, valid ones with faults drawn at random: read, or refused in one line, alike by both readers.

`python -m tests.training.tasks.hlbd.test_hostile_files 5000` tries as many cases as it is given.
"""

from __future__ import annotations

import copy
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from training import TrainingConfig
from training.errors import UserError
from training.tasks.hlbd.files import Sample, load_corpus
from training.tasks.hlbd.stream import CorpusStream
from training.tasks.hlbd.task import HLBDTask

CASES = 250
DOCUMENTS: tuple[dict[str, Any], ...] = (
    {
        "metadata": {"name": "x"},
        "data": {
            "sums": [{"input": "1+1", "output": "2"}, {"input": "2+2", "output": "4"}],
            "words": [{"input": "雨", "output": "rain"}],
        },
    },
    {
        "samples": [
            {"concept": "下雨", "level_1": {"字卡": "雨", "emoji": "🌧️"}, "level_5": {"英文": "It rains"}},
            {"concept": "下雪", "level_1": {"字卡": "雪"}, "level_6": {"中文": "下雪了。"}},
        ]
    },
)
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, float("nan"), 10**400, "", " ", "\n", "\0", "\ud800", "\u200b", "\x1b[31m", "a" * 5000,
    "[EN]", "[", "]", "[]", "[UNK]", "[SEP]", "🌧️", [], {}, [[]], [{}], {"": ""}, {"input": "a"}, "\u2028", "[A B]",
)  # fmt: skip
KEYS = (
    "", " ", "data", "samples", "input", "output", "concept", "level_1", "level_", "level_\ud800", "\ud800", "\0",
    "英文", "[EN]", "a" * 300, "\x1b[0m", "\n", "[", "x]y", "[UNK]",
)  # fmt: skip
BYTES = (
    b"\0", b"\xff", b"{", b"]", b",", b'"', b"\\", b"\\ud800", b"NaN", b"1e999", b"\xef\xbb\xbf", b"[" * 3000,
    b"9" * 5000,
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a document but the document itself."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*path, key)
        yield from places(one, (*path, key))


def with_other_values(draw: random.Random) -> bytes:
    document = copy.deepcopy(draw.choice(DOCUMENTS))
    for _ in range(draw.choice([1, 1, 2])):
        if not (found := list(places(document))):
            break
        *above, last = draw.choice(found)
        parent: Any = document
        for key in above:
            parent = parent[key]
        what = draw.random()
        if what < 0.5:
            parent[last] = copy.deepcopy(draw.choice(VALUES))
        elif what < 0.65:
            del parent[last]
        elif isinstance(parent, dict):
            parent[draw.choice(KEYS)] = parent.pop(last, None)
        else:
            parent.insert(0, copy.deepcopy(draw.choice(VALUES)))
    return json.dumps(document, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")


def with_other_bytes(draw: random.Random) -> bytes:
    content = bytearray(json.dumps(draw.choice(DOCUMENTS), ensure_ascii=False, indent=draw.choice([None, 1])).encode())
    for _ in range(draw.choice([1, 1, 2, 5])):
        at = draw.randrange(len(content) or 1)
        what = draw.random()
        if what < 0.3 and content:
            content[at] ^= 1 << draw.randrange(8)
        elif what < 0.5:
            del content[at:]
        else:
            content[at : at + draw.randrange(9)] = draw.choice([*BYTES, b""])
    return bytes(content)


def refusal(path: Path) -> str | None:
    """Return the line with which a file is refused, alike by both readers; None: both read the same samples."""
    lines: list[str | None] = []
    samples: list[list[Sample]] = []
    readers: tuple[Callable[[], list[Sample]], ...] = (
        lambda: load_corpus([path]).samples,
        lambda: list(CorpusStream([path])),
    )
    for read in readers:
        try:
            samples.append(read())
            lines.append(None)
        except UserError as error:
            lines.append(str(error))
    assert (lines[0] is None) == (lines[1] is None), lines
    assert len(samples) != 2 or samples[0] == samples[1]
    return lines[0] or not_trained(path)


def not_trained(path: Path) -> str | None:
    """Return the line with which a readable file is refused for training; None: it can be trained on."""
    settings = {"datasets": [str(path)], "d_model": 8, "num_layers": 1, "num_heads": 1, "d_ff": 8, "truncate": True}
    try:
        prepared = HLBDTask().prepare(TrainingConfig.from_dict(settings))
    except UserError as error:  # such as a level whose name cannot be a tag
        return str(error)
    prepared.objective.collate([prepared.train[i] for i in range(len(prepared.train))])
    json.dumps([prepared.facts, *prepared.introduction], ensure_ascii=False).encode()
    return None


def outcomes(cases: int, directory: Path) -> Counter[str]:
    draw, found = random.Random(cases), Counter[str]()
    for _ in range(cases):
        content = (with_other_values if draw.random() < 0.6 else with_other_bytes)(draw)
        (directory / "hostile.json").write_bytes(content)
        try:
            line = refusal(directory / "hostile.json")
        except Exception as error:
            raise AssertionError(f"{content[:2000]!r}: {type(error).__name__}: {error}") from error
        assert line is None or ("\n" not in line and len(line) < 4500)
        found["read" if line is None else "refused"] += 1
        assert (directory / "hostile.json").read_bytes() == content
    return found


def test_a_hostile_file_is_read_or_refused_in_one_line_alike_by_both_readers(tmp_path: Path) -> None:
    found = outcomes(CASES, tmp_path)
    assert found["refused"] > CASES / 3
    assert found["read"] > CASES / 10


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(dict(outcomes(int(sys.argv[1]), Path(folder))))
