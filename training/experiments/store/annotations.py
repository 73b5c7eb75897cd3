"""Tags and note that a person has given to a run, and its mark as archived. No torch.

They follow from no record, so they lie in the run directory itself, in `annotations.json`; the index repeats them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from training.errors import UserError
from training.storage.atomic import write_atomically
from training.storage.json_files import DamagedFileError, as_declared, read_json
from training.storage.run_files import RunFile

ANNOTATIONS_NAME = "annotations.json"
RUN_FILES = (RunFile(ANNOTATIONS_NAME),)
FORMAT = "apt-annotations"
VERSION = 1
MOST_TAGS = 50
LONGEST_TAG = 64
LONGEST_NOTE = 10_000


@dataclass(frozen=True)
class Annotations:
    """What a person says of a run."""

    tags: tuple[str, ...] = ()
    """In order of the alphabet, each once."""
    note: str = ""
    archived: bool = False
    """Whether the run is left out of lists that do not ask for it."""


def read_annotations(run_dir: Path) -> Annotations:
    """Return the annotations of a run; without a file there are none.

    Raises:
        UserError: the file holds something else.
        OSError: it cannot be read.
    """
    path = run_dir / ANNOTATIONS_NAME
    try:
        document = read_json(path)
    except FileNotFoundError:
        return Annotations()
    if not isinstance(document, dict) or document.get("format") != FORMAT or document.get("version") != VERSION:
        raise DamagedFileError(path, f"it is no {FORMAT} of version {VERSION}")
    found = as_declared(document, Annotations, path)
    return Annotations(checked_tags(found.tags), checked_note(found.note), found.archived)


def write_annotations(run_dir: Path, annotations: Annotations) -> None:
    """Replace the annotations of a run.

    Raises:
        UserError: the run directory cannot be written to.
    """
    document = {"format": FORMAT, "version": VERSION, **asdict(annotations)}
    path = run_dir / ANNOTATIONS_NAME
    try:
        write_atomically(path, f"{json.dumps(document, indent=1)}\n".encode(), durable=True)
    except OSError as error:
        raise UserError(f"{path}: it cannot be written ({error.strerror})") from error


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags as they are kept: without space around them, each once, in order.

    Raises:
        UserError: a tag is empty, too long, or holds a comma or control characters, or there are too many.
    """
    found = sorted({tag.strip() for tag in tags})
    for tag in found:
        if not tag or len(tag) > LONGEST_TAG or not tag.isprintable() or "," in tag:
            raise UserError(
                f"tag {tag[: 2 * LONGEST_TAG]!r}: a tag has 1 to {LONGEST_TAG} characters, no comma and no control "
                "characters"
            )
    if len(found) > MOST_TAGS:
        raise UserError(f"a run takes up to {MOST_TAGS} tags, got {len(found)}")
    return tuple(found)


def checked_note(note: str) -> str:
    """Return a note as it is kept.

    Raises:
        UserError: it is too long.
    """
    if len(note) > LONGEST_NOTE:
        raise UserError(f"a note has up to {LONGEST_NOTE:,} characters, got {len(note):,}")
    return note
