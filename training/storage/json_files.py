"""JSON files of this project, read back as if a stranger had written them. No torch.

A damaged disk, an editor, a copy that broke off or another version may have left anything under a file's name: half a
document, a text where a number belongs, a number that no float holds, brackets without end, a pipe that never answers.
Every reader opens a regular file of bounded size here. What must be in it is declared by a dataclass, whose fields
are the keys with their types.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from training.errors import UserError, printable

LARGEST_BYTES = 256 * 2**20
"""Largest size of a file that is read at once. The largest one here, a state with a tokenizer, has a tenth of it."""
DEEPEST = 100
"""Levels of nesting that are read. Python itself gives up at some hundred, at another place in every reader."""
LONGEST_VALUE = 60
"""Characters of a wrong value that are shown."""

LARGEST_INTEGER = 2**63

T = TypeVar("T")


class DamagedFileError(UserError):
    """A file is there and can be read, but holds something else than what belongs in it.

    Args:
        where: the file, or the place in it.
        reason: what is wrong with its content.
    """

    def __init__(self, where: object, reason: object) -> None:
        super().__init__(f"{where}: damaged, {reason}")
        self.reason = printable(reason)


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read its bytes, if it is one: opening a pipe would wait, and a device may never end.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    file = os.fdopen(descriptor, "rb", closefd=True) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    if file is None:
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def read_bytes(path: Path, largest: int = LARGEST_BYTES) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: it cannot be read, or is no regular file.
        DamagedFileError: it is larger than `largest`.
    """
    with open_regular(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise DamagedFileError(path, f"it has more than the {largest:,} bytes that are read of such a file")
    return content


def read_json(path: Path) -> Any:
    """Return the document in a JSON file.

    Raises:
        OSError: the file cannot be read, or is no regular file.
        DamagedFileError: it is no JSON, or holds numbers or nesting without bounds; the message says where.
    """
    try:
        return parse_json(read_bytes(path))
    except ValueError as error:
        raise DamagedFileError(path, error) from error


def read_as(path: Path, declared: type[T]) -> T:
    """Return the content of a JSON file as a dataclass.

    Raises:
        OSError: the file cannot be read, or is no regular file.
        DamagedFileError: it is no JSON, or does not fit; names the key.
    """
    return as_declared(read_json(path), declared, path)


def as_declared(document: object, declared: type[T], where: object) -> T:
    """Return plain data as a dataclass, if it fits the types of its fields. Further keys are ignored.

    A text is no number and `true` is none; a whole number has at most 63 bits.

    Args:
        document: as it was read.
        declared: the dataclass; its fields may be plain types, mappings, sequences, unions and further dataclasses.
        where: begins the error line: the file.

    Raises:
        DamagedFileError: it does not fit; names the key.
    """
    try:
        found: T = _fitting(document, declared, "")
    except _MisfitError as error:
        raise DamagedFileError(where, error) from error
    return found


def parse_json(text: bytes | str, lenient: bool = False) -> Any:
    """Read JSON of unknown origin.

    Args:
        text: the document; bytes are UTF-8.
        lenient: NaN and Infinity, which are not JSON, are read as None.

    Raises:
        ValueError: it is none, or holds numbers or nesting without bounds; says where.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8", "surrogatepass").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8 text (byte {error.start})") from error
    try:
        document = (_LENIENT if lenient else _STRICT).decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON at line {error.lineno}, column {error.colno} ({error.msg})") from error
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    except _NumberError:
        raise
    except ValueError as error:  # Python's own, with advice for programmers
        raise ValueError("a number of several thousand digits") from error
    if text.count("[") + text.count("{") > DEEPEST and _is_deep(document):
        raise ValueError(_TOO_DEEP)
    return document


class _MisfitError(Exception):
    pass


_NAMES: Mapping[Any, str] = {
    int: "a whole number", float: "a number", str: "a text", bool: "true or false", types.NoneType: "null",
    dict: "a mapping", list: "a list",
}  # fmt: skip


def _fitting(value: Any, declared: Any, key: str) -> Any:
    origin, arguments = get_origin(declared), get_args(declared)
    if declared in (Any, object):
        return value
    if is_dataclass(declared):
        return _dataclass(_of_type(value, dict, key), declared, key)
    if origin in (Union, types.UnionType):
        return _one_of(value, arguments, key)
    if origin is Literal:
        if value not in arguments:
            raise _misfit(value, key, f"one of {', '.join(map(repr, arguments))}")
        return value
    if origin is not None and issubclass(origin, Mapping):
        inner = arguments[1]
        return {name: _fitting(v, inner, _inner(key, name)) for name, v in _of_type(value, dict, key).items()}
    if origin is tuple and arguments[-1] is not ...:
        items = _of_type(value, list, key)
        if len(items) != len(arguments):
            raise _misfit(value, key, f"a list of {len(arguments)}")
        return tuple(_fitting(v, a, _inner(key, n)) for n, (v, a) in enumerate(zip(items, arguments, strict=True)))
    if origin is not None and issubclass(origin, Sequence):
        found = [_fitting(v, arguments[0], _inner(key, n)) for n, v in enumerate(_of_type(value, list, key))]
        return tuple(found) if origin is tuple else found
    if declared is float and type(value) is int and abs(value) < LARGEST_INTEGER:
        return float(value)
    return _of_type(value, types.NoneType if declared is None else declared, key)


def _of_type(value: Any, kind: Any, key: str) -> Any:
    if type(value) is not kind or (kind is int and abs(value) >= LARGEST_INTEGER):
        raise _misfit(value, key, _NAMES[kind])
    return value


def _one_of(value: Any, arguments: Sequence[Any], key: str) -> Any:
    if value is None and types.NoneType in arguments:
        return None
    others = [argument for argument in arguments if argument is not types.NoneType]
    for argument in others[:-1]:
        try:
            return _fitting(value, argument, key)
        except _MisfitError:
            continue
    return _fitting(value, others[-1], key)


def _dataclass(document: dict[str, Any], declared: Any, key: str) -> Any:
    values = {}
    for name, kind, is_required in _declared_fields(declared):
        if name in document:
            values[name] = _fitting(document[name], kind, _inner(key, name))
        elif is_required:
            raise _MisfitError(f"{_inner(key, name)!r} is missing")
    return declared(**values)


@cache
def _declared_fields(declared: Any) -> tuple[tuple[str, Any, bool], ...]:
    hints = get_type_hints(declared)
    return tuple(
        (f.name, hints[f.name], f.default is MISSING and f.default_factory is MISSING)
        for f in fields(declared)
        if f.init
    )


def _inner(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


def _misfit(value: Any, key: str, wanted: str) -> _MisfitError:
    shown = repr(value) if len(str(value)) <= LONGEST_VALUE else f"{str(value)[:LONGEST_VALUE]!r}…"
    return _MisfitError(f"{f'{key} = ' if key else ''}{shown} should be {wanted}")


_TOO_DEEP = f"nested more than {DEEPEST} levels deep"


def _is_deep(document: Any) -> bool:
    level = [document]
    for _ in range(DEEPEST):
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


class _NumberError(ValueError):
    pass


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _NumberError(f"a number that no float holds ({text[:20]})")
    return number


def _refuse(word: str) -> None:
    raise _NumberError(f"{word}, which is not JSON")


def _none(word: str) -> None:
    return None


_STRICT = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse)
_LENIENT = json.JSONDecoder(parse_float=_finite, parse_constant=_none)
