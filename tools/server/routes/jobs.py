"""Routes that start, stop, resume and delete jobs. What a job is doing is shown by the routes of runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tools.server.gate.problems import Problem, line_of
from tools.server.gate.run_paths import found_run, is_below
from tools.server.gate.state import ServerState
from tools.server.routes.checkpoints import checkpoints_of
from tools.server.routes.configs import LONGEST_NAME, Asked, StoredConfigs, one_line
from tools.server.settings.policy import LOCAL_BACKENDS, PreparedSettings, check
from training.backends.placement import placement_of
from training.backends.prepare import DEFAULT_BACKEND
from training.checkpoints.run_search import read_settings
from training.experiments.jobs.files import JobRequest
from training.experiments.jobs.job_queue import (
    LARGEST_PRIORITY,
    Job,
    JobQueue,
    JobStateError,
    KeyTakenError,
    UnknownJobError,
)
from training.experiments.store.identity import is_run_id
from training.language.messages import Message

PREFIX = "/api/training/jobs"
LONGEST_KEY = 200
"""Characters of an idempotency key."""


class NewJob(Asked):
    """A run to be started, from settings or from a stored config."""

    config_id: str | None = Field(None, max_length=100, description="id of a stored config, in place of settings")
    name: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(one_line)] | None = None
    dataset: str | None = Field(None, max_length=1000, description="id or name of a data set of GET /api/data")
    priority: int = Field(0, ge=-LARGEST_PRIORITY, le=LARGEST_PRIORITY)


class HowToStop(BaseModel):
    """Way to stop a job."""

    model_config = ConfigDict(extra="forbid")
    at_once: bool = Field(False, description="kill it, without a checkpoint")


class HowToResume(BaseModel):
    """Place from which a job goes on."""

    model_config = ConfigDict(extra="forbid")
    checkpoint: str | None = Field(
        None, max_length=300, description="id or name of one of the run's checkpoints; null: the newest good one"
    )


class NewPriority(BaseModel):
    """Priority of a job."""

    model_config = ConfigDict(extra="forbid")
    priority: int = Field(ge=-LARGEST_PRIORITY, le=LARGEST_PRIORITY)


Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", max_length=LONGEST_KEY, description="the same key again is the same job again"),
]


def make_router(state: ServerState) -> APIRouter:
    """Return the routes of jobs."""
    router = APIRouter(prefix=PREFIX, tags=["jobs"])
    configs = StoredConfigs(state.directory / "configs")

    @router.post("/start", status_code=202, summary="Start a run, as soon as a slot is free")
    def start(asked: NewJob, response: Response, key: Key = None) -> dict[str, Any]:
        job = start_job(state, configs, asked, key)
        response.headers["location"] = f"{PREFIX}/{job.id}"
        return shown(state, job)

    @router.post("/{job_id}/stop", status_code=202, summary="Stop a job; it saves a checkpoint first")
    def stop(job_id: str, how: HowToStop | None = None) -> dict[str, Any]:
        return stop_job(state, job_id, at_once=how is not None and how.at_once)

    @router.post("/{job_id}/resume", status_code=202, summary="Go on with a job or run from one of its checkpoints")
    def resume(job_id: str, how: HowToResume | None = None) -> dict[str, Any]:
        """Queue it again. From an earlier checkpoint, what came later is set aside in the run directory."""
        with answering(job_id):
            run_dir = directory_without_job(state, job_id)
            backend = None if run_dir is None else _backend_of(run_dir)
            asked = None if how is None else how.checkpoint
            checkpoint = None if asked is None else _checkpoint_of(state, job_id, asked)
            job = queue_of(state).resume(job_id, run_dir=run_dir, backend=backend, checkpoint=checkpoint)
            return shown(state, job)

    @router.post("/{job_id}/priority", summary="Let a job that waits start earlier or later")
    def priority(job_id: str, new: NewPriority) -> dict[str, Any]:
        with answering(job_id):
            return shown(state, queue_of(state).set_priority(job_id, new.priority))

    @router.delete("/{job_id}", summary="Delete a job that is not at work, and on request all that its run has written")
    def delete(
        job_id: str, files: Annotated[bool, Query(description="the record, checkpoints and models too")] = False
    ) -> dict[str, Any]:
        with answering(job_id):
            run_dir = directory_without_job(state, job_id)
            if run_dir is not None and not files:
                raise Problem(
                    409, "", "this run was not started by a server, so it is nothing but its files; add ?files=true"
                )
            queue_of(state).delete(job_id, files=files, run_dir=run_dir)
        state.index.look()
        return {"job_id": job_id, "status": "deleted"}

    return router


def start_job(state: ServerState, configs: StoredConfigs, asked: NewJob, key: str | None) -> Job:
    """Queue a run and return its job; with a key that was used before, the earlier one.

    Args:
        state: what all routes share.
        configs: the stored ones.
        asked: what is wanted.
        key: idempotency key.

    Raises:
        Problem: settings cannot be used, there is no such config, or the key was used for something else.
    """
    settings: dict[str, Any] = dict(asked.settings)
    parts = {"backend": asked.backend, "task": asked.task, "model": asked.model}
    name = asked.name
    if asked.config_id is not None:
        if settings:
            raise Problem(422, "", "settings and a config are given; give one of them", key="settings")
        stored = configs.get(asked.config_id)
        settings = dict(stored["settings"]) if asked.dataset is None else _without_data_sets(stored["settings"])
        parts = {part: stored[part] if value is None else value for part, value in parts.items()}
        name = name if name is not None else stored["name"]
    if asked.dataset is not None:
        settings["data.datasets"] = [asked.dataset]
    prepared = check(state, settings, backend=parts["backend"], task=parts["task"], model=parts["model"])
    with answering(key="Idempotency-Key"):
        return queue_of(state).submit(request_of(prepared, name or prepared.task, asked.priority, key))


def _without_data_sets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without their data sets, whichever way these are written."""
    kept = {name: value for name, value in settings.items() if name not in ("datasets", "data.datasets")}
    if isinstance(inner := kept.get("data"), dict):
        kept["data"] = {name: value for name, value in inner.items() if name != "datasets"}
    return kept


def request_of(prepared: PreparedSettings, name: str, priority: int = 0, key: str | None = None) -> JobRequest:
    """Return the request for a job with settings that were checked."""
    settings = {name: value for name, value in prepared.settings.items() if name != "model.model"}
    return JobRequest(
        name=name,
        settings=settings,
        backend=prepared.backend,
        task=prepared.task,
        model=prepared.settings.get("model.model", prepared.model),  # the directory of a finished model, or a family
        priority=priority,
        slots=placement_of(prepared.config).ranks_here,
        key=key,
    )


def stop_job(state: ServerState, job_id: str, *, at_once: bool) -> dict[str, Any]:
    """Ask a job, or a run of a terminal, to stop.

    Raises:
        Problem: there is none, or it has ended.
    """
    with answering(job_id):
        queue_of(state).stop(job_id, at_once=at_once, run_dir=directory_without_job(state, job_id))
        job = queue_of(state).job(job_id)
    return {"job_id": job_id, "status": "stopping"} if job is None else shown(state, job)


def shown(state: ServerState, job: Job) -> dict[str, Any]:
    """Return what a client gets to know of a job that it has changed; lists and streams know it too by then."""
    state.index.look()
    position = queue_of(state).position(job.id)
    job = queue_of(state).job(job.id) or job  # asked after the position: a job that has none does not wait
    return {"job_id": job.id, "name": job.name, "status": job.state.value, "position": position}


def queue_of(state: ServerState) -> JobQueue:
    """Return the queue of the server."""
    queue: JobQueue = state.queue
    return queue


@contextlib.contextmanager
def answering(job_id: str | None = None, key: str | None = None) -> Iterator[None]:
    """Turn what the queue refuses into problems.

    Args:
        job_id: of the address.
        key: field that is at fault where the queue refuses a request.

    Raises:
        Problem: there is no such job (404), its state does not allow it (409), or its key was used before (422).
    """
    if job_id is not None and not is_run_id(job_id):
        raise no_job(job_id)
    try:
        yield
    except UnknownJobError:
        raise no_job(job_id or "") from None
    except JobStateError as error:
        raise Problem(409, "", line_of(error)) from error
    except KeyTakenError as error:
        raise Problem(422, "", line_of(error), key=key) from error


def no_job(job_id: str) -> Problem:
    """Return the answer to an id that nothing has."""
    line = Message("no job and no run has the id '{id}'; GET {path} lists them", id=job_id, path=PREFIX)
    return Problem(404, "No such run", line)


def directory_without_job(state: ServerState, run_id: str) -> Path | None:
    """Return the directory of a run that was started without a server; None: there is a job, or nothing."""
    if queue_of(state).job(run_id) is not None:
        return None
    found = state.index.find(run_id)
    return found.path if found is not None and is_below(state.root, found.path) and found.path.is_dir() else None


def _checkpoint_of(state: ServerState, run_id: str, asked: str) -> str:
    """Return the name of the checkpoint that a request means.

    Raises:
        Problem: the run has none of this id or name, or it is no checkpoint but a finished model.
    """
    for one in checkpoints_of(state, found_run(state, run_id)):
        if asked in (one["id"], one["name"]):
            if one["kind"] == "model":
                line = Message(
                    "{name} is a finished model, which holds no state to go on from; choose a checkpoint",
                    name=one["name"],
                )
                raise Problem(422, "", line, key="checkpoint")
            return str(one["name"])
    line = Message(
        "the run has no checkpoint '{asked}'; GET {path} lists them",
        asked=asked,
        path=f"{PREFIX}/{run_id}/checkpoints",
    )
    raise Problem(404, "No such checkpoint", line, key="checkpoint")


def _backend_of(run_dir: Path) -> str:
    """Return the backend on which a run of a terminal goes on.

    Raises:
        Problem: it is none of this machine's.
    """
    backend = read_settings(run_dir).get("backend", DEFAULT_BACKEND)
    if backend not in LOCAL_BACKENDS:
        raise Problem(
            409,
            "",
            Message(
                "the run was trained by the backend '{backend}'; resume it where it was started, by --resume",
                backend=str(backend),
            ),
        )
    return str(backend)
