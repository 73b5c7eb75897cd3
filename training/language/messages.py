"""Texts that people read, in the language that they chose with `--lang`. No torch.

A `Message` is a string: its English text, and so it is what every file of the program gets, whatever the language. Only
a place that shows it to a person (a terminal, a table, a picture) asks for `translated`. The Chinese texts are in one
catalogue, `training/language/chinese.py`, by English template.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import PurePath
from typing import Literal, Self, TextIO

from training.errors import printable

Language = Literal["en", "zh", "both"]
LANGUAGES: tuple[Language, ...] = ("en", "zh", "both")

_chosen: Language | None = None


def choose_language(language: Language | None) -> None:
    """Set the language of this process; None: what is printed is English, and pictures are labelled in both."""
    global _chosen
    _chosen = language


def chosen_language() -> Language | None:
    """Return the language of this process."""
    return _chosen


class Message(str):
    """A text that can be shown in another language, and is English everywhere else.

    Args:
        template: English text with named fields, as `str.format` takes them; without values it is taken as it is.
        values: what the fields are; a Message among them is translated too.

    Example:
        >>> saved = Message("saved {path} (step {step})", path="final_model", step=7)
        >>> saved
        'saved final_model (step 7)'
        >>> saved.chinese
        '已保存 final_model（第 7 步）'
    """

    template: str
    values: dict[str, object]
    _separator: str | None = None

    def __new__(cls, template: str, /, **values: object) -> Self:
        self = super().__new__(cls, template.format(**_printable(values)) if values else template)
        self.template, self.values = template, values
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, object]]:  # for pickle: a rank may send one to another
        return (self.template,), self.values

    @classmethod
    def joined(cls, separator: str, parts: Iterable[str]) -> Self:
        """Return the parts in one text, with a separator of each language: `, `, `; `."""
        values = {f"part{n}": part for n, part in enumerate(parts)}
        self = cls(separator.join(f"{{{name}}}" for name in values), **values)
        self._separator = separator
        return self

    @property
    def chinese(self) -> str:
        """The Chinese text; the English one where the catalogue has none."""
        from training.language.chinese import CHINESE  # read only where somebody asks for it

        values = {name: value.chinese if isinstance(value, Message) else value for name, value in self.values.items()}
        if self._separator is not None:
            return CHINESE.get(self._separator, self._separator).join(map(str, values.values()))
        template = CHINESE.get(self.template, self.template)
        return template.format(**_printable(values)) if values else template


class Marked(str):
    """A line that a terminal shows with colours, and everything else as plain text.

    Args:
        plain: text without control characters of a terminal.
        coloured: the same with colours; whatever came from outside is escaped in it.
    """

    coloured: str

    def __new__(cls, plain: str, coloured: str) -> Self:
        self = super().__new__(cls, plain)
        self.coloured = coloured
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[str, str], dict[str, object]]:
        return (str(self), self.coloured), {}


def _printable(values: dict[str, object]) -> dict[str, object]:
    """Escape the values that may come from outside: names, paths, what a library says."""
    is_foreign = {name for name, value in values.items() if isinstance(value, str | PurePath | Exception)}
    return {
        name: printable(value) if name in is_foreign and not isinstance(value, Message) else value
        for name, value in values.items()
    }


def translated_lines(text: str) -> list[str]:
    """Return a text as it is shown: a line in the chosen language, or for `both` a Chinese line and an English one.

    What came from outside is escaped in each (`printable`).
    """
    if isinstance(text, Marked) and sys.stdout.isatty():
        return [text.coloured]
    if not isinstance(text, Message) or _chosen in (None, "en"):
        return _lines_of(text)
    chinese, english = _lines_of(text.chinese), _lines_of(text)
    return chinese if _chosen == "zh" or chinese == english else [*chinese, *english]


def _lines_of(text: str) -> list[str]:
    return [printable(line) for line in str(text).split("\n")]


def translated(text: str) -> str:
    """Return a word or a heading as it is shown, in one line: for `both` the Chinese text and the English one."""
    return " ".join(translated_lines(text))


def say(text: str, file: TextIO | None = None) -> None:
    """Print a text in the chosen language, at once, as a terminal shows it and does not obey it."""
    print("\n".join(translated_lines(text)), file=file if file is not None else sys.stdout, flush=True)
