"""When a run was at work: spans of time without a long silence, from a bounded number of samples of its log."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator
from pathlib import Path

from tools.runs.trace import number
from training.record.reporter import LOG_NAME, parse_event

SAMPLES = 200
"""Places of the log that are looked at, evenly spaced: a log of any length costs the same."""
BLOCK_BYTES = 4096
PAUSE_SECONDS = 60.0
PAUSE_GAPS = 5.0
"""A silence is a pause if it is longer than a minute and than five usual gaps between two samples."""

Span = tuple[float, float]
"""Unix seconds."""


def spans(run_dir: Path) -> list[Span]:
    """The spans in which the run's events lie, oldest first; none where the log cannot be read."""
    try:
        times = sorted(_sampled_times(run_dir / LOG_NAME))
    except OSError:
        return []
    if not times:
        return []
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    pause = max(PAUSE_SECONDS, PAUSE_GAPS * statistics.median(gaps)) if gaps else PAUSE_SECONDS
    found, start = [], times[0]
    for n, gap in enumerate(gaps):
        if gap > pause:
            found.append((start, times[n]))
            start = times[n + 1]
    return [*found, (start, times[-1])]


def _sampled_times(log: Path) -> Iterator[float]:
    with log.open("rb") as file:
        size = log.stat().st_size
        if size <= SAMPLES * BLOCK_BYTES:
            yield from _times(file.read().splitlines())
            return
        for n in range(SAMPLES):
            file.seek((size - BLOCK_BYTES) * n // (SAMPLES - 1))
            # The first and the last line may be torn; what is left of them is no event.
            yield from _times(file.read(BLOCK_BYTES).splitlines())


def _times(lines: list[bytes]) -> Iterator[float]:
    for line in lines:
        event = parse_event(line)
        time = number(event.get("time")) if event is not None else None
        if time is not None:
            yield time
