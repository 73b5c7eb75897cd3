"""What a job's run directory in a datastore holds, as files with sizes and checksums."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from training.checkpoints.run_directory import CONFIG_NAME, FINAL_NAME, JOB_NAME, MODEL_DIRECTORY
from training.errors import UserError
from training.record.reporter import LOG_NAME, REPORT_NAME

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

What = Literal["final", "all"]

FINAL = (LOG_NAME, REPORT_NAME, CONFIG_NAME, FINAL_NAME, MODEL_DIRECTORY)
"""The record and the finished model, in both forms."""
WHOLE = ("checkpoint", MODEL_DIRECTORY)
"""How the directories begin that are there whole or not at all."""


@dataclass(frozen=True)
class StoredFile:
    """One file of a run directory in a datastore."""

    name: str
    """Relative to the run directory, with slashes."""
    size: int
    """Bytes."""
    etag: str
    """Without quotes, which the storage puts around it in one answer and leaves out in another (`plain_etag`)."""
    md5: bytes | None
    """None: the storage has none, as for files that were uploaded in blocks."""

    @property
    def top(self) -> str:
        """The file's or directory's name in the run directory."""
        return PurePosixPath(self.name).parts[0]

    @property
    def is_of_whole_directory(self) -> bool:
        """Whether it belongs to a directory that must never be there in part."""
        return "/" in self.name and self.top.startswith(WHOLE)


def stored_files(container: ContainerClient, path: str) -> list[StoredFile]:
    """All files below `path`, by name.

    Raises:
        UserError: a name leads out of the run directory.
        azure.core.exceptions.AzureError: the storage refuses or cannot be reached.
    """
    root = path.rstrip("/") + "/"
    found: list[StoredFile] = []
    for blob in container.list_blobs(name_starts_with=root, include=["metadata"]):
        name = blob.name.removeprefix(root)
        if name and not _is_directory(blob):
            _refuse_escape(root, name)
            md5 = blob.content_settings.content_md5
            found.append(StoredFile(name, int(blob.size), plain_etag(blob.etag), bytes(md5) if md5 else None))
    return sorted(_without_directories(root, found), key=lambda file: file.name)


def plain_etag(etag: object) -> str:
    """An ETag in one form, by which two can be compared."""
    return str(etag).strip('"')


def wanted(files: Iterable[StoredFile], what: What) -> list[StoredFile]:
    """Those that are to be brought. What is hidden is half-written, or belongs to the machine of the job; which job
    fills a directory is each machine's own matter."""
    visible = [file for file in files if not any(part.startswith(".") for part in PurePosixPath(file.name).parts)]
    visible = [file for file in visible if file.name != JOB_NAME]
    return visible if what == "all" else [file for file in visible if file.top in FINAL]


def has_final_model(files: Iterable[StoredFile]) -> bool:
    """Whether the run has come to its end."""
    return any(file.top in (FINAL_NAME, MODEL_DIRECTORY) for file in files)


def _is_directory(blob: Any) -> bool:
    """A mounted datastore marks directories by empty blobs of their name."""
    mark = (blob.metadata or {}).get("hdi_isfolder", "")
    return str(mark).lower() == "true" or str(blob.name).endswith("/")


def _without_directories(root: str, files: list[StoredFile]) -> list[StoredFile]:
    """Without empty blobs that bear a directory's name, whatever made them."""
    directories = {str(parent) for file in files for parent in PurePosixPath(file.name).parents}
    for file in files:
        if file.name in directories and file.size:
            raise UserError(f"{root}: the datastore holds {file.name!r} there as file and as directory; nothing done")
    return [file for file in files if file.name not in directories]


def _refuse_escape(root: str, name: str) -> None:
    path = PurePosixPath(name)
    is_odd = "\\" in name or ":" in name or any(ord(sign) < ord(" ") for sign in name)
    if path.is_absolute() or is_odd or any(part in ("..", ".", "") for part in name.split("/")):
        raise UserError(
            f"{root}: the datastore holds {name!r} there, which is no name of a file of a run; nothing done"
        )
