"""All runs below some directories, found and followed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tools.runs.summary import RunSummary, WatchedRun
from training.checkpoints.run_search import find_runs
from training.record.alerts import Alert
from training.record.log import LOG_NAME, REPORT_NAME

SEARCH_EVERY = 10.0
"""Seconds between two searches for new runs: a walk over a large tree on a network disk is not free."""


class Fleet:
    """Follows every run below the given directories; runs may come and go.

    Args:
        roots: directories that are there now.
        stalled_after: seconds of silence after which a run counts as stalled; None: by its own pace.
    """

    def __init__(self, roots: Sequence[Path], stalled_after: float | None = None) -> None:
        self.roots = list(roots)
        self.runs: dict[Path, WatchedRun] = {}
        self.unreadable: list[str] = []
        """Directories that could not be searched, and why."""
        self._stalled_after = stalled_after
        self._searched_at: float | None = None
        self._first_seen: dict[tuple[Path, str | None, str], float] = {}

    def look(self, now: float) -> list[RunSummary]:
        """Read what is new; return the runs in order of path. A run whose record was deleted is left out."""
        if self._searched_at is None or not 0.0 <= now - self._searched_at < SEARCH_EVERY:
            self._search()
            self._searched_at = now
        for path, run in list(self.runs.items()):
            try:
                run.look(now)
            except FileNotFoundError:
                del self.runs[path]
        return [run.summary(now) for _, run in sorted(self.runs.items())]

    @property
    def bytes_read(self) -> int:
        """Bytes read of the records of the runs that are there."""
        return sum(run.follower.bytes_read for run in self.runs.values())

    def alerts(self, runs: Sequence[RunSummary], now: float) -> list[tuple[RunSummary, Alert]]:
        """Return each alert of each run once: those that were noticed last come first, and the graver of them."""
        found = []
        for run in runs:
            for alert in run.alerts:
                since = self._first_seen.setdefault((run.path, run.run_id, alert.kind), now)
                found.append((-since, list(type(alert.kind)).index(alert.kind), run, alert))
        found.sort(key=lambda item: item[:2])
        return [(run, alert) for _, _, run, alert in found]

    def _search(self) -> None:
        faults: list[OSError] = []
        for root in self.roots:
            for path in find_runs([root], faults):
                try:
                    is_new = path not in self.runs and any((path / name).exists() for name in (LOG_NAME, REPORT_NAME))
                except OSError as error:  # a network disk that is away for a moment; the next search asks again
                    faults.append(error)
                    continue
                if is_new:
                    self.runs[path] = WatchedRun(path, self._name(root, path), self._stalled_after)
        self.unreadable = [f"{error.filename}: it cannot be searched ({error.strerror})" for error in faults]

    def _name(self, root: Path, path: Path) -> str:
        """Return the path below its root; with the root where several are watched."""
        if path == root:
            return path.resolve().name or str(path)
        return str(path if len(self.roots) > 1 else path.relative_to(root))
