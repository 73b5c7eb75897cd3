"""Paths below a directory, as a document or an archive of unknown origin gives them. No torch."""

from __future__ import annotations

import re

LONGEST_PART, LONGEST_PATH = 255, 1000
_DRIVE = re.compile(r"[A-Za-z]:")


def fault_of_inner_path(path: str) -> str | None:
    """Say why a path is not taken; None: it leads to one place below whatever directory it is put in.

    Args:
        path: with `/` between its parts.
    """
    if not path or len(path) > LONGEST_PATH:
        return f"it is empty or longer than {LONGEST_PATH} characters"
    if path.startswith("/") or _DRIVE.match(path):
        return "it is absolute"
    if "\\" in path:
        return "it has a backslash, which is a separator elsewhere"
    if not path.isprintable():
        return "it has control characters"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "it leads elsewhere"
        if part.startswith("."):
            return "a part of it is hidden"
        if len(part.encode("utf-8", "surrogatepass")) > LONGEST_PART:
            return "a part of it is longer than a file's name can be"
    return None
