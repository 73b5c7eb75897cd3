"""Registries of models, wherever they keep them: names, references, aliases, gates, parents. No torch.

A name has versions with the numbers 1, 2, 3, …, which never change, and aliases, which move and remember where they
were. `local_registry` keeps them in a directory, `mlflow_registry` in an MLflow server.
"""

from __future__ import annotations

import contextlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from training.checkpoints.run_directory import MODEL_DIRECTORY
from training.errors import UserError, did_you_mean, printable
from training.experiments.model_versions.gates import GateResult, ask_gate
from training.experiments.model_versions.origin import VERIFIER, Origin, verifier_figures
from training.experiments.model_versions.version import (
    FileFault,
    FileHash,
    Parent,
    Version,
    digest_of,
    hash_of,
    model_files,
)
from training.experiments.store.annotations import checked_note

LATEST = "latest"
"""The alias that everybody has: the version with the highest number. It cannot be moved."""
LONGEST_NAME = 64
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))})
"""Names that Windows gives to devices, whatever ending they have."""
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
    """Outcome of a registration."""

    version: Version
    is_new: bool
    """False: the version was there already, with the same bytes."""
    notes: tuple[str, ...] = ()
    """Things that were found and not used, with the reason."""


@dataclass(frozen=True)
class Pointed:
    """Outcome of an attempt to move an alias."""

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


def checked_name(name: str, what: str = "a model's name") -> str:
    """Return a name of a model or an alias, if it can be a directory on every system.

    Args:
        name: as the user gave it.
        what: begins the error line.

    Raises:
        UserError: it cannot.
    """
    shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
    if NAME.fullmatch(name) is None:
        raise UserError(
            f"{what} {shown!r}: it has 1 to {LONGEST_NAME} letters, digits, '.', '_' and '-', and begins with a letter "
            "or a digit"
        )
    if name.endswith(".") or name.partition(".")[0].lower() in _DEVICES:
        raise UserError(f"{what} {shown!r}: it ends with a dot, or is a device on Windows; choose another")
    return name


def kept_note(note: str) -> str:
    """Return a note as a document can hold it.

    Raises:
        UserError: it is too long.
    """
    return checked_note(note).encode("utf-8", "backslashreplace").decode()


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


class Registry(ABC):
    """The verbs of every registry of models, wherever it keeps them, and how it reads the names of versions."""

    place: str
    """Location of the models, for messages."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of all models, in order.

        Raises:
            UserError: there is no registry, or it may not be read.
        """

    @abstractmethod
    def numbers(self, name: str) -> list[int]:
        """Return the numbers of a model's versions that are there, in order.

        Raises:
            UserError: there is no such model.
        """

    @abstractmethod
    def version(self, name: str, number: int) -> Version:
        """Return the document of one version.

        Raises:
            UserError: there is no such version, or its document cannot be used.
        """

    @abstractmethod
    def model_path(self, version: Version) -> Path:
        """Return the directory of a version's model, which every `--model` takes.

        Raises:
            UserError: it lies on no disk of this machine.
        """

    @abstractmethod
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
                goes on, or the registry refuses. Nothing is registered then.
        """

    @abstractmethod
    def aliases(self, name: str) -> dict[str, int]:
        """Return where each alias of a model points, in order of name.

        Raises:
            UserError: they cannot be read.
        """

    @abstractmethod
    def history(self, name: str, alias: str) -> tuple[AliasMove, ...]:
        """Return every move of an alias, the oldest first.

        Raises:
            UserError: there is no such model or alias.
        """

    @abstractmethod
    def rollback(self, name: str, alias: str) -> tuple[int, int]:
        """Let an alias point to where it pointed before its last move; the next call goes back one further.

        Returns:
            The version that it pointed to, and the one that it points to now.

        Raises:
            UserError: there is no such alias, it never pointed elsewhere, or that version is no longer there.
        """

    @abstractmethod
    def verify(self, reference: str | None = None) -> Iterator[Verified]:
        """Read versions whole and yield what is not as it was registered.

        Args:
            reference: one version, or a name for all of its versions; None: everything.

        Raises:
            UserError: there is no such version or registry, or the system refuses to read a file.
        """

    @abstractmethod
    def pull(self, reference: str, output: Path) -> Version:
        """Copy a version out, with its document, and compare every byte with that.

        Args:
            reference: as `find` reads it.
            output: a directory that is not there yet, or is empty.

        Raises:
            DamagedVersionError: a file is not as the document says; nothing was written.
            UserError: there is no such version, the place is taken, or the disk refuses.
        """

    @abstractmethod
    def _model_on_disk(self, version: Version) -> contextlib.AbstractContextManager[Path]:
        """Give a block the directory of a version's model."""

    @abstractmethod
    def _move(self, version: Version, alias: str, answer: GateResult | None) -> int | None:
        """Let an alias point to a version, unless the gate is shut, and return where it pointed before."""

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
        name, sign, rest = parts_of(reference)
        numbers = self.numbers(name)
        if sign == ":":
            if NUMBER.fullmatch(rest) is None:
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

    def _no_such_version(self, name: str, number: int) -> UserError:
        numbers = self.numbers(name)
        listed = ", ".join(map(str, numbers[-8:])) or "none"
        return UserError(f"{name} has no version {number}; it has {'… ' if len(numbers) > 8 else ''}{listed}")

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
        before = self._move(version, alias, answer)
        return Pointed(version, before, answer is None or answer.is_open, answer)

    def _figures(self, version: Version, verification: Path | None) -> Mapping[str, float | None]:
        if verification is None:
            return version.figures
        others = {name: value for name, value in version.figures.items() if not name.startswith(f"{VERIFIER}.")}
        with self._model_on_disk(version) as model:
            return {**others, **verifier_figures(model, verification)}

    def _parent(self, origin: Origin, known: Sequence[Version]) -> Parent | None:
        """Return the version that a model was trained on from: one of its own run, else the one that the run names."""
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
        known = sorted(known, key=lambda other: not self._lies_at(other, place))  # two names may have the same bytes
        return next((Parent(other.name, other.number) for other in known if self._is_of(other, place)), None)

    def _lies_at(self, version: Version, place: Path) -> bool:
        """Say whether a version's model is in a directory."""
        return False

    def _is_of(self, version: Version, place: Path) -> bool:
        """Say whether a directory with a model holds the bytes of a version, or is gone and was its source."""
        if not place.is_dir():
            return version.run is not None and version.run.directory == printable(place.parent)
        try:
            files = model_files(place)
            inside = _files_of_model(version)
            if {name: path.stat().st_size for name, path in files.items()} != {n: f.bytes for n, f in inside.items()}:
                return False
            return digest_of({name: hash_of(path) for name, path in files.items()}) == version.digest
        except (OSError, UserError):  # it cannot be read any more, so nothing is known of it
            return False


def _files_of_model(version: Version) -> Mapping[str, FileHash]:
    prefix = f"{MODEL_DIRECTORY}/"
    return {name.removeprefix(prefix): file for name, file in version.files.items() if name.startswith(prefix)}


def parts_of(reference: str) -> tuple[str, str, str]:
    """Return name, sign and rest of `digits`, `digits:3`, `digits@prod`."""
    match = re.fullmatch(r"([^:@]*)([:@]?)(.*)", reference, re.DOTALL)
    assert match is not None
    return checked_name(match[1]), match[2], match[3]


def move_to(version: Version, answer: GateResult | None, now: float) -> AliasMove:
    """Return the move of an alias to a version, through an open gate or without one.

    Args:
        version: where it points from now on.
        answer: of the gate; None: there was none.
        now: Unix seconds.
    """
    gate, values = (answer.gate, answer.values) if answer is not None else (None, {})
    return AliasMove(version.number, round(now, 3), "set", gate, values)


def went_back(alias: str, trail: Sequence[int], now: float) -> AliasMove:
    """Return the move of an alias to where it pointed before.

    Args:
        alias: `digits@prod`, for the error.
        trail: as `pointed_to` gave it.
        now: Unix seconds.

    Raises:
        UserError: it never pointed elsewhere.
    """
    if len(trail) < 2:
        raise UserError(f"{alias} has only pointed to version {trail[-1]}: there is nothing to go back to")
    return AliasMove(trail[-2], round(now, 3), "rollback")


def pointed_to(moves: Sequence[AliasMove]) -> list[int]:
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


def refuse_taken(output: Path) -> Path:
    """Return the absolute path of a directory that is to be written, if there is nothing in its place.

    Raises:
        UserError: there is.
    """
    target = output.absolute()
    if target == Path.cwd() or not target.name:
        raise UserError(f"--output {output}: it would replace the working directory; choose another")
    try:
        is_free = not os.path.lexists(target) or (
            target.is_dir() and not target.is_symlink() and not any(target.iterdir())
        )
    except OSError as error:
        raise UserError(f"--output {output}: it cannot be looked at ({error.strerror}); choose another") from error
    if not is_free:
        raise UserError(f"--output {output}: there is something already, and nothing is replaced; choose another")
    return target
