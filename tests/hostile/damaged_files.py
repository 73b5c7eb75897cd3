"""Damaged copies of files: what a disk, an editor, a copy that broke off or another program makes of them.

A generator, so that one test can go through every reader with every damage, and a longer run by hand through thousands.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Damage = Callable[[Path], None]

DEEP = b"[" * 100_000
WRONG_VALUES: Mapping[str, bytes] = {
    "a text": b'"\\u001b[31mmany\\nlines"', "null": b"null", "a list": b"[1, [2]]", "a mapping": b'{"a": {"b": 1}}',
    "true": b"true", "a negative number": b"-7", "a fraction": b"0.5", "beyond float": b"1e999", "NaN": b"NaN",
    "5,000 digits": b"9" * 5000, "30 digits": b"9" * 30, "deep nesting": b"[" * 300 + b"]" * 300,
    "half a surrogate pair": b'"\\ud800"',
}  # fmt: skip
"""JSON that stands where another value belongs."""


def _content(damaged: Callable[[bytes], bytes]) -> Damage:
    return lambda path: _write(path, damaged(path.read_bytes()))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _replaced(make: Callable[[Path], object]) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


WHOLE: Mapping[str, Damage] = {
    "empty": _content(lambda content: b""),
    "cut in half": _content(lambda content: content[: len(content) // 2]),
    "zeros": _content(lambda content: bytes(len(content))),
    "no UTF-8": _content(lambda content: b"\xff\xfe" + content),
    "nested without end": _content(lambda content: DEEP),
    "nested without end in a key": _content(lambda content: b'{"a": ' * 100_000),
    "a number": _content(lambda content: b"7\n"),
    "a list": _content(lambda content: b"[]\n"),
    "no keys": _content(lambda content: b"{}\n"),
    "pipe": _replaced(os.mkfifo),
    "endless device": _replaced(lambda path: path.symlink_to("/dev/zero")),
    "directory": _replaced(Path.mkdir),
    "link to itself": _replaced(lambda path: path.symlink_to(path.name)),
}  # fmt: skip
"""Damage to a file as a whole, by name."""


def bit_flips(content: bytes, count: int, seed: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield `count` copies, each with one flipped bit, evenly spread over the content: (number of the bit, copy)."""
    chosen = random.Random(seed)
    bits = 8 * len(content)
    for n in range(count):
        bit = bits * n // count + chosen.randrange(max(1, bits // count))
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(flipped)


def damaged_keys(content: bytes, levels: int = 2) -> Iterator[tuple[str, bytes]]:
    """Yield copies of a JSON mapping, each with one key dropped or with a wrong value: (what was done, copy).

    Args:
        content: the document.
        levels: how deep keys are looked for.
    """
    document = json.loads(content)
    for place in _places(document, levels):
        name = ".".join(map(str, place))
        yield f"{name} dropped", _encoded(_without(document, place))
        for what, wrong in WRONG_VALUES.items():
            yield f"{name} = {what}", _encoded(_with(document, place, _MARK)).replace(_MARKED, wrong)


_MARK = "here the wrong value is put"
_MARKED = json.dumps(_MARK).encode()
Place = tuple[str | int, ...]


def _places(value: Any, levels: int, above: Place = ()) -> Iterator[Place]:
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*above, key)
        if levels > 1:
            yield from _places(inner, levels - 1, (*above, key))


def _copied(document: Any) -> Any:
    return json.loads(json.dumps(document))


def _without(document: Any, place: Place) -> Any:
    changed = _copied(document)
    del _at(changed, place[:-1])[place[-1]]
    return changed


def _with(document: Any, place: Place, value: Any) -> Any:
    changed = _copied(document)
    _at(changed, place[:-1])[place[-1]] = value
    return changed


def _at(document: Any, place: Place) -> Any:
    for key in place:
        document = document[key]
    return document


def _encoded(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
