"""The manifest of a checkpoint directory: what it is, and which bytes belong to it. No torch.

`manifest.json` is written last. It names every file of the directory with its checksum (`training.storage.checksums`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from training.errors import CheckpointError, unreadable
from training.storage.atomic import write_atomically
from training.storage.checksums import FileEntry, check_entries, file_entries, is_intact, sealed
from training.storage.json_files import DamagedFileError, as_declared, read_json

FORMAT = "apt-checkpoint"
VERSION = 2
NAME = "manifest.json"
BEST_NAME = "checkpoint_best"
_CHECKPOINT_NAME = re.compile(r"checkpoint(_best|_(epoch|step)_\d+|-\d+)")


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says of itself."""

    step: int
    """Updates done."""
    kind: str
    run_id: str | None
    config_hash: str | None
    """`TrainingConfig.curve_hash` of the run."""
    files: Mapping[str, FileEntry]
    """By path within the directory, with `/` between the parts."""


def is_checkpoint(path: Path) -> bool:
    """Return whether a directory is a checkpoint by its name or its manifest; it may still be damaged."""
    return path.is_dir() and (is_checkpoint_name(path.name) or (path / NAME).is_file())


def is_checkpoint_name(name: str) -> bool:
    """Return whether a name is a checkpoint's: `checkpoint_epoch_25`, `checkpoint_step_40`, `checkpoint_best`, or as
    transformers has it, `checkpoint-500`."""
    return _CHECKPOINT_NAME.fullmatch(name) is not None


def existing_form(path: Path) -> Path:
    """Return `checkpoint_epoch_25` for `checkpoint_epoch_25.pt` if only that is there; any other path as it is.

    Many documents give a checkpoint the name of a file.
    """
    directory = path.with_suffix("") if path.suffix == ".pt" else path
    return directory if not path.exists() and is_checkpoint(directory) else path


def checkpoint_directories(run_dir: Path) -> list[Path]:
    """Return the checkpoints of a run, whole or damaged, in order of name."""
    return sorted(p for p in run_dir.glob("checkpoint[_-]*") if is_checkpoint(p))


def write_manifest(directory: Path, *, step: int, kind: str, run_id: str | None, config_hash: str | None) -> None:
    """Name every file that lies in `directory`, and make all of it durable; the manifest comes last.

    Raises:
        OSError: the disk is full or refuses.
    """
    manifest = Manifest(step=step, kind=kind, run_id=run_id, config_hash=config_hash, files=file_entries(directory))
    document = {"format": FORMAT, "version": VERSION, **asdict(manifest)}
    write_atomically(directory / NAME, sealed(document), durable=True)


def read_manifest(directory: Path) -> Manifest:
    """Read and check the manifest alone; the files are `check_files`' matter.

    Raises:
        CheckpointError: missing, damaged, another program's, or of another version.
        UnreadableError: the system refuses to read it.
    """
    path = directory / NAME
    try:
        document = read_json(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{directory}: no {NAME}; it is not whole, or is another program's") from error
    except OSError as error:
        raise unreadable(path, error) from error
    except DamagedFileError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this project (no format {FORMAT!r} in it)")
    if document.get("version") != VERSION:
        raise CheckpointError(
            f"{directory}: checkpoint version {document.get('version')!r} cannot be read (this program reads {VERSION})"
        )
    if not is_intact(document):
        raise CheckpointError(f"{path}: damaged, it does not match its own checksum")
    try:
        return as_declared(document, Manifest, path)
    except DamagedFileError as error:
        raise CheckpointError(str(error)) from error


def check_files(directory: Path, manifest: Manifest) -> None:
    """Compare every file with the manifest. Files that it does not name are not looked at.

    Raises:
        CheckpointError: a file is missing, cut short or altered; it is named.
        UnreadableError: the system refuses to read one.
    """
    check_entries(directory, manifest.files, NAME)
