"""What the log of a run tells of its past and the bounded report does not: each clipped and each skipped update."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from training.record.reporter import LOG_NAME, Event, parse_event

_STEP = re.compile(rb'"step": (\d+)')


@dataclass
class Past:
    """Read in one pass over the log, when a run is told anew."""

    clipped: list[int] = field(default_factory=list)
    """Updates whose gradient was clipped, in order."""
    skipped: list[int] = field(default_factory=list)
    """Updates that were left out because loss or gradient was not finite."""
    open_epoch: list[Event] = field(default_factory=list)
    """The updates of the epoch that is going on; empty: of no log, or of a run whose epochs are over."""

    def rewind(self, step: int) -> None:
        """A resumed run does again what lies after `step`."""
        self.clipped = [s for s in self.clipped if s <= step]
        self.skipped = [s for s in self.skipped if s <= step]
        self.open_epoch = [e for e in self.open_epoch if e["step"] <= step]


def read_past(run_dir: Path, open_epoch: int | None) -> Past:
    """The past of a run; empty where its log was taken away.

    Of most lines only a few bytes are looked at: a million updates take about a second.

    Args:
        run_dir: where the log is.
        open_epoch: whose updates are wanted.
    """
    past = Past()
    of_epoch = b'"epoch": %d,' % open_epoch if open_epoch is not None else None
    try:
        with (run_dir / LOG_NAME).open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    _take(past, line, of_epoch)
    except FileNotFoundError:
        return Past()
    return past


def _take(past: Past, line: bytes, of_epoch: bytes | None) -> None:
    found = _STEP.search(line, 0, 200)
    if line.startswith(b'{"event": "step"') and found is not None:
        if b'"clipped": true' in line:
            past.clipped.append(int(found[1]))
        if b'"skipped": true' in line:
            past.skipped.append(int(found[1]))
        if of_epoch is not None and of_epoch in line and (event := parse_event(line)) is not None:
            past.open_epoch.append(event)
    elif line.startswith(b'{"event": "run_started"'):
        past.rewind(0)
    elif line.startswith(b'{"event": "run_resumed"') and found is not None:
        past.rewind(int(found[1]))
