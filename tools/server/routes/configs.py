"""Stored configs, and what can be asked about settings before a run is made of them: are they valid, what do they cost.

A config is a small JSON file in `.server/configs/`. It keeps what the client gave and is checked again when it is used.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tools.server.gate.problems import Problem
from tools.server.gate.run_paths import found_run
from tools.server.gate.state import ServerState
from tools.server.settings.data_sets import find_data_set, list_data_sets
from tools.server.settings.form import make_form
from tools.server.settings.policy import PreparedSettings, SettingsProblem, check, explain
from tools.server.workers.limited_process import run_limited
from training.checkpoints.run_search import read_settings
from training.errors import printable, printable_text
from training.language.messages import Message
from training.storage.atomic import write_atomically
from training.storage.json_files import DamagedFileError, as_declared, parse_json

ID = re.compile(r"[0-9a-f]{12}")
MOST_CONFIGS = 1000
LARGEST_BYTES = 2**20
LONGEST_NAME, LONGEST_DESCRIPTION = 80, 2000
ESTIMATE_SECONDS, MEASURE_SECONDS, ROWS_SECONDS = 120.0, 600.0, 120.0
"""Longest time of a computed estimate, a measured one, and of reading rows."""

Id = Annotated[str, InPath(pattern=r"^[0-9a-f]{12}$")]
PartName = Annotated[str | None, Field(default=None, max_length=200)]


def one_line(text: str) -> str:
    """Return a text that a terminal and a page show in one line.

    Raises:
        ValueError: it is empty, or has line ends, escape sequences or marks that turn the direction of writing.
    """
    if not text.strip():
        raise ValueError("should not be empty")
    if printable(text) != text:
        raise ValueError("should have no line ends and no control characters")
    return text


def plain_text(text: str) -> str:
    """Return a text of any number of lines, if a terminal shows it and does not obey it.

    Raises:
        ValueError: it has escape sequences or marks that turn the direction of writing.
    """
    if printable_text(text) != text:
        raise ValueError("should have no control characters")
    return text


class Asked(BaseModel):
    """Settings of a request."""

    model_config = ConfigDict(extra="forbid")

    settings: dict[str, Any] = Field(default_factory=dict, description="keys short, dotted or nested")
    backend: PartName
    task: PartName
    model: PartName


class NewConfig(Asked):
    """A config to be stored."""

    name: Annotated[str, AfterValidator(one_line)] = Field(min_length=1, max_length=LONGEST_NAME)
    description: Annotated[str, AfterValidator(plain_text)] = Field("", max_length=LONGEST_DESCRIPTION)


class AskedKey(Asked):
    """Settings, and one of them to be explained."""

    key: str = Field(min_length=1, max_length=200)


class AskedEstimate(Asked):
    """Settings to be costed."""

    measure: bool = Field(False, description="train a few updates and measure, instead of only computing")


class Compared(BaseModel):
    """Two things with settings."""

    model_config = ConfigDict(extra="forbid")

    a: str | dict[str, Any] = Field(description="id of a config or of a run, or settings")
    b: str | dict[str, Any]


class StoredConfigs:
    """The configs of a root.

    Args:
        directory: `.server/configs`; it is made when it is first needed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def all(self) -> list[dict[str, Any]]:
        """Return all configs, the newest first; a damaged file is passed over."""
        found = []
        for identity in self._ids():
            with contextlib.suppress(Problem):
                found.append(self.get(identity))
        return sorted(found, key=lambda one: (-one["created_at"], one["id"]))

    def get(self, identity: str) -> dict[str, Any]:
        """Return a config.

        Raises:
            Problem: there is none with this id, or its file is damaged.
        """
        try:
            descriptor = os.open(self._path(identity), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _no_config(identity) from error
        with os.fdopen(descriptor, "rb") as file:
            text = file.read(LARGEST_BYTES + 1)
        try:
            document = as_declared(parse_json(text), dict[str, Any], identity)
            asked = NewConfig.model_validate({k: v for k, v in document.items() if k not in ("id", "created_at")})
            created = float(document["created_at"])
        except (ValueError, KeyError, TypeError, DamagedFileError) as error:
            raise Problem(
                404, "", f"the file of the config {identity} is damaged; delete the config", key="id"
            ) from error
        return {"id": identity, "created_at": created, **asked.model_dump()}

    def add(self, config: NewConfig) -> dict[str, Any]:
        """Store a config and return it with its id.

        Raises:
            Problem: there are too many.
        """
        if len(self._ids()) >= MOST_CONFIGS:
            full = Message("{count} configs are stored, and there may be no more; delete some", count=MOST_CONFIGS)
            raise Problem(409, "", full)
        self._directory.mkdir(mode=0o700, exist_ok=True)
        document = {"id": secrets.token_hex(6), "created_at": time.time(), **config.model_dump()}
        text = json.dumps(document, ensure_ascii=False, indent=1)
        path = self._path(document["id"])
        write_atomically(path, f"{text}\n".encode(), durable=True)
        path.chmod(0o600)
        return document

    def delete(self, identity: str) -> None:
        """Delete a config.

        Raises:
            Problem: there is none with this id.
        """
        try:
            self._path(identity).unlink()
        except OSError as error:
            raise _no_config(identity) from error

    def _path(self, identity: str) -> Path:
        if not ID.fullmatch(identity):
            raise _no_config(identity)
        return self._directory / f"{identity}.json"

    def _ids(self) -> list[str]:
        try:
            names = os.listdir(self._directory)  # noqa: PTH208  # names, not paths
        except OSError:
            return []
        return [name.removesuffix(".json") for name in names if ID.fullmatch(name.removesuffix(".json"))]


def _no_config(identity: str) -> Problem:
    line = Message("no config has the id '{id}'; GET /api/training/configs lists them", id=identity)
    return Problem(404, "", line, key="id")


def checked(state: ServerState, asked: Asked) -> PreparedSettings:
    """Check the settings of a request.

    Raises:
        SettingsProblem: they cannot be used.
    """
    return check(state, asked.settings, backend=asked.backend, task=asked.task, model=asked.model)


def settings_of(state: ServerState, configs: StoredConfigs, named: str | dict[str, Any]) -> dict[str, Any]:
    """Return the settings, by dotted key, of what a request compares.

    Args:
        state: has the root.
        configs: stored ones.
        named: id of a config or a run, or settings.

    Raises:
        Problem: there is no such thing, or its settings cannot be used.
    """
    if isinstance(named, dict):
        return {key: one["value"] for key, one in check(state, named).document().items()}
    if ID.fullmatch(named):
        with contextlib.suppress(Problem):
            stored = configs.get(named)
            parts = {part: stored[part] for part in ("backend", "task", "model")}
            return {key: one["value"] for key, one in check(state, stored["settings"], **parts).document().items()}
    try:
        run = found_run(state, named)
    except Problem:
        advice = "GET /api/training/jobs and …/configs list what there is"
        raise Problem(404, "", f"no config and no run has the id {named!r}; {advice}") from None
    return {key: value for key, value in read_settings(run.path).items() if key != "run.run_dir"}


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the settings that differ, in order of key."""
    return [{"key": key, "a": a.get(key), "b": b.get(key)} for key in sorted({*a, *b}) if a.get(key) != b.get(key)]


def make_router(state: ServerState) -> APIRouter:
    """Return the routes of configs, settings and data sets."""
    router = APIRouter(prefix="/api")
    configs = StoredConfigs(state.directory / "configs")

    @router.post("/training/configs", status_code=201, summary="Store settings under a name")
    def add(config: NewConfig) -> dict[str, Any]:
        checked(state, config)
        return configs.add(config)

    @router.get("/training/configs", summary="List the stored configs, the newest first")
    def every() -> dict[str, Any]:
        return {"configs": configs.all()}

    @router.get("/training/configs/{config_id}", summary="Return a stored config")
    def one(config_id: Id) -> dict[str, Any]:
        return configs.get(config_id)

    @router.delete("/training/configs/{config_id}", status_code=204, summary="Delete a stored config")
    def delete(config_id: Id) -> None:
        configs.delete(config_id)

    @router.post("/training/configs/validate", summary="Check settings as a run would, and resolve them")
    def validate(asked: Asked) -> dict[str, Any]:
        try:
            return {"ok": True, "problems": [], "settings": checked(state, asked).document()}
        except SettingsProblem as error:
            problems = [{"key": one.key, "detail": one.detail, "remedy": one.remedy} for one in error.problems]
            return {"ok": False, "problems": problems, "settings": {}}

    @router.post("/training/configs/explain", summary="Say what a setting means, its value, and who set it")
    def explained(asked: AskedKey) -> dict[str, Any]:
        parts = {"backend": asked.backend, "task": asked.task, "model": asked.model}
        return {"text": explain(state, asked.settings, asked.key, **parts)}

    @router.post("/training/configs/estimate", summary="Say what a run would need: memory, time, disk")
    def estimate(asked: AskedEstimate) -> dict[str, Any]:
        prepared = checked(state, asked)
        request = {"what": "estimate", "config": prepared.config.to_dict(), "measure": asked.measure}
        seconds = MEASURE_SECONDS if asked.measure else ESTIMATE_SECONDS
        found = run_limited("tools.server.workers.forecast", request, seconds, state.stopping)
        return {**found, "lines": prepared.public(found["lines"])}

    @router.post("/training/configs/diff", summary="Return the settings in which two configs or runs differ")
    def diff(compared: Compared) -> dict[str, Any]:
        return {"differences": differences(*(settings_of(state, configs, one) for one in (compared.a, compared.b)))}

    @router.get("/settings/form", summary="Return all settings that a client may set, for a form")
    def form(
        task: Annotated[str | None, Query(max_length=200)] = None,
        model: Annotated[str | None, Query(max_length=200)] = None,
        backend: Annotated[str | None, Query(max_length=200)] = None,
    ) -> dict[str, Any]:
        return make_form(state, backend=backend, task=task, model=model)

    @router.get("/data", summary="List the data sets that can be trained on")
    def data() -> dict[str, Any]:
        return {"data_sets": [one.document() for one in list_data_sets(state.data_directories)]}

    @router.get("/data/{data_id}/rows", summary="Return the first rows of a data set as they will be trained")
    def rows(
        data_id: Id,
        limit: Annotated[int, Query(ge=1, le=50)] = 5,
        task: Annotated[str | None, Query(max_length=200)] = None,
    ) -> dict[str, Any]:
        found = find_data_set(state.data_directories, data_id)
        chosen = None if task is None else check(state, {}, task=task).task
        request = {"what": "rows", "path": str(found.path), "task": chosen, "limit": limit}
        try:
            answer = run_limited("tools.server.workers.forecast", request, ROWS_SECONDS, state.stopping)
        except Problem as problem:
            detail = problem.detail.replace(str(found.path), found.name)
            raise Problem(problem.status, problem.title, detail, remedy=problem.remedy) from None
        lines = [line.replace(str(found.path), found.name) for line in answer["lines"]]
        return {**answer, "lines": lines}

    return router
