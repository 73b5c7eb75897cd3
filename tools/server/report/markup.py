"""HTML by construction: whatever is not made here is text, and is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable

from training.errors import printable_text

VOID = frozenset({"meta", "br", "hr", "img"})
"""Elements without an end."""


class Markup(str):
    """Text that is HTML already. Only this module and a style sheet of our own make it."""


def escaped(text: object) -> Markup:
    """Return a text of unknown origin as HTML.

    Control characters, marks that turn the direction of writing and halves of surrogate pairs are shown, not obeyed.
    """
    return text if isinstance(text, Markup) else Markup(html.escape(printable_text(str(text)), quote=True))


def joined(parts: object) -> Markup:
    """Return contents one after the other: markup as it is, text escaped, None left out."""
    if parts is None:
        return Markup()
    if isinstance(parts, str) or not isinstance(parts, Iterable):
        return escaped(parts)
    return Markup("".join(map(joined, parts)))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return an element.

    Args:
        name: of the element.
        children: markup, texts, None, or iterables of them.
        attributes: an underscore stands for a hyphen, `class_` for `class`; None and False leave one out.

    Example:
        >>> tag("p", "a < b", class_="note")
        '<p class="note">a &lt; b</p>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{given}>" if name in VOID else f"<{name}{given}>{joined(children)}</{name}>")
