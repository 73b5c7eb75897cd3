"""A directory of a machine that shows a path of a datastore: filled once, its changes carried back all the time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

_Seen = tuple[int, int, int]


class Mount:
    """`fill()` once, then `sync()` again and again. A file that is removed or renamed here is so there, too."""

    def __init__(self, container: ContainerClient, path: str, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._container, self._prefix = container, path.strip("/") + "/"
        self._known: dict[str, _Seen] = {}

    def fill(self) -> None:
        """Bring what is in the datastore."""
        for blob in self._container.list_blobs(name_starts_with=self._prefix):
            name = blob.name.removeprefix(self._prefix)
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._container.download_blob(blob.name).readall())
            self._known[name] = _seen(path)

    def sync(self) -> None:
        """Carry back what has changed since the last time: first what is new, then what is gone."""
        present = {}
        # Not rglob: where the job renames a directory while it is looked through, rglob ends with an error.
        for folder, _, files in os.walk(self.directory, onerror=_raise_unless_gone):
            for path in (Path(folder, file) for file in files):
                try:
                    present[path.relative_to(self.directory).as_posix()] = _seen(path)
                except FileNotFoundError:
                    continue  # gone between the two looks
        for name, seen in present.items():
            if self._known.get(name) == seen:
                continue
            try:
                content = (self.directory / name).read_bytes()
            except FileNotFoundError:
                continue
            self._container.upload_blob(self._prefix + name, content, overwrite=True)
            self._known[name] = seen
        for name in [name for name in self._known if name not in present]:
            self._container.delete_blob(self._prefix + name)
            del self._known[name]


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _seen(path: Path) -> _Seen:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino
