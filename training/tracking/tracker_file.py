"""`trackers.json`: what each tracker calls the run, so that a resumed run goes on in the same place.

It holds no token, no key and no address.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from training.storage.atomic import write_atomically
from training.storage.json_files import DamagedFileError, read_json
from training.storage.run_files import RunFile
from training.tracking.tracker import RunStart

TRACKERS_NAME = "trackers.json"
RUN_FILES = (RunFile(TRACKERS_NAME),)


class TrackerFile:
    """The file of one run directory; each tracker has its own entry and its own thread.

    Args:
        run_dir: directory of the file; it exists once the first event comes.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / TRACKERS_NAME
        self._lock = threading.Lock()

    def recall(self, tracker: str, run: RunStart) -> dict[str, Any]:
        """Return what was kept of an earlier part of this run; empty for a new run, or if the curve is another's.

        Raises:
            ValueError: the file is damaged.
        """
        if not run.is_resumed:
            return {}
        with self._lock:
            entry = self._read().get(tracker, {})
        return entry if entry.get("curve_hash") == run.facts.get("curve_hash") else {}

    def keep(self, tracker: str, run: RunStart, /, **values: Any) -> None:
        """Replace a tracker's entry."""
        with self._lock:
            # A new run starts a new file: entries of the run before it would mislead.
            entries = {
                name: entry
                for name, entry in (self._read() if self.path.exists() else {}).items()
                if run.is_resumed or entry.get("run_id") == run.run_id
            }
            entries[tracker] = {"run_id": run.run_id, "curve_hash": run.facts.get("curve_hash"), **values}
            write_atomically(self.path, (json.dumps(entries, indent=1) + "\n").encode(), durable=False)

    def _read(self) -> dict[str, dict[str, Any]]:
        if not self.path.exists():
            return {}
        try:
            entries = read_json(self.path)
        except DamagedFileError as error:
            raise ValueError(f"{error}; delete it, and the run appears there as a new one") from error
        if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
            raise ValueError(f"{self.path} is damaged; delete it, and the run appears there as a new one")
        return entries
