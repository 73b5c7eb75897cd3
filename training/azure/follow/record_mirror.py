"""Copy of a job's progress record, kept the same as in its datastore, byte for byte.

A look asks only for what changed: the report by its ETag, the log from the end of the copy. The bytes before that place
are asked for again and compared, so a log that was cut or started again is noticed and replaced as a whole, also by
another process that continues the copy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.record.reporter import LOG_NAME, REPORT_NAME
from training.storage.atomic import replacing, write_atomically

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, ContainerClient, StorageStreamDownloader

MARK_BYTES = 64
"""Number of bytes at the copy's end that are compared with the log."""


class RecordMirror:
    """Mirrors `experiment_report.json` and `progress.jsonl` of a run directory in a datastore into one here.

    One process at a time mirrors into a directory: the caller holds it.

    Args:
        path: the job's run directory within the datastore, such as `apt-runs/JOB`.
        run_dir: the copy's directory, which exists.
    """

    def __init__(self, path: str, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.bytes_read = 0
        """Bytes of both files that came over the network."""
        self._path = path.rstrip("/")
        self._report_etag: str | None = None
        self._log_etag: str | None = None

    def look(self, container: ContainerClient) -> bool:
        """Copy what is new; return True if there was anything. A file that does not exist (yet) is skipped.

        Args:
            container: of the datastore; it may be another object after access was renewed.

        Raises:
            azure.core.exceptions.AzureError: the storage or the way to it refuses; the copy is as usable as before.
            OSError: the disk here refuses.
        """
        # Read before the log and written after it: readers expect to find the report's last event in the log.
        report = self._new_report(container.get_blob_client(f"{self._path}/{REPORT_NAME}"))
        grown = self._copy_log(container.get_blob_client(f"{self._path}/{LOG_NAME}"))
        if report is not None:
            write_atomically(self.run_dir / REPORT_NAME, report[1], durable=False)
            self._report_etag = report[0]
        return grown or report is not None

    def _new_report(self, blob: BlobClient) -> tuple[str, bytes] | None:
        stream = _changed(blob, self._report_etag if (self.run_dir / REPORT_NAME).exists() else None)
        if stream is None:
            return None
        content = stream.readall()
        self.bytes_read += len(content)
        return str(stream.properties.etag), content

    def _copy_log(self, blob: BlobClient) -> bool:
        from azure.core.exceptions import HttpResponseError, ResourceModifiedError

        copy = self.run_dir / LOG_NAME
        size, mark = _end_of(copy)
        try:
            if size > 0:
                try:
                    stream = _changed(blob, self._log_etag, offset=size - len(mark))
                except HttpResponseError as error:
                    if error.status_code != 416:  # it ends before our copy does
                        raise
                else:
                    if stream is None:
                        return False
                    chunks = self._chunks(stream)
                    first = next(chunks, b"")
                    if first.startswith(mark):
                        grown = _append(copy, first[len(mark) :], chunks)
                        self._log_etag = str(stream.properties.etag)
                        return grown
            return self._copy_whole_log(blob, copy, self._log_etag if copy.exists() and size == 0 else None)
        except ResourceModifiedError:  # it grew while it was read: the next look copies the rest
            return True

    def _copy_whole_log(self, blob: BlobClient, copy: Path, etag: str | None) -> bool:
        stream = _changed(blob, etag)
        if stream is None:
            return False
        with replacing(copy, durable=False) as file:
            for chunk in self._chunks(stream):
                file.write(chunk)
        self._log_etag = str(stream.properties.etag)
        return True

    def _chunks(self, stream: StorageStreamDownloader[bytes]) -> Iterator[bytes]:
        for chunk in stream.chunks():
            self.bytes_read += len(chunk)
            yield chunk


def _changed(blob: BlobClient, etag: str | None, offset: int | None = None) -> StorageStreamDownloader[bytes] | None:
    """Open the blob's content from `offset` on; None: there is no such blob, or its ETag is still `etag`."""
    from azure.core import MatchConditions
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

    condition: dict[str, Any] = {} if etag is None else {"etag": etag, "match_condition": MatchConditions.IfModified}
    try:
        return blob.download_blob(offset, **condition)
    except ResourceNotFoundError as error:
        if getattr(error, "error_code", None) not in ("BlobNotFound", "ResourceNotFound", None):
            raise  # the container itself is missing
        return None
    except HttpResponseError as error:
        if error.status_code != 304:  # the SDK has several exceptions for it
            raise
        return None


def _end_of(copy: Path) -> tuple[int, bytes]:
    """Return the size of the copy and its last bytes."""
    try:
        with copy.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            length = min(size, MARK_BYTES)
            file.seek(size - length)
            return size, file.read(length)
    except FileNotFoundError:
        return 0, b""


def _append(copy: Path, first: bytes, chunks: Iterator[bytes]) -> bool:
    with copy.open("ab") as file:
        size = file.tell()
        file.write(first)
        for chunk in chunks:
            file.write(chunk)
        return file.tell() > size
