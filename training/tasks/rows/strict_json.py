"""JSON of a row, parsed strictly: what `json` takes silently and no training should is refused with its place."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from training.errors import DataError

_MAY_BE_HALF = re.compile(
    r"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F]"
    r"|(?<=\\\\u[dD]))"
)
"""An escaped half of a surrogate pair without the other; or an escaped backslash, which hides what it precedes."""
_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", int: "a number", float: "a number"}


class _Fault(NamedTuple):
    """Stands in a parsed value for what is refused there."""

    words: str
    """Fault, and what to do about it."""


class StrictDecoder:
    """Decoder of JSON that refuses NaN and Infinity, numbers that no float holds, repeated keys and half characters.

    `raw_decode` is that of `json.JSONDecoder`, so that a text can be decoded again when more of it is there; what it
    returned is good once `check` lets it pass.
    """

    def __init__(self) -> None:
        self._faults: list[_Fault] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._unrepeated, parse_constant=self._constant, parse_float=self._number
        )

    def raw_decode(self, text: str, at: int = 0) -> tuple[Any, int]:
        """Return the value that begins at `at`, and where it ends.

        Raises:
            JSONDecodeError: there is no whole value.
            ValueError: an integer has thousands of digits.
            RecursionError: the nesting is too deep.
        """
        self._faults.clear()
        return self._decoder.raw_decode(text, at)

    def decode(self, text: str, place: Callable[[], str]) -> Any:
        """Return the one value of a text, checked.

        Args:
            text: JSON, perhaps amid white space.
            place: makes the beginning of an error.

        Raises:
            JSONDecodeError: it is no JSON.
            DataError: it is refused.
        """
        self._faults.clear()
        try:
            value = self._decoder.decode(text)
        except json.JSONDecodeError:
            raise
        except (RecursionError, ValueError) as error:
            raise DataError(f"{place()}: {words_of(error)}") from error
        self.check(value, text, place)
        return value

    def check(self, value: object, text: str, place: Callable[[], str]) -> None:
        """Refuse a value that was decoded last, or let it pass.

        Args:
            value: value from `raw_decode`.
            text: JSON of it.
            place: makes the beginning of an error.

        Raises:
            DataError: names the key, what is wrong, and what to do.
        """
        if self._faults:
            found = next(f"{at}{one.words}" for at, one in _walk(value) if isinstance(one, _Fault))
            raise DataError(f"{place()}: {found}")
        # The plain searches decide for most texts, and take next to no time beside the expression.
        if ("\\ud" in text or "\\uD" in text) and _MAY_BE_HALF.search(text):
            for at, one in _walk(value):
                if isinstance(one, str) and any("\ud800" <= c <= "\udfff" for c in one):
                    raise DataError(f"{place()}: {at}holds half of a surrogate pair, which is no character; repair it")

    def _fault(self, words: str) -> Any:
        self._faults.append(_Fault(words))
        return self._faults[-1]

    def _unrepeated(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) != len(pairs):
            names = [key for key, _ in pairs]
            twice = next(key for key in names if names.count(key) > 1)
            built[twice] = self._fault("is given twice in one object; its first value would be lost; take one out")
        return built

    def _constant(self, name: str) -> Any:
        return self._fault(f"is {name}, which is no JSON; write null or a number")

    def _number(self, digits: str) -> Any:
        number = float(digits)
        return self._fault(f"is {digits}, which no float holds; write a text") if math.isinf(number) else number


def kind(value: object) -> str:
    """Name the kind of a value: `a list`, `null`."""
    return _KINDS.get(type(value), "null" if value is None else f"a {type(value).__name__}")


def words_of(error: Exception) -> str:
    """Return the end of an error about a `RecursionError` or about an integer of thousands of digits."""
    if isinstance(error, RecursionError):
        return "JSON nested too deeply for a row of training data; take the nesting out"
    return "a number is too long to read; write it as a text"


def row_of(value: object, place: Callable[[], str]) -> Mapping[str, Any]:
    """Return the row that a JSON value is.

    Raises:
        DataError: it is no object.
    """
    if isinstance(value, dict):
        return value
    raise DataError(f'{place()}: a row is an object such as {{"text": "…"}}, this is {kind(value)}; repair the row')


def _walk(value: object) -> list[tuple[str, object]]:
    """Return (place, what is there) of a value and of all in it, keys included: `'messages[2].content' `, in order."""
    found: list[tuple[str, object]] = []
    waiting: list[tuple[str, object]] = [("", value)]
    while waiting:
        place, one = waiting.pop()
        found.append((f"{place!r} " if place else "", one))
        if type(one) is dict:
            found += [(f"key {key!r} ", key) for key in one]
            waiting += [(f"{place}.{key}" if place else key, inner) for key, inner in reversed(one.items())]
        elif type(one) is list:
            waiting += [(f"{place}[{at}]", one[at]) for at in reversed(range(len(one)))]
    return found
