"""The model registry: names, below them versions that never change, and aliases that move. No torch.

    models/digits/1/…              a version (`training.experiments.model_versions.version`)
    models/digits/2/…
    models/digits/registry.json    the highest number that was given, and every move of every alias
    models/digits/.lock            held by the process that writes

A version is copied into the hidden `.3.tmp`, and gets its name when all of it is on the disk: a kill leaves a whole
version or none. The numbers are given under the lock, so two processes get two. The files are copies: what happens to
the run does not touch them. An alias points to where its moves lead, so no move is ever lost.

Example:
    >>> registry = ModelRegistry(Path("models"))
    >>> version = registry.register("digits", Path("runs/digits")).version
    >>> registry.point("digits", "prod", str(version.number), gate="val_loss < 2").is_done
    True
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from training.checkpoints.run_directory import MODEL_DIRECTORY
from training.errors import UserError, did_you_mean, printable, unreadable
from training.experiments.model_versions.gates import GateResult, ask_gate
from training.experiments.model_versions.origin import VERIFIER, Origin, origin_of, verifier_figures
from training.experiments.model_versions.version import (
    VERSION_NAME,
    Damage,
    FileFault,
    FileHash,
    Parent,
    Version,
    copy_file,
    digest_of,
    file_faults,
    hash_of,
    model_files,
    place_in,
    read_version,
    write_version,
)
from training.experiments.store.annotations import checked_note
from training.storage.atomic import delete, make_temporary, put_in_place, replacing_directory, write_atomically
from training.storage.checksums import is_intact, sealed
from training.storage.disk_refusals import disk_refusals
from training.storage.file_locks import NO_LOCKS, one_at_a_time
from training.storage.json_files import DamagedFileError, as_declared, read_json

INDEX_NAME, LOCK_NAME = "registry.json", ".lock"
FORMAT, SCHEMA_VERSION = "apt-model-registry", 1
LATEST = "latest"
"""The alias that everybody has: the version with the highest number. It cannot be moved."""
LONGEST_NAME = 64
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))})
"""Names that Windows gives to devices, whatever ending they have."""
_LEFTOVER = re.compile(r"\.[0-9]+\.tmp")
_SHOWN = 60
"""Characters of a wrong name that are shown."""


class DamagedVersionError(UserError):
    """A version is not what its document says."""


@dataclass(frozen=True)
class AliasMove:
    """One move of an alias."""

    number: int
    """Version that it points to since then."""
    at: float
    """Unix seconds."""
    how: Literal["set", "rollback"]
    gate: str | None = None
    """Condition that the version fulfilled; None: none was asked for."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Value of each name in the gate."""


@dataclass(frozen=True)
class Registered:
    """What became of a model that was to be registered."""

    version: Version
    is_new: bool
    """False: the version was there already, with the same bytes."""
    notes: tuple[str, ...] = ()
    """Things that were found and not used, with the reason."""


@dataclass(frozen=True)
class Pointed:
    """What became of an alias that was to be moved."""

    version: Version
    before: int | None
    """Version that it pointed to before; None: to none."""
    is_done: bool
    """False: the gate is shut, and the alias is where it was."""
    gate: GateResult | None


@dataclass(frozen=True)
class Verified:
    """One version, read whole. No number: it is about the file with the aliases."""

    name: str
    number: int | None
    version: Version | None
    """None: its document cannot be used."""
    faults: Sequence[FileFault]


@dataclass(frozen=True)
class _Index:
    last_number: int = 0
    aliases: Mapping[str, tuple[AliasMove, ...]] = field(default_factory=dict)


def checked_name(name: str, what: str = "a model's name") -> str:
    """Return a name of a model or an alias, if it can be a directory on every system.

    Args:
        name: as the user gave it.
        what: begins the error line.

    Raises:
        UserError: it cannot.
    """
    shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
    if _NAME.fullmatch(name) is None:
        raise UserError(
            f"{what} {shown!r}: it has 1 to {LONGEST_NAME} letters, digits, '.', '_' and '-', and begins with a letter "
            "or a digit"
        )
    if name.endswith(".") or name.partition(".")[0].lower() in _DEVICES:
        raise UserError(f"{what} {shown!r}: it ends with a dot, or is a device on Windows; choose another")
    return name


def checked_alias(alias: str) -> str:
    """Return the name of an alias that can be moved.

    Raises:
        UserError: it cannot be one.
    """
    checked_name(alias, "an alias")
    if alias.isdigit():
        raise UserError(f"an alias {alias!r}: it would read as the number of a version; choose another")
    if alias.lower() == LATEST:
        raise UserError(
            f"an alias {alias!r}: @{LATEST} always means the newest version and is never moved; choose another"
        )
    return alias


class ModelRegistry:
    """The models below a directory. Several processes may use it at once.

    Args:
        root: directory of the registry; made by the first registration.
        clock: Unix seconds.
    """

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.root = root
        self._clock = clock

    # -- reading ---------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Return the names of all models, in order.

        Raises:
            UserError: there is no registry, or it may not be read.
        """
        if not self.root.is_dir():
            found = "this is a file" if self.root.exists() else "there is no such directory"
            raise UserError(f"--root {self.root}: {found}; `register` makes the registry")
        try:
            entries = sorted(entry.name for entry in self.root.iterdir() if entry.is_dir())
            return [name for name in entries if _NAME.fullmatch(name) and self._is_model(name)]
        except OSError as error:
            raise unreadable(self.root, error) from error

    def _is_model(self, name: str) -> bool:
        return (self.root / name / INDEX_NAME).is_file() or bool(self._numbers(name))

    def numbers(self, name: str) -> list[int]:
        """Return the numbers of a model's versions that are there, in order.

        Raises:
            UserError: there is no such model.
        """
        checked_name(name)
        if not (self.root / name).is_dir() or not self._is_model(name):
            raise UserError(f"there is no model {name!r} in {self.root}{did_you_mean(name, self.names())}")
        return self._numbers(name)

    def _numbers(self, name: str) -> list[int]:
        try:
            entries = [entry.name for entry in (self.root / name).iterdir() if entry.is_dir()]
        except FileNotFoundError:
            return []
        return sorted(int(entry) for entry in entries if _NUMBER.fullmatch(entry))

    def directory(self, version: Version) -> Path:
        """Return the directory of a version."""
        return self.root / version.name / str(version.number)

    def model_path(self, version: Version) -> Path:
        """Return the directory of a version's model, which every `--model` takes."""
        return self.directory(version) / MODEL_DIRECTORY

    def version(self, name: str, number: int) -> Version:
        """Return the document of one version.

        Raises:
            UserError: there is no such version, or its document cannot be used.
        """
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

    def _no_such_version(self, name: str, number: int) -> UserError:
        numbers = self.numbers(name)
        listed = ", ".join(map(str, numbers[-8:])) or "none"
        return UserError(f"{name} has no version {number}; it has {'… ' if len(numbers) > 8 else ''}{listed}")

    def versions(self, name: str | None = None, faults: list[str] | None = None) -> list[Version]:
        """Return the versions of a model, or of all models, in order.

        Args:
            name: of the model; None: all.
            faults: gets a line for each version whose document cannot be used; None: the first one is raised.

        Raises:
            UserError: there is no such model or no registry.
        """
        found = []
        for model in [name] if name is not None else self.names():
            for number in self.numbers(model):
                try:
                    found.append(self.version(model, number))
                except UserError as error:
                    if faults is None:
                        raise
                    faults.append(str(error))
        return found

    def find(self, reference: str) -> Version:
        """Return the version that a text names.

        Args:
            reference: `digits:3`, `digits@prod`, or `digits` for the newest version.

        Raises:
            UserError: there is none, or its document cannot be used.
        """
        return self.version(*self.resolve(reference))

    def resolve(self, reference: str) -> tuple[str, int]:
        """Return the name and the number that a text means, as `find` reads it.

        Raises:
            UserError: it means none.
        """
        name, sign, rest = _parts(reference)
        numbers = self.numbers(name)
        if sign == ":":
            if _NUMBER.fullmatch(rest) is None:
                raise UserError(f"{reference}: a version is a whole number from 1, such as {name}:3")
            if int(rest) not in numbers:
                raise self._no_such_version(name, int(rest))
            return name, int(rest)
        if sign == "@" and rest != LATEST:
            checked_name(rest, "an alias")
            aliases = self.aliases(name)
            if rest not in aliases:
                known = did_you_mean(rest, aliases) or f"; it has {', '.join([*aliases, LATEST])}"
                raise UserError(f"{name} has no alias {rest!r}{known}")
            return name, aliases[rest]
        if not numbers:
            raise UserError(f"{name} has no versions any more")
        return name, numbers[-1]

    def aliases(self, name: str) -> dict[str, int]:
        """Return where each alias of a model points, in order of name.

        Raises:
            UserError: the file with the aliases cannot be used.
        """
        moves = self._index(name).aliases
        return {alias: _pointed_to(moves[alias])[-1] for alias in sorted(moves)}

    def history(self, name: str, alias: str) -> tuple[AliasMove, ...]:
        """Return every move of an alias, the oldest first.

        Raises:
            UserError: there is no such model or alias.
        """
        self.resolve(f"{name}@{alias}")
        return self._index(name).aliases.get(alias, ())

    def _index(self, name: str) -> _Index:
        path = self.root / name / INDEX_NAME
        try:
            document = read_json(path)
        except FileNotFoundError:
            return _Index()
        except OSError as error:
            raise unreadable(path, error) from error
        remedy = "restore it, or delete it: the aliases are lost then, and no version is"
        if not isinstance(document, dict) or document.get("format") != FORMAT or not is_intact(document):
            raise DamagedFileError(path, f"it does not match its own checksum; {remedy}")
        if (found := document.get("schema_version")) != SCHEMA_VERSION:
            raise UserError(f"{path}: schema version {found!r} cannot be read (this program reads {SCHEMA_VERSION})")
        index = as_declared(document, _Index, path)
        if not all(map(_pointed_to, index.aliases.values())):
            raise DamagedFileError(path, f"an alias points nowhere; {remedy}")
        return index

    # -- registering -----------------------------------------------------------------------------------------------

    def register(self, name: str, path: Path, *, note: str = "", verification: Path | None = None) -> Registered:
        """Make a finished model the next version of a name.

        Args:
            name: of the model.
            path: a run directory, a directory with a model, or a version that was pulled.
            note: what a person says of it.
            verification: a verifier's report on the model; None: the run's own, where it is about these weights.

        Returns:
            The version; where the name has one with the same bytes, that one, unchanged.

        Raises:
            UserError: the name cannot be used, there is no finished model, it is damaged or changes meanwhile, its run
                goes on, or the disk refuses. Nothing is registered then.
        """
        checked_name(name)
        note = checked_note(note).encode("utf-8", "backslashreplace").decode()
        origin = origin_of(path, verification)
        digest = digest_of(origin.files)
        with self._held(name, is_new=True) as place:
            index = self._index(name)
            for leftover in place.iterdir():
                if _LEFTOVER.fullmatch(leftover.name):  # of a registration that was killed
                    delete(leftover)
            others = self.versions(name, faults := []) if self._numbers(name) else []
            for other in others:
                if other.digest == digest:
                    return Registered(other, False, origin.notes)
            version = self._written(place, name, note, digest, origin, index.last_number)
            self._write_index(name, replace(index, last_number=version.number))
        return Registered(version, True, (*origin.notes, *faults))

    def _written(self, place: Path, name: str, note: str, digest: str, origin: Origin, last: int) -> Version:
        """Write the next version whole, or nothing. The caller holds the lock."""
        number = 1 + max([last, *self._numbers(name)])
        inside = {f"{MODEL_DIRECTORY}/{inner}": (origin.model / inner, h) for inner, h in origin.files.items()}
        copied = {**inside, **origin.beside}
        version = Version(
            name=name, number=number, registered_at=round(self._clock(), 3), note=note, family=origin.family,
            task=origin.task, digest=digest, files={inner: expected for inner, (_, expected) in sorted(copied.items())},
            settings=origin.settings, config_hash=origin.config_hash, data_fingerprint=origin.data_fingerprint,
            figures=origin.figures, run=origin.run, parent=self._parent(origin), started_from=origin.started_from,
        )  # fmt: skip
        target = place / str(number)
        with disk_refusals(target, "the version", "nothing was registered: make room, or give another --root"):
            temporary = make_temporary(target)
            try:
                for inner, (source, expected) in copied.items():
                    if not copy_file(source, place_in(temporary, inner), expected):
                        raise UserError(
                            f"{source}: it was changed while it was copied; register it when nothing writes"
                        )
                write_version(temporary, version)
            except BaseException:
                delete(temporary)
                raise
            put_in_place(temporary, target)
        return version

    def _parent(self, origin: Origin) -> Parent | None:
        """Return the version that a model was trained on from: one of its own run, else the one that the run names."""
        try:
            known = self.versions(faults=[])
        except UserError:  # of a registry that may not be listed: where the model comes from is then not known
            return None
        run = origin.run
        if run is not None and run.run_id is not None and run.model_step is not None:
            earlier = [
                (other.run.model_step, other)
                for other in known
                if other.run is not None and other.run.run_id == run.run_id and other.run.model_step is not None
            ]
            earlier = [pair for pair in earlier if pair[0] < run.model_step]
            if earlier:
                found = max(earlier, key=lambda pair: pair[0])[1]
                return Parent(found.name, found.number)
        if origin.started_from is None:
            return None
        place = Path(origin.started_from).absolute()
        for other in known:
            if self._is_of(other, place):
                return Parent(other.name, other.number)
        return None

    def _is_of(self, version: Version, place: Path) -> bool:
        """Say whether a directory with a model is that of a version, or holds the same bytes, or was its source."""
        if not place.is_dir():
            return version.run is not None and version.run.directory == printable(place.parent)
        if place.resolve() == self.model_path(version).resolve():
            return True
        try:
            files = model_files(place)
            inside = _files_of_model(version)
            if {name: path.stat().st_size for name, path in files.items()} != {n: f.bytes for n, f in inside.items()}:
                return False
            return digest_of({name: hash_of(path) for name, path in files.items()}) == version.digest
        except (OSError, UserError):  # it cannot be read any more, so nothing is known of it
            return False

    # -- aliases ---------------------------------------------------------------------------------------------------

    def point(
        self, name: str, alias: str, to: str, *, gate: str | None = None, verification: Path | None = None
    ) -> Pointed:
        """Let an alias point to a version, if that fulfils the gate.

        Args:
            name: of the model.
            alias: `prod`; made if it is not there.
            to: number of the version, or another alias.
            gate: a condition on its figures and settings (`gates`); None: it is moved as it is.
            verification: a verifier's report on the version, in place of the one that it was registered with.

        Raises:
            UserError: there is no such version, the gate names something that is not known of it, or `verification` is
                about another model. The alias is where it was.
        """
        checked_alias(alias)
        version = self.find(f"{checked_name(name)}{':' if to.isdigit() else '@'}{to}")
        answer = None
        if gate is not None:
            answer = ask_gate(gate, version, self._figures(version, verification))
        elif verification is not None:
            raise UserError(f"--verification {verification}: it is read by a gate, and there is none; add --gate")
        with self._held(name):
            index = self._index(name)
            moves = index.aliases.get(alias, ())
            before = _pointed_to(moves)[-1] if moves else None
            if answer is not None and not answer.is_open:
                return Pointed(version, before, False, answer)
            if before != version.number:
                values = answer.values if answer is not None else {}
                move = AliasMove(version.number, round(self._clock(), 3), "set", gate, values)
                self._write_index(name, replace(index, aliases={**index.aliases, alias: (*moves, move)}))
        return Pointed(version, before, True, answer)

    def _figures(self, version: Version, verification: Path | None) -> Mapping[str, float | None]:
        if verification is None:
            return version.figures
        others = {name: value for name, value in version.figures.items() if not name.startswith(f"{VERIFIER}.")}
        return {**others, **verifier_figures(self.model_path(version), verification)}

    def rollback(self, name: str, alias: str) -> tuple[int, int]:
        """Let an alias point to where it pointed before its last move; the next call goes back one further.

        Returns:
            The version that it pointed to, and the one that it points to now.

        Raises:
            UserError: there is no such alias, it never pointed elsewhere, or that version is no longer there.
        """
        checked_alias(alias)
        self.resolve(f"{name}@{alias}")
        with self._held(name):
            index = self._index(name)
            moves = index.aliases[alias]
            trail = _pointed_to(moves)
            if len(trail) < 2:
                raise UserError(
                    f"{name}@{alias} has only pointed to version {trail[-1]}: there is nothing to go back to"
                )
            self.version(name, trail[-2])
            move = AliasMove(trail[-2], round(self._clock(), 3), "rollback")
            self._write_index(name, replace(index, aliases={**index.aliases, alias: (*moves, move)}))
        return trail[-1], trail[-2]

    # -- verifying and fetching ------------------------------------------------------------------------------------

    def verify(self, reference: str | None = None) -> Iterator[Verified]:
        """Read versions whole and yield what is not as it was registered. The numbers of versions that are gone count.

        Args:
            reference: one version, or a name for all of its versions; None: everything.

        Raises:
            UserError: there is no such version or registry, or the system refuses to read a file.
        """
        if reference is not None and _parts(reference)[1]:
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
        """Copy a version out, with its document, and compare every byte with that.

        Args:
            reference: as `find` reads it.
            output: a directory that is not there yet, or is empty.

        Raises:
            DamagedVersionError: a file is not as the document says; nothing was written.
            UserError: there is no such version, the place is taken, or the disk refuses.
        """
        version = self.find(reference)
        target = output.absolute()
        if os.path.lexists(target) and (target.is_symlink() or not target.is_dir() or any(target.iterdir())):
            raise UserError(f"--output {output}: there is something already, and nothing is replaced; choose another")
        if target == Path.cwd() or not target.name:
            raise UserError(f"--output {output}: it would replace the working directory; choose another")
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


def _parts(reference: str) -> tuple[str, str, str]:
    """Return name, sign and rest of `digits`, `digits:3`, `digits@prod`."""
    match = re.fullmatch(r"([^:@]*)([:@]?)(.*)", reference, re.DOTALL)
    assert match is not None
    return checked_name(match[1]), match[2], match[3]


def _files_of_model(version: Version) -> Mapping[str, FileHash]:
    prefix = f"{MODEL_DIRECTORY}/"
    return {name.removeprefix(prefix): file for name, file in version.files.items() if name.startswith(prefix)}


def _pointed_to(moves: Sequence[AliasMove]) -> list[int]:
    """Return the versions that an alias points to and can go back to, the present one last; empty: the moves are none
    that were ever made."""
    trail: list[int] = []
    for move in moves:
        if move.how == "set":
            trail.append(move.number)
        elif len(trail) < 2 or trail[-2] != move.number:
            return []
        else:
            trail.pop()
    return trail
