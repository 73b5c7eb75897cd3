"""The directory that is uploaded for a job: a clean copy of the code, its data and its config.

The SDK would upload `.git`, `.venv` and secrets too, and fails at a symbolic link that leads nowhere.
"""

from __future__ import annotations

import contextlib
import fnmatch
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from training.azure.settings.inner_run import (
    CHECKOUT,
    CODE,
    CONFIG_PATH,
    JOB_DIRECTORY,
    START_DIRECTORY,
    inner_config,
    job_files,
)
from training.azure.settings.options import options_of
from training.checkpoints.start_from import parts_to_go_on_from
from training.errors import ConfigError, UserError
from training.machine.units import as_size
from training.settings.tree import TrainingConfig

SECRETS = (
    "*.pem", "*.key", "*.pfx", "*.p12", "*.jks", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*credential*",
    "*secret*", "*password*", "*token.txt", "*token.json", "*.env", "env.sh", "kubeconfig", "azureprofile.json",
)  # fmt: skip
"""Names, in lower case, that are never uploaded, except for Python files: `secrets.py` is code. Hidden files
(`.env`, `.ssh`, `.git`) are not uploaded either."""
CACHES = ("__pycache__", "*.pyc", "*.pyo", "*.egg-info", "node_modules", "*~")
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class StagedFile:
    """A file that is uploaded."""

    name: str
    """Path in the uploaded directory, with `/` between the parts."""
    source: Path | bytes
    """File on this machine, or its content."""
    bytes: int


@dataclass
class Staging:
    """The files that are uploaded with a job. As a context they are on disk, at `path`:

        with Staging.make(config) as staging:
            upload(staging.path)

    The directory is temporary; `--snapshot-dir` keeps a copy.
    """

    staged: list[StagedFile] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason) of files that a user may miss; caches are not named."""
    keep: Path | None = None
    _directory: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, repr=False)
    _path: Path | None = field(default=None, repr=False)

    @classmethod
    def make(cls, config: TrainingConfig, start: Path | None = None, checkout: Path = CHECKOUT) -> Self:
        """List what is uploaded; nothing is copied yet.

        Args:
            config: of the run, with the section `azure`.
            start: a run directory or a checkpoint of this machine that the job continues from.
            checkout: directory of the code.

        Raises:
            UserError: a file is missing or cannot be read, or all are larger than `snapshot_limit_mb`.
        """
        options = options_of(config)
        made = cls(keep=options.snapshot_dir)
        included = [_within(path, checkout) for path in options.snapshot_include]
        for name in dict.fromkeys([*(name for name in CODE if (checkout / name).exists()), *included]):
            made._add_tree(checkout, checkout / name)
        text = inner_config(config).to_yaml().encode()
        made.staged.append(StagedFile(CONFIG_PATH, text, len(text)))
        for name, path in job_files(config):
            made._add_whole(name, path)
        for part in parts_to_go_on_from(start) if start is not None else ():
            for path in _files_of(part):
                made._add(f"{START_DIRECTORY}/{path.relative_to(part.parent).as_posix()}", path)
        made._refuse_too_much(options.snapshot_limit_mb)
        return made

    @property
    def path(self) -> Path:
        """The directory, which exists within the context."""
        assert self._path is not None, "only within `with`"
        return self._path

    @property
    def files(self) -> list[tuple[str, int]]:
        """(path in the directory, bytes), in the order of the paths."""
        return sorted((file.name, file.bytes) for file in self.staged)

    @property
    def total_bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.staged)

    def describe(self) -> list[str]:
        """Describe for the user: how many files, how large, and what was left out."""
        groups: dict[str, list[StagedFile]] = {}
        for file in self.staged:
            parts = PurePosixPath(file.name).parts
            depth = 2 if parts[0] == JOB_DIRECTORY else 1
            groups.setdefault("/".join(parts[:depth]) + ("/" if len(parts) > depth else ""), []).append(file)
        lines = [f"goes along: {len(self.staged)} files, {as_size(self.total_bytes)}"]
        for name, files in sorted(groups.items()):
            count = "" if len(files) == 1 else f" in {len(files)} files"
            lines.append(f"  {name:<22} {as_size(sum(file.bytes for file in files))}{count}")
        return lines + [f"left out: {name} ({why})" for name, why in self.left_out]

    def __enter__(self) -> Self:
        """Copy all files to a temporary directory."""
        with contextlib.ExitStack() as stack:
            try:
                made = stack.enter_context(tempfile.TemporaryDirectory(prefix="apt-azure-"))
            except OSError as error:
                raise UserError(
                    f"no temporary directory can be made ({error.strerror}); make room, or set TMPDIR"
                ) from error
            self._path = Path(made)
            self._copy_to(self._path)
            if self.keep is not None:
                _refuse_a_full_directory(self.keep)
                self._copy_to(self.keep)
            self._directory = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._directory.close()
        self._path = None

    def _copy_to(self, directory: Path) -> None:
        for file in self.staged:
            target = directory / file.name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(file.source, bytes):
                    target.write_bytes(file.source)
                else:
                    shutil.copyfile(file.source, target)
            except OSError as error:
                raise UserError(f"{file.name}: it cannot be copied to {directory} ({error.strerror})") from error

    def _add(self, name: str, path: Path) -> None:
        try:
            self.staged.append(StagedFile(name, path, path.stat().st_size))
        except OSError as error:
            raise UserError(f"{path}: it cannot be read ({error.strerror})") from error

    def _add_whole(self, name: str, path: Path) -> None:
        """Add a file, or all of a directory that an option names, such as a model; hidden parts (`.git`) stay here."""
        if not path.is_dir():
            self._add(name, path)
            return
        for file in _files_of(path):
            within = file.relative_to(path)
            if any(part.startswith(".") for part in within.parts):
                self.left_out.append((f"{name}/{within.as_posix()}", "hidden"))
            else:
                self._add(f"{name}/{within.as_posix()}", file)

    def _add_tree(self, checkout: Path, path: Path) -> None:
        """Add a file or a directory of the checkout, without what is not code."""
        name = path.relative_to(checkout).as_posix()
        if any(file.name == name for file in self.staged) or any(_matches(path.name, CACHES)):
            return
        if (why := _why_private(path)) is not None:
            self.left_out.append((name, why))
            return
        if path.is_symlink():
            target = path.resolve()
            if not target.exists():
                self.left_out.append((name, "a symbolic link that leads nowhere"))
                return
            if path.is_dir() or not target.is_relative_to(checkout.resolve()):
                where = "to a directory" if path.is_dir() else "out of the checkout"
                self.left_out.append((name, f"a symbolic link {where}; give --snapshot-include a real path"))
                return
            if (why := _why_private(target)) is not None:
                self.left_out.append((name, f"a symbolic link; what it leads to is {why}"))
                return
        if path.is_dir():
            try:
                entries = sorted(path.iterdir())
            except OSError as error:
                raise UserError(f"{path}: it cannot be read ({error.strerror})") from error
            for entry in entries:
                self._add_tree(checkout, entry)
        elif path.is_file():
            self._add(name, path)
        else:
            self.left_out.append((name, "neither a file nor a directory"))

    def _refuse_too_much(self, limit_mb: float) -> None:
        if self.total_bytes <= limit_mb * MEGABYTE:
            return
        largest = sorted(self.staged, key=lambda file: -file.bytes)[:3]
        named = ", ".join(f"{file.name} ({as_size(file.bytes)})" for file in largest)
        wanted = -(-self.total_bytes // MEGABYTE)
        raise ConfigError(
            f"snapshot_limit_mb={limit_mb:g}: {as_size(self.total_bytes)} would be uploaded, the largest are {named}; "
            f"leave them out, or give --snapshot-limit-mb {wanted}"
        )


def _files_of(part: Path) -> list[Path]:
    """List a file, or all in a directory.

    Raises:
        UserError: it disappears meanwhile, as an old checkpoint does while a run is at work.
    """
    try:
        return sorted(path for path in part.rglob("*") if path.is_file()) if part.is_dir() else [part]
    except OSError as error:
        raise UserError(
            f"{part}: it cannot be read ({error.strerror}); if a run is at work there, wait for its end or stop it"
        ) from error


def _why_private(path: Path) -> str | None:
    """Say why a file or directory stays here, by its name; None: it may be uploaded."""
    if path.name.startswith("."):
        return "hidden"
    return "named like a secret" if path.suffix != ".py" and any(_matches(path.name, SECRETS)) else None


def _matches(name: str, patterns: tuple[str, ...]) -> Iterator[bool]:
    return (fnmatch.fnmatch(name.lower(), pattern) for pattern in patterns)


def _within(path: Path, checkout: Path) -> str:
    """Return a path of `--snapshot-include` as it is in the checkout.

    Raises:
        ConfigError: there is none, it is outside, or it is the whole checkout.
    """
    given, root = path, checkout.resolve()
    # As for every path: from here; and, so that a config file means the same anywhere, from the checkout.
    there = [place for place in (given.absolute(), checkout / given) if place.exists() or place.is_symlink()]
    if not there:
        raise ConfigError(f"--snapshot-include {path}: no such file or directory, neither here nor in {checkout}")
    # Only the parent is resolved: a link is reported where it is found.
    places = [root if place.resolve() == root else place.parent.resolve() / place.name for place in there]
    found = next((place for place in places if place.is_relative_to(root) and place.name != ".."), None)
    if found is None:
        raise ConfigError(f"--snapshot-include {path}: it is outside of the checkout {checkout}; copy it there first")
    name = found.relative_to(root).as_posix()
    if name == ".":
        raise ConfigError(f"--snapshot-include {path}: this is the whole checkout; name what the job needs of it")
    return name


def _refuse_a_full_directory(path: Path) -> None:
    try:
        is_full = path.exists() and (not path.is_dir() or any(path.iterdir()))
    except OSError as error:
        raise ConfigError(f"--snapshot-dir {path}: it cannot be read ({error.strerror}); give another") from error
    if is_full:
        raise ConfigError(f"--snapshot-dir {path}: there is something already; give an empty directory or a new one")
