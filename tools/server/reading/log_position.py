"""Places in a run's log, as clients name them: `<generation>-<byte offset>`. No torch.

The generation is a short hash of the log's first line, which names the run and its start to the millisecond: a log that
was overwritten by another run has another one. The offset stands behind a whole line, the last one that a client has
seen.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import IO, Self

from training.record.log import LONGEST_LINE

NO_LOG = "0" * 12
"""Generation of a log that is not there yet, or has no whole line."""
_POSITION = re.compile(r"([0-9a-f]{12})-(0|[1-9][0-9]{0,17})")


@dataclass(frozen=True)
class LogPosition:
    """A place in a log."""

    generation: str
    offset: int
    """Bytes before it."""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the position that a text names; None: it names none."""
        found = _POSITION.fullmatch(text)
        return cls(found[1], int(found[2])) if found else None

    def __str__(self) -> str:
        return f"{self.generation}-{self.offset}"


START = LogPosition(NO_LOG, 0)
"""The place of a client that has seen nothing."""


def generation_of(file: IO[bytes]) -> str:
    """Return the generation of an open log, by its first line."""
    file.seek(0)
    line = file.readline(LONGEST_LINE)
    if not line.endswith(b"\n") and len(line) < LONGEST_LINE:
        return NO_LOG
    return hashlib.sha256(line).hexdigest()[:12]


def is_behind_line(file: IO[bytes], offset: int) -> bool:
    """Return whether a whole line of an open log ends just before an offset."""
    if offset == 0:
        return True
    file.seek(offset - 1)
    return file.read(1) == b"\n"
