"""The model registry of an MLflow server or database, by the same verbs. MLflow is imported in functions.

A version's files and its document are artefacts of an MLflow run of their own, in the experiment `apt-models`. They are
sent before MLflow is asked for the version: a registration that breaks off leaves a failed run, and no version. MLflow
gives the number, and holds the aliases; it keeps no history of them, so their moves stand in a tag of the model.

Some promises of a directory are not made here, because MLflow has no lock: two processes that register the same model
at the same moment get two versions, and an alias and its history change one after the other.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from training.checkpoints.run_directory import MODEL_DIRECTORY
from training.checkpoints.run_search import VERSION_NAME
from training.errors import UserError, did_you_mean
from training.experiments.model_versions.gates import GateResult
from training.experiments.model_versions.origin import origin_of
from training.experiments.model_versions.registry import (
    NAME,
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
    Version,
    copy_file,
    digest_of,
    file_faults,
    place_in,
    read_version,
    write_version,
)
from training.settings.tracking import fault_of_store
from training.storage.atomic import replacing_directory
from training.storage.disk_refusals import disk_refusals
from training.storage.json_files import DamagedFileError, as_declared, parse_json
from training.tracking.choice import is_installed
from training.tracking.mlflow_tracker import experiment_id, open_client
from training.tracking.secrets import without_secrets

EXPERIMENT = "apt-models"
ARTEFACTS = "version"
"""Folder of the run's artefacts in which the version lies."""
DIGEST_TAG, MOVES_TAG = "apt.digest", "apt.moves."
"""Tag of a version with the digest of its model, and of a model with the moves of the alias whose name follows."""
MOST_MOVES = 40
"""Moves of an alias that its tag holds; older ones that nothing goes back to are left out then."""
SECONDS_TO_WAIT = 60


@dataclass(frozen=True)
class _Moves:
    moves: tuple[AliasMove, ...]


class MLflowRegistry(Registry):
    """The models of an MLflow server or database that this program has registered there.

    Args:
        uri: tracking URI: `http://127.0.0.1:5000`, `sqlite:///runs/mlflow.db`.
        clock: Unix seconds.

    Raises:
        UserError: it is none, or MLflow is not installed.
    """

    def __init__(self, uri: str, *, clock: Callable[[], float] = time.time) -> None:
        if uri.startswith("azureml"):
            raise UserError(
                f"--mlflow-tracking-uri {uri}: models of an Azure ML workspace are registered by tools/azure_jobs.py "
                "register; give an MLflow server or database"
            )
        if (fault := fault_of_store(uri)) is not None:
            raise UserError(f"--mlflow-tracking-uri: {fault}")
        if not is_installed("mlflow"):
            raise UserError("--registry mlflow: mlflow is not installed; run: pip install -e '.[mlflow]'")
        self.place = without_secrets(uri)
        self._uri = uri
        self._clock = clock
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # its own seven take minutes
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        with self._asking("opening it"):
            self._client = open_client(uri)

    @contextlib.contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """Turn what MLflow and the network raise into one line.

        Raises:
            UserError: MLflow cannot be reached, or refuses.
        """
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, OSError) as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"MLflow at {self.place}: {doing}: {without_secrets(said)}") from error

    # -- reading ---------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """List the models whose names can be ours. See `Registry.names`."""
        with self._asking("listing models"):
            found = self._all_pages(self._client.search_registered_models, None)
        return sorted(model.name for model in found if NAME.fullmatch(model.name))

    def numbers(self, name: str) -> list[int]:
        """List the versions that MLflow has. See `Registry.numbers`."""
        return sorted(int(entry.version) for entry in self._entries(name))

    def _entries(self, name: str) -> list[Any]:
        """Return MLflow's entries of a model's versions.

        Raises:
            UserError: there is no such model.
        """
        checked_name(name)
        with self._asking(f"listing the versions of {name}"):
            found = self._all_pages(self._client.search_model_versions, f"name = '{name}'")
        if not found and name not in (names := self.names()):
            raise UserError(f"there is no model {name!r} in {self.place}{did_you_mean(name, names)}")
        return found

    def _all_pages(self, search: Callable[..., Any], condition: str | None) -> list[Any]:
        page = search(filter_string=condition)
        found = list(page)
        while page.token:
            page = search(filter_string=condition, page_token=page.token)
            found += page
        return found

    def _entry(self, name: str, number: int) -> Any:
        found = [entry for entry in self._entries(name) if int(entry.version) == number]
        if not found:
            raise self._no_such_version(name, number)
        if DIGEST_TAG not in (found[0].tags or {}):
            raise UserError(
                f"{name}:{number}: another program has registered it in {self.place}; it has no {VERSION_NAME}"
            )
        return found[0]

    def version(self, name: str, number: int) -> Version:
        """Fetch one document. See `Registry.version`."""
        entry = self._entry(name, number)
        with tempfile.TemporaryDirectory(prefix="apt-version-") as folder:
            return replace(self._fetched(entry, VERSION_NAME, Path(folder)), number=number)

    def _fetched(self, entry: Any, part: str, folder: Path) -> Version:
        """Download the document of a version, or all of it (part: empty), and return the document as it was sent.

        Raises:
            UserError: MLflow refuses, or the document is damaged.
        """
        with self._asking(f"downloading {entry.name}:{entry.version}"):
            path = f"{ARTEFACTS}/{part}".rstrip("/")
            place = Path(self._client.download_artifacts(entry.run_id, path, str(folder)))
        try:
            found = read_version(place if place.is_dir() else place.parent)
        except FileNotFoundError as error:
            raise DamagedFileError(f"{entry.name}:{entry.version}", f"there is no {VERSION_NAME} in it") from error
        if found.name != entry.name:
            raise DamagedFileError(f"{entry.name}:{entry.version}", f"its {VERSION_NAME} is of {found.name}")
        return found

    def model_path(self, version: Version) -> Path:
        """Refuse: the model is on no disk of this machine. See `Registry.model_path`."""
        raise UserError(f"{version} lies in {self.place}, and --model takes a directory; `pull` writes one")

    def aliases(self, name: str) -> dict[str, int]:
        """Ask where each alias points. See `Registry.aliases`."""
        self._entries(name)
        with self._asking(f"reading the aliases of {name}"):
            found = self._client.get_registered_model(name).aliases
        return {alias: int(found[alias]) for alias in sorted(found)}

    def history(self, name: str, alias: str) -> tuple[AliasMove, ...]:
        """Return the moves of an alias, as far as they were made here. See `Registry.history`."""
        self.resolve(f"{name}@{alias}")
        return self._moves(name, alias)

    def _moves(self, name: str, alias: str) -> tuple[AliasMove, ...]:
        """Return the moves in the tag; one that another program made is added as it is seen.

        Raises:
            UserError: the tag holds something else.
        """
        with self._asking(f"reading the aliases of {name}"):
            model = self._client.get_registered_model(name)
        text, now = (model.tags or {}).get(MOVES_TAG + alias), model.aliases.get(alias)
        where = f"tag {MOVES_TAG}{alias} of {name} in {self.place}"
        try:
            moves = as_declared(parse_json(text), _Moves, where).moves if text else ()
        except ValueError as error:
            raise DamagedFileError(where, error) from error
        trail = pointed_to(moves)
        if moves and not trail:
            raise DamagedFileError(where, "the alias points nowhere; delete the tag: the history is lost then")
        if now is not None and (not trail or trail[-1] != int(now)):
            return (*moves, AliasMove(int(now), round(self._clock(), 3), "set"))
        return moves

    # -- registering -----------------------------------------------------------------------------------------------

    def register(self, name: str, path: Path, *, note: str = "", verification: Path | None = None) -> Registered:
        """Send a finished model to MLflow. See `Registry.register`."""
        checked_name(name)
        note = kept_note(note)
        origin = origin_of(path, verification)
        digest = digest_of(origin.files)
        entries = self._entries(name) if name in self.names() else []
        for entry in entries:
            if (entry.tags or {}).get(DIGEST_TAG) == digest:
                return Registered(self.version(name, int(entry.version)), False, origin.notes)
        known = self.versions(faults=[])  # what another program has registered is no parent
        version = origin.version(name, 0, self._clock(), note, digest, self._parent(origin, known))
        with tempfile.TemporaryDirectory(prefix="apt-version-") as folder:
            for inner, (source, expected) in origin.copied.items():
                if not source.is_file() or not copy_file(source, place_in(Path(folder), inner), expected):
                    raise UserError(f"{source}: it was changed while it was copied; register it when nothing writes")
            write_version(Path(folder), version)
            with self._asking(f"registering {name}"):
                number = self._sent(Path(folder), version)
        return Registered(replace(version, number=number), True, origin.notes)

    def _sent(self, folder: Path, version: Version) -> int:
        """Send the files of a version, let MLflow make it, and return its number."""
        from mlflow.exceptions import MlflowException

        experiment = experiment_id(self._client, self._uri, EXPERIMENT)
        tags = {DIGEST_TAG: version.digest, "family": version.family, "task": version.task or ""}
        run = self._client.create_run(experiment, run_name=f"{version.name} {version.digest[:12]}", tags=tags)
        try:
            for inner in (*version.files, VERSION_NAME):
                place = PurePosixPath(ARTEFACTS, inner).parent.as_posix()
                self._client.log_artifact(run.info.run_id, str(place_in(folder, inner)), place)
            try:
                self._client.create_registered_model(version.name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            made = self._client.create_model_version(
                version.name,
                f"{run.info.artifact_uri}/{ARTEFACTS}",
                run.info.run_id,
                tags=tags,
                description=version.note or None,
                await_creation_for=SECONDS_TO_WAIT,
            )
        except BaseException:
            with contextlib.suppress(MlflowException, OSError):
                self._client.set_terminated(run.info.run_id, "FAILED")
            raise
        self._client.set_terminated(run.info.run_id, "FINISHED")
        return int(made.version)

    # -- aliases ---------------------------------------------------------------------------------------------------

    def _move(self, version: Version, alias: str, answer: GateResult | None) -> int | None:
        moves = self._moves(version.name, alias)
        before = self.aliases(version.name).get(alias)
        if before != version.number and (answer is None or answer.is_open):
            self._set(version.name, alias, (*moves, move_to(version, answer, self._clock())))
        return before

    def rollback(self, name: str, alias: str) -> tuple[int, int]:
        """Go back one move. See `Registry.rollback`."""
        checked_alias(alias)
        self.resolve(f"{name}@{alias}")
        moves = self._moves(name, alias)
        trail = pointed_to(moves)
        move = went_back(f"{name}@{alias}", trail, self._clock())
        self._entry(name, move.number)
        self._set(name, alias, (*moves, move))
        return trail[-1], move.number

    def _set(self, name: str, alias: str, moves: Sequence[AliasMove]) -> None:
        """Let an alias point to where its last move leads; the alias comes first: a lost move is seen and added."""
        if len(moves) > MOST_MOVES:
            moves = _without_detours(moves)[-MOST_MOVES:]
        with self._asking(f"moving {name}@{alias}"):
            self._client.set_registered_model_alias(name, alias, str(moves[-1].number))
            self._client.set_registered_model_tag(name, MOVES_TAG + alias, json.dumps(asdict(_Moves(tuple(moves)))))

    # -- verifying and fetching ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _model_on_disk(self, version: Version) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="apt-version-") as folder:
            self._fetched(self._entry(version.name, version.number), "", Path(folder))
            yield Path(folder) / ARTEFACTS / MODEL_DIRECTORY

    def verify(self, reference: str | None = None) -> Iterator[Verified]:
        """Download versions and compare every byte. See `Registry.verify`."""
        if reference is not None and parts_of(reference)[1]:
            yield self._verified(*self.resolve(reference))
            return
        for name in [reference] if reference is not None else self.names():
            for entry in sorted(self._entries(name), key=lambda entry: int(entry.version)):
                if DIGEST_TAG in (entry.tags or {}):
                    yield self._verified(name, int(entry.version))

    def _verified(self, name: str, number: int) -> Verified:
        with tempfile.TemporaryDirectory(prefix="apt-version-") as folder:
            found = self._fetched(self._entry(name, number), "", Path(folder))
            faults = list(file_faults(Path(folder) / ARTEFACTS, found))
            return Verified(name, number, replace(found, number=number), faults)

    def pull(self, reference: str, output: Path) -> Version:
        """Download a version. See `Registry.pull`."""
        name, number = self.resolve(reference)
        entry, target = self._entry(name, number), refuse_taken(output)
        remedy = "make room, or choose another place"
        with disk_refusals(target, "the version", remedy), replacing_directory(target) as temporary:
            found = self._fetched(entry, "", temporary)
            for part in (temporary / ARTEFACTS).iterdir():
                part.rename(temporary / part.name)
            (temporary / ARTEFACTS).rmdir()
            if (fault := next(file_faults(temporary, found), None)) is not None:
                raise DamagedVersionError(f"{name}:{number}: {fault.path} is {fault.damage.value}; nothing was written")
            version = replace(found, number=number)
            write_version(temporary, version)
        return version


def _without_detours(moves: Sequence[AliasMove]) -> list[AliasMove]:
    """Return the moves that led to where an alias is and can go back to."""
    kept: list[AliasMove] = []
    for move in moves:
        if move.how == "set":
            kept.append(move)
        else:
            kept.pop()
    return kept
