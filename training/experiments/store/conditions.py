"""The little language of `--where`: conditions on any setting, figure or column of a run. No torch.

    condition   = all-of ("or" all-of)*
    all-of      = one ("and" one)*
    one         = "not" one | "(" condition ")" | comparison
    comparison  = value (("<" | "<=" | "=" | "!=" | ">=" | ">") value)+      3e-4 <= learning_rate < 1e-3
                | value "~" text                                             part of a text, in any case
                | name ["not"] "in" "(" literal ("," literal)* ")"
                | name "is" ["not"] ("null" | "nan")
                | name                                                       a setting that is true
    value       = name | literal
    literal     = number | 'text' | "text" | true | false

A comparison with a value that is not known, is not a number, or is of another type is false. A condition becomes SQL in
which every value, and every name that is not fixed here, is a parameter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from training.errors import UserError, without_middle
from training.experiments.store.names import Name, Names

LONGEST_CONDITION = 4000
"""Characters."""
DEEPEST_CONDITION = 50
"""Levels of parentheses and of `not`."""
MOST_COMPARISONS = 200
LONGEST_SHOWN = 80
"""Characters of a condition that an error line repeats."""
_COMPARISONS = {"<": "<", "<=": "<=", "=": "=", "==": "=", "!=": "<>", "<>": "<>", ">": ">", ">=": ">="}
"""As they are written, and as SQL writes them."""
_WORDS = frozenset({"and", "or", "not", "in", "is", "null", "nan", "true", "false"})
_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<name>[^\W\d]\w*(?:[./-]\w+)*)
      | (?P<sign><=|>=|==|!=|<>|[<>=~(),])""",
    re.VERBOSE,
)


class Condition(NamedTuple):
    """A condition as SQL with parameters."""

    sql: str
    parameters: tuple[str | float | int, ...] = ()


@dataclass(frozen=True)
class _Token:
    kind: str
    """`number`, `text`, `name`, `word`, `sign` or `end`."""
    text: str
    place: int
    """Character, from 1."""


@dataclass(frozen=True)
class _Literal:
    value: float | str | bool
    token: _Token


_Operand = Name | _Literal


def parse_condition(text: str, names: Names, flag: str = "--where") -> Condition:
    """Return a condition as SQL.

    Args:
        text: what the user wrote.
        names: what names the runs have.
        flag: what gave the text, for the error line.

    Raises:
        UserError: it is no condition, or names something that no run has; says where, and proposes a name.
    """
    if len(text) > LONGEST_CONDITION:
        raise UserError(f"{flag}: a condition has up to {LONGEST_CONDITION:,} characters, got {len(text):,}")
    if text != text.encode("utf-8", "replace").decode():  # SQLite holds no halves of surrogate pairs
        raise UserError(f"{flag} {text!r}: it holds bytes that are no text")
    try:
        return _Parser(text, names).parse()
    except UserError as error:
        raise UserError(f'{flag} "{without_middle(text, LONGEST_SHOWN)}": {error}') from error


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise UserError(f"{_unreadable(text, position)} at character {position + 1}")
        kind = str(match.lastgroup)
        if kind == "name" and match[0].lower() in _WORDS:
            found.append(_Token("word", match[0].lower(), position + 1))
        elif kind != "space":
            found.append(_Token(kind, match[0], position + 1))
        position = match.end()
    return [*found, _Token("end", "the end", len(text) + 1)]


def _unreadable(text: str, position: int) -> str:
    if text[position] in "'\"":
        return "a text without its closing quote"
    return f"{text[position : position + 12].split()[0]!r} is no number, name, text or sign"


class _Parser:
    def __init__(self, text: str, names: Names) -> None:
        self._tokens = _tokens(text)
        self._names = names
        self._next = 0
        self._depth = 0
        self._comparisons = 0

    def parse(self) -> Condition:
        found = self._any_of()
        if self._token.kind != "end":
            raise self._misplaced("and, or, or the end")
        return found

    # -- tokens ----------------------------------------------------------------------------------------------------

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, *texts: str) -> _Token | None:
        """Return the next token, and go on behind it, if it is one of these words or signs."""
        token = self._token
        if token.kind in ("word", "sign") and token.text in texts:
            self._next += 1
            return token
        return None

    def _demand(self, text: str) -> None:
        if self._take(text) is None:
            raise self._misplaced(repr(text))

    def _misplaced(self, expected: str) -> UserError:
        token = self._token
        shown = token.text if token.kind == "end" else repr(token.text)
        return UserError(f"expected {expected} at character {token.place}, got {shown}")

    # -- conditions ------------------------------------------------------------------------------------------------

    def _any_of(self) -> Condition:
        return self._joined("or", self._all_of)

    def _all_of(self) -> Condition:
        return self._joined("and", self._one)

    def _joined(self, word: str, part: Callable[[], Condition]) -> Condition:
        parts = [part()]
        while self._take(word) is not None:
            parts.append(part())
        return _combined(word.upper(), parts)

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > DEEPEST_CONDITION:
            raise UserError(f"more than {DEEPEST_CONDITION} levels deep at character {self._token.place}")
        try:
            if self._take("not") is not None:
                inner = self._one()
                return Condition(f"(NOT {inner.sql})", inner.parameters)
            if self._take("(") is not None:
                inner = self._any_of()
                self._demand(")")
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Condition:
        self._count()
        left = self._value()
        if self._take("is") is not None:
            return self._is(_as_name(left))
        is_negated = self._take("not") is not None
        if self._take("in") is not None:
            found = self._in(_as_name(left))
            return Condition(f"(NOT {found.sql})", found.parameters) if is_negated else found
        if is_negated:
            raise self._misplaced("'in'")
        if self._take("~") is not None:
            return self._contains(_as_name(left))
        if self._token.text not in _COMPARISONS:
            return self._flag(left)
        parts = []
        while (sign := self._take(*_COMPARISONS)) is not None:
            self._count()
            right = self._value()
            parts.append(_compared(left, sign, right))
            left = right
        return _combined("AND", parts)

    def _count(self) -> None:
        self._comparisons += 1
        if self._comparisons > 2 * MOST_COMPARISONS:
            raise UserError(f"more than {MOST_COMPARISONS} comparisons")

    def _value(self) -> _Operand:
        if self._token.kind == "name":
            token = self._token
            self._next += 1
            return self._names.find(token.text, f"at character {token.place}")
        return self._literal()

    def _literal(self) -> _Literal:
        token = self._token
        if token.kind == "number":
            self._next += 1
            return _Literal(float(token.text), token)
        if token.kind == "text":
            self._next += 1
            quote = token.text[0]
            return _Literal(token.text[1:-1].replace(2 * quote, quote), token)
        if token.kind == "word" and token.text in ("true", "false"):
            self._next += 1
            return _Literal(token.text == "true", token)
        raise self._misplaced("a name, a number or a text in quotes")

    def _is(self, name: Name) -> Condition:
        is_negated = self._take("not") is not None
        word = self._take("null", "nan")
        if word is None:
            raise self._misplaced("null or nan")
        if name.kind == "set":
            sql = "NOT EXISTS (SELECT 1 FROM tags WHERE run = runs.id)" if word.text == "null" else "0"
        else:
            sql = name.is_null if word.text == "null" else name.is_nan
        parameters = name.parameters if "?" in sql else ()
        return Condition(f"{'NOT ' if is_negated else ''}IFNULL({sql}, 0)", parameters)

    def _in(self, name: Name) -> Condition:
        self._demand("(")
        literals = [self._literal()]
        while self._take(",") is not None:
            self._count()
            literals.append(self._literal())
        self._demand(")")
        return _combined("OR", [_compared(name, _Token("sign", "=", literals[0].token.place), one) for one in literals])

    def _contains(self, name: Name) -> Condition:
        literal = self._literal()
        if not isinstance(literal.value, str):
            token = literal.token
            raise UserError(f"~ looks for a text in quotes, got {token.text} at character {token.place}")
        if name.kind == "set":
            sql = "EXISTS (SELECT 1 FROM tags WHERE run = runs.id AND instr(folded(tag), folded(?)) > 0)"
            return Condition(sql, (literal.value,))
        return Condition(f"IFNULL(instr(folded({name.sql}), folded(?)) > 0, 0)", (*name.parameters, literal.value))

    def _flag(self, operand: _Operand) -> Condition:
        if isinstance(operand, _Literal) or operand.kind not in ("boolean", "any"):
            raise self._misplaced("a comparison")
        return _compared(operand, _Token("sign", "=", 0), _Literal(True, self._token))


def _as_name(operand: _Operand) -> Name:
    if isinstance(operand, _Literal):
        raise UserError(f"expected a name at character {operand.token.place}, got {operand.token.text}")
    return operand


def _combined(word: str, parts: Sequence[Condition]) -> Condition:
    if len(parts) == 1:
        return parts[0]
    parameters = tuple(value for part in parts for value in part.parameters)
    return Condition(f"({f' {word} '.join(part.sql for part in parts)})", parameters)


# -- comparisons ---------------------------------------------------------------------------------------------------

_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "<>": "<>"}
_IS_NUMBER = "typeof({}) IN ('integer', 'real')"
_IS_TEXT = "typeof({}) = 'text'"


def _compared(left: _Operand, sign: _Token, right: _Operand) -> Condition:
    """Return a comparison, which is false where a value is not known: in SQL it would be neither true nor false."""
    operator = _COMPARISONS[sign.text]
    if isinstance(left, _Literal):
        if isinstance(right, _Literal):
            raise UserError(f"{left.token.text} {sign.text} {right.token.text} compares no name of a run")
        left, right, operator = right, left, _MIRRORED[operator]
    if isinstance(right, _Literal):
        return _compared_with_literal(left, operator, right)
    if "set" in (left.kind, right.kind):
        raise UserError("tag is compared with texts only: tag = 'baseline'")
    a, b = left.sql, right.sql
    both_numbers = f"({_IS_NUMBER.format(a)} AND {_IS_NUMBER.format(b)})"
    both_texts = f"({_IS_TEXT.format(a)} AND {_IS_TEXT.format(b)})"
    pair = (*left.parameters, *right.parameters)
    return Condition(f"IFNULL(({both_numbers} OR {both_texts}) AND {a} {operator} {b}, 0)", 3 * pair)


def _compared_with_literal(name: Name, operator: str, literal: _Literal) -> Condition:
    value, token = literal.value, literal.token
    if name.kind == "set":
        return _tag(operator, literal)
    if name.kind == "time" and isinstance(value, str):
        value = _time(value, token)
    wanted = "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
    kind = "number" if name.kind == "time" else name.kind
    if kind not in ("any", wanted):
        raise UserError(f"{name.text} is a {kind}, and {token.text} at character {token.place} is a {wanted}")
    compared = f"{name.sql} {operator} ?"
    if kind != "any":
        return Condition(f"IFNULL({compared}, 0)", (*name.parameters, value))
    guard = {
        "number": _IS_NUMBER.format(name.sql),
        "text": _IS_TEXT.format(name.sql),
        "boolean": name.is_boolean,
    }[wanted]
    return Condition(f"IFNULL({guard} AND {compared}, 0)", (*name.parameters, *name.parameters, value))


def _tag(operator: str, literal: _Literal) -> Condition:
    if operator not in ("=", "<>") or not isinstance(literal.value, str):
        raise UserError(f"tag is compared by = or != with a text, got {literal.token.text}")
    exists = "EXISTS (SELECT 1 FROM tags WHERE run = runs.id AND tag = ?)"
    return Condition(exists if operator == "=" else f"NOT {exists}", (literal.value,))


def _time(text: str, token: _Token) -> float:
    """Return the Unix seconds of a date, with or without the time of day, in local time."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise UserError(f"{token.text} at character {token.place} is no time such as '2026-11-30 14:05'") from error
