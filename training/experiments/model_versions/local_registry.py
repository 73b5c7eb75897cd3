"""The model registry in a directory. No torch.

    models/digits/1/…              a version (`training.experiments.model_versions.version`)
    models/digits/2/…
    models/digits/registry.json    the highest number that was given, and every move of every alias
    models/digits/.lock            held by the process that writes

A version is copied into the hidden `.3.tmp`, and gets its name when all of it is on the disk: a kill leaves a whole
version or none. The numbers are given under the lock, so two processes get two. The files are copies: what happens to
the run does not touch them. An alias points to where its moves lead, so no move is ever lost.

Example:
    >>> registry = LocalRegistry(Path("models"))
    >>> version = registry.register("digits", Path("runs/digits")).version
    >>> registry.point("digits", "prod", str(version.number), gate="val_loss < 2").is_done
    True
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from training.checkpoints.run_directory import MODEL_DIRECTORY
from training.checkpoints.run_search import VERSION_NAME
from training.errors import UserError, did_you_mean, unreadable
from training.experiments.model_versions.gates import GateResult
from training.experiments.model_versions.origin import Origin, origin_of
from training.experiments.model_versions.registry import (
    NAME,
    NUMBER,
    AliasMove,
    DamagedVersionError,
    Registered,
    Registry,
    Verified,
    checked_alias,
    checked_name,
    kept_note,
    move_to,
    parts_of,
    pointed_to,
    refuse_taken,
    went_back,
)
from training.experiments.model_versions.version import (
    Damage,
    FileFault,
    Parent,
    Version,
    copy_file,
    digest_of,
    file_faults,
    place_in,
    read_version,
    write_version,
)
from training.storage.atomic import delete, make_temporary, put_in_place, replacing_directory, write_atomically
from training.storage.checksums import is_intact, sealed
from training.storage.disk_refusals import disk_refusals
from training.storage.file_locks import NO_LOCKS, one_at_a_time
from training.storage.json_files import DamagedFileError, as_declared, read_json

INDEX_NAME, LOCK_NAME = "registry.json", ".lock"
FORMAT, SCHEMA_VERSION = "apt-model-registry", 1
_LEFTOVER = re.compile(r"\.[0-9]+\.tmp")


@dataclass(frozen=True)
class _Index:
    last_number: int = 0
    aliases: Mapping[str, tuple[AliasMove, ...]] = field(default_factory=dict)


class LocalRegistry(Registry):
    """The models below a directory. Several processes may use it at once.

    Args:
        root: directory of the registry; made by the first registration.
        clock: Unix seconds.
    """

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.root = root
        self.place = str(root)
        self._clock = clock

    # -- reading ---------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """List the directories with versions. See `Registry.names`."""
        if not self.root.is_dir():
            found = "this is a file" if self.root.exists() else "there is no such directory"
            raise UserError(f"--root {self.root}: {found}; `register` makes the registry")
        try:
            entries = sorted(entry.name for entry in self.root.iterdir() if entry.is_dir())
            return [name for name in entries if NAME.fullmatch(name) and self._is_model(name)]
        except OSError as error:
            raise unreadable(self.root, error) from error

    def _is_model(self, name: str) -> bool:
        return (self.root / name / INDEX_NAME).is_file() or bool(self._numbers(name))

    def numbers(self, name: str) -> list[int]:
        """List the versions that are there. See `Registry.numbers`."""
        checked_name(name)
        if not (self.root / name).is_dir() or not self._is_model(name):
            raise UserError(f"there is no model {name!r} in {self.root}{did_you_mean(name, self.names())}")
        return self._numbers(name)

    def _numbers(self, name: str) -> list[int]:
        try:
            entries = [entry.name for entry in (self.root / name).iterdir() if entry.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise unreadable(self.root / name, error) from error
        return sorted(int(entry) for entry in entries if NUMBER.fullmatch(entry))

    def directory(self, version: Version) -> Path:
        """Return the directory of a version."""
        return self.root / version.name / str(version.number)

    def model_path(self, version: Version) -> Path:
        """Return the directory of a version's model. See `Registry.model_path`."""
        return self.directory(version) / MODEL_DIRECTORY

    def version(self, name: str, number: int) -> Version:
        """Read one document. See `Registry.version`."""
        directory = self.root / name / str(number)
        try:
            found = read_version(directory)
        except FileNotFoundError as error:
            if directory.is_dir():
                raise DamagedFileError(directory, f"there is no {VERSION_NAME} in it") from error
            raise self._no_such_version(name, number) from error
        if (found.name, found.number) != (name, number):
            raise DamagedFileError(directory / VERSION_NAME, f"it is the document of {found}")
        return found

    def aliases(self, name: str) -> dict[str, int]:
        """Read where each alias points. See `Registry.aliases`."""
        moves = self._index(name).aliases
        return {alias: pointed_to(moves[alias])[-1] for alias in sorted(moves)}

    def history(self, name: str, alias: str) -> tuple[AliasMove, ...]:
        """Read every move of an alias. See `Registry.history`."""
        self.resolve(f"{name}@{alias}")
        return self._index(name).aliases.get(alias, ())

    def _index(self, name: str) -> _Index:
        path = self.root / name / INDEX_NAME
        remedy = "restore it, or delete it: the aliases are lost then, and no version is"
        try:
            document = read_json(path)
        except FileNotFoundError:
            return _Index()
        except DamagedFileError as error:
            raise DamagedFileError(path, f"{error.reason}; {remedy}") from error
        except OSError as error:
            raise unreadable(path, error) from error
        if not isinstance(document, dict) or document.get("format") != FORMAT or not is_intact(document):
            raise DamagedFileError(path, f"it does not match its own checksum; {remedy}")
        if (found := document.get("schema_version")) != SCHEMA_VERSION:
            raise UserError(f"{path}: schema version {found!r} cannot be read (this program reads {SCHEMA_VERSION})")
        index = as_declared(document, _Index, path)
        if not all(map(pointed_to, index.aliases.values())):
            raise DamagedFileError(path, f"an alias points nowhere; {remedy}")
        return index

    # -- registering -----------------------------------------------------------------------------------------------

    def register(self, name: str, path: Path, *, note: str = "", verification: Path | None = None) -> Registered:
        """Copy a finished model into the registry. See `Registry.register`."""
        checked_name(name)
        note = kept_note(note)
        origin = origin_of(path, verification)
        digest = digest_of(origin.files)
        with self._held(name, is_new=True) as place:
            index = self._index(name)
            for leftover in place.iterdir():
                if _LEFTOVER.fullmatch(leftover.name):  # of a registration that was killed
                    delete(leftover)
            faults: list[str] = []
            known = self.versions(faults=faults)
            for other in known:
                if (other.name, other.digest) == (name, digest):
                    return Registered(other, False, origin.notes)
            parent = self._parent(origin, known)
            version = self._written(place, name, note, digest, origin, parent, index.last_number)
            self._write_index(name, replace(index, last_number=version.number))
        return Registered(version, True, (*origin.notes, *faults))

    def _written(
        self, place: Path, name: str, note: str, digest: str, origin: Origin, parent: Parent | None, last: int
    ) -> Version:
        """Write the next version whole, or nothing. The caller holds the lock."""
        number = 1 + max([last, *self._numbers(name)])
        copied = origin.copied
        version = origin.version(name, number, self._clock(), note, digest, parent)
        target = place / str(number)
        with disk_refusals(target, "the version", "nothing was registered: make room, or give another --root"):
            temporary = make_temporary(target)
            try:
                for inner, (source, expected) in copied.items():
                    if not source.is_file() or not copy_file(source, place_in(temporary, inner), expected):
                        raise UserError(
                            f"{source}: it was changed while it was copied; register it when nothing writes"
                        )
                write_version(temporary, version)
            except BaseException:
                delete(temporary)
                raise
            put_in_place(temporary, target)
        return version

    # -- aliases ---------------------------------------------------------------------------------------------------

    def _move(self, version: Version, alias: str, answer: GateResult | None) -> int | None:
        name = version.name
        with self._held(name):
            index = self._index(name)
            moves = index.aliases.get(alias, ())
            before = pointed_to(moves)[-1] if moves else None
            if before != version.number and (answer is None or answer.is_open):
                move = move_to(version, answer, self._clock())
                self._write_index(name, replace(index, aliases={**index.aliases, alias: (*moves, move)}))
        return before

    def _lies_at(self, version: Version, place: Path) -> bool:
        return place.resolve() == self.model_path(version).resolve()

    @contextlib.contextmanager
    def _model_on_disk(self, version: Version) -> Iterator[Path]:
        yield self.model_path(version)

    def rollback(self, name: str, alias: str) -> tuple[int, int]:
        """Go back one move. See `Registry.rollback`."""
        checked_alias(alias)
        self.resolve(f"{name}@{alias}")
        with self._held(name):
            index = self._index(name)
            moves = index.aliases[alias]
            trail = pointed_to(moves)
            move = went_back(f"{name}@{alias}", trail, self._clock())
            self.version(name, move.number)
            self._write_index(name, replace(index, aliases={**index.aliases, alias: (*moves, move)}))
        return trail[-1], trail[-2]

    # -- verifying and fetching ------------------------------------------------------------------------------------

    def verify(self, reference: str | None = None) -> Iterator[Verified]:
        """Read versions whole; numbers that were given and are gone count too. See `Registry.verify`."""
        if reference is not None and parts_of(reference)[1]:
            yield self._verified(*self.resolve(reference))
            return
        for name in [reference] if reference is not None else self.names():
            numbers = self.numbers(name)
            try:
                index = self._index(name)
            except DamagedFileError as error:
                yield Verified(name, None, None, [FileFault(INDEX_NAME, Damage.DAMAGED, error.reason)])
                index = _Index()
            for number in sorted({*numbers, *range(1, index.last_number + 1)}):
                yield self._verified(name, number)

    def _verified(self, name: str, number: int) -> Verified:
        directory = self.root / name / str(number)
        try:
            version = self.version(name, number)
        except DamagedFileError as error:
            return Verified(name, number, None, [FileFault(VERSION_NAME, Damage.DAMAGED, error.reason)])
        except UserError:
            if directory.is_dir():
                raise
            return Verified(name, number, None, [FileFault(".", Damage.MISSING, "the version is no longer there")])
        return Verified(name, number, version, list(file_faults(directory, version)))

    def pull(self, reference: str, output: Path) -> Version:
        """Copy a version out. See `Registry.pull`."""
        version = self.find(reference)
        target = refuse_taken(output)
        remedy = "make room, or choose another place"
        with disk_refusals(target, "the version", remedy), replacing_directory(target) as temporary:
            for name, expected in version.files.items():
                source = place_in(self.directory(version), name)
                try:
                    is_same = copy_file(source, place_in(temporary, name), expected)
                except (FileNotFoundError, NotADirectoryError) as error:
                    if os.path.lexists(source):
                        raise
                    raise DamagedVersionError(f"{source}: it is no longer there; nothing was written") from error
                if not is_same:
                    raise DamagedVersionError(f"{source}: damaged, it is not as it was registered; nothing was written")
            write_version(temporary, version)
        return version

    # -- writing ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _held(self, name: str, is_new: bool = False) -> Iterator[Path]:
        """Keep all other writers of a name out of a block.

        Raises:
            UserError: the directory cannot be written to, is a link, or its disk has no locks.
        """
        place = self.root / name
        with contextlib.ExitStack() as held:
            try:
                if is_new:
                    self._refuse_near_name(name)
                    place.mkdir(parents=True, exist_ok=True)
                if place.is_symlink():
                    raise UserError(f"{place}: it is a link, and versions are kept in no other place; remove it")
                held.enter_context(one_at_a_time(place / LOCK_NAME))
            except OSError as error:
                what = "its disk has no file locks" if error.errno in NO_LOCKS else "it cannot be written to"
                raise UserError(
                    f"{place}: {what} ({error.strerror}); give --root a directory that you may write to"
                ) from error
            yield place

    def _refuse_near_name(self, name: str) -> None:
        """Refuse a name that differs from another one by its case alone: some disks keep them apart, some do not."""
        entries = [entry.name for entry in self.root.iterdir()] if self.root.is_dir() else []
        for other in entries:
            if other != name and other.lower() == name.lower():
                raise UserError(
                    f"a model's name {name!r}: there is {other!r}, which some disks take for the same; use it"
                )

    def _write_index(self, name: str, index: _Index) -> None:
        document = {"format": FORMAT, "schema_version": SCHEMA_VERSION, **asdict(index)}
        path = self.root / name / INDEX_NAME
        with disk_refusals(path, "the file with the aliases", "it is as it was: make room, and do it again"):
            write_atomically(path, sealed(document), durable=True)
