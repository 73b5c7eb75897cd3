"""Formats of files that users give by mistake, recognised by how they begin, and where each is of use. No torch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from training.storage.json_files import open_regular

HEAD = 1 << 16
"""Bytes at the beginning of a file that decide."""
_HEADING = re.compile(r"\[[A-Za-z_][\w.\- ]*\]")
_YAML_LINE = re.compile(r"(- )?[A-Za-z_][\w.\-]*:(\s|$)")


class FileFormat(NamedTuple):
    """A format, as users know it."""

    name: str
    advice: str = ""
    """What takes such a file, or what makes another one of it; empty: nothing of this project."""

    def __str__(self) -> str:
        return f"this is {self.name}{f' ({self.advice})' if self.advice else ''}"


_CONVERT = "convert it, or give the file that it was made from"
_UNPACK = "unpack it first"
JSON, JSON_LINES = FileFormat("JSON"), FileFormat("JSON Lines, one document a line", _CONVERT)
YAML = FileFormat("YAML", "--config takes such a file")
TEXT = FileFormat("plain text")
ZEROS = FileFormat("a file of zero bytes, as a broken copy or a full disk leaves it", "fetch it again")
_BEGINNINGS: tuple[tuple[bytes, FileFormat], ...] = (
    (b"PAR1", FileFormat("Parquet", _CONVERT)),
    (b"ARROW1", FileFormat("Arrow", _CONVERT)),
    (b"\x1f\x8b", FileFormat("a gzip archive", _UNPACK)),
    (b"BZh", FileFormat("a bzip2 archive", _UNPACK)),
    (b"\xfd7zXZ", FileFormat("an xz archive", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", FileFormat("a zstd archive", _UNPACK)),
    (b"PK\x03\x04", FileFormat("a ZIP archive, as .xlsx, .npz and PyTorch's .pt are", "--resume takes a checkpoint")),
    (b"GGUF", FileFormat("GGUF, a model")),
    (b"\x89HDF", FileFormat("HDF5", _CONVERT)),
    (b"\x93NUMPY", FileFormat("a NumPy array", _CONVERT)),
    (b"SQLite format 3", FileFormat("a SQLite database", _CONVERT)),
    (b"%PDF", FileFormat("a PDF document")),
    (b"\x89PNG", FileFormat("a picture (PNG)")),
    (b"\xff\xd8\xff", FileFormat("a picture (JPEG)")),
    (b"\xff\xfe", FileFormat("text in UTF-16", "save it as UTF-8")),
    (b"\xfe\xff", FileFormat("text in UTF-16", "save it as UTF-8")),
    (b"version https://git-lfs", FileFormat("a pointer of Git LFS", "run `git lfs pull` for the file itself")),
)


def format_of(path: Path) -> FileFormat | None:
    """Return the format of a file, by its first bytes; None: it is unknown, or cannot be read.

    Example:
        >>> format_of(Path("rows.csv")).name
        'CSV'
    """
    try:
        with open_regular(path) as file:
            return recognised(file.read(HEAD))
    except OSError:
        return None


def recognised(head: bytes) -> FileFormat | None:
    """Return the format of a file that begins with these bytes; None: it is unknown."""
    for beginning, found in _BEGINNINGS:
        if head.startswith(beginning):
            return found
    if head and not head.strip(b"\0"):
        return ZEROS
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return FileFormat("a pickle of Python, which no one should load from a stranger")
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") < 1 << 30:
        return FileFormat("safetensors, a model's weights", "--resume takes a checkpoint, the tools a run directory")
    if b"\0" in head:
        return None
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(head) < HEAD or error.start < len(head) - 4:  # not a character that was cut in two
            return None
        text = head[: error.start].decode("utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip()]
    return _of_text(lines) if lines else None


def _of_text(lines: list[str]) -> FileFormat | None:
    first, second = lines[0].strip(), lines[1].strip() if len(lines) > 1 else ""
    if re.match(r"<(!doctype )?html", first, re.IGNORECASE):
        return FileFormat("an HTML page, as a login or error page in the place of a download is", "fetch it again")
    if first.startswith("<"):
        return FileFormat("XML", _CONVERT)
    is_heading = _HEADING.fullmatch(first) is not None
    if first[0] in "{[" and not is_heading:
        return JSON_LINES if second[:1] in ("{", "[") and _is_json(first) else JSON
    if is_heading:
        return FileFormat("INI or TOML", "--config takes YAML")
    content = [line for line in lines if not line.lstrip().startswith("#")]
    if first.startswith(("---", "%YAML")) or (content and _YAML_LINE.match(content[0])):
        return YAML
    for separator, name in (("\t", "a table with tabs (TSV)"), (",", "CSV"), (";", "CSV")):
        if first.count(separator) and first.count(separator) == second.count(separator):
            return FileFormat(name, _CONVERT)
    return TEXT


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
