"""The jobs of this server under the paths and in the forms of OpenAI's fine-tuning API, for programs that speak it.

    client = openai.OpenAI(base_url="http://127.0.0.1:8765/v1", api_key=TOKEN)
    job = client.fine_tuning.jobs.create(model="apt", training_file=DATA_SET_ID, metadata={"task": "chat"})

`model` is a model family or a run with a finished model, `training_file` a data set of `GET /api/data` (`client.files`
lists them), `suffix` the run's name. What the API has and this server has not is refused, never passed over.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from tools.server.gate.problems import Problem
from tools.server.gate.run_paths import found_run, open_directory, open_in
from tools.server.gate.state import ServerState
from tools.server.routes.checkpoints import checkpoints_of
from tools.server.routes.configs import LONGEST_NAME, one_line
from tools.server.routes.jobs import answering, no_job, queue_of, request_of, stop_job
from tools.server.settings.data_sets import DataSet, find_data_set, list_data_sets
from tools.server.settings.policy import check
from training.experiments.jobs.job_queue import Job
from training.experiments.jobs.states import ENDED, JobState
from training.record.log import LOG_NAME
from training.record.schema import Event, parse_event

PREFIX = "/v1/fine_tuning/jobs"
STATUS: Mapping[JobState, str] = {
    JobState.QUEUED: "queued",
    JobState.STARTING: "validating_files",
    JobState.RUNNING: "running",
    JobState.STOPPING: "running",
    JobState.STOPPED: "cancelled",
    JobState.FINISHED: "succeeded",
    JobState.FAILED: "failed",
    JobState.LOST: "failed",
}
DEFAULT_TASK = "chat"
"""Task where `metadata` names none: what is fine-tuned by this API is conversations."""
MOST_LISTED = 100
PIECE_BYTES = 256 * 1024
"""Bytes at the end of a record in which events are looked for."""
_EVENT_ID = re.compile(r"ftevent-(\d{1,15})")

Auto = Literal["auto"]
Limit = Annotated[int, Query(ge=1, le=MOST_LISTED)]
After = Annotated[str | None, Query(max_length=100)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Hyperparameters(_Strict):
    """Settings of the API; `auto` is what the task has."""

    n_epochs: int | Auto = "auto"
    batch_size: int | Auto = "auto"
    learning_rate_multiplier: float | Auto = "auto"


class Supervised(_Strict):
    """Settings of the method."""

    hyperparameters: Hyperparameters = Hyperparameters()


class Method(_Strict):
    """How a model is trained."""

    type: Literal["supervised"]
    supervised: Supervised = Supervised()


class Metadata(_Strict):
    """Settings that the API has no field for."""

    task: str = Field(DEFAULT_TASK, max_length=200)
    backend: str | None = Field(None, max_length=200)


class NewFineTuningJob(_Strict):
    """A job as the API asks for it."""

    model: str = Field(max_length=200)
    training_file: str = Field(max_length=1000)
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    metadata: Metadata = Metadata()
    suffix: str | None = Field(None, min_length=1, max_length=LONGEST_NAME)
    seed: int | None = None


def make_router(state: ServerState) -> APIRouter:
    """Return the routes of the alias."""
    router = APIRouter(tags=["OpenAI's fine-tuning API"])

    @router.post(PREFIX, summary="Start a job")
    def create(asked: NewFineTuningJob) -> dict[str, Any]:
        return _shown(state, _start(state, asked))

    @router.get(PREFIX, summary="List the jobs, the newest first")
    def every(after: After = None, limit: Limit = 20) -> dict[str, Any]:
        jobs = sorted(queue_of(state).jobs(), key=lambda job: (-job.created_at, job.id))
        return _page([_shown(state, job) for job in _behind(jobs, after, limit + 1)], limit)

    @router.get(PREFIX + "/{job_id}", summary="Show a job")
    def one(job_id: str) -> dict[str, Any]:
        return _shown(state, _known(state, job_id))

    @router.post(PREFIX + "/{job_id}/cancel", summary="Stop a job; it saves a checkpoint first")
    def cancel(job_id: str) -> dict[str, Any]:
        stop_job(state, _known(state, job_id).id, at_once=False)
        return _shown(state, _known(state, job_id))

    @router.post(PREFIX + "/{job_id}/resume", summary="Go on with a job from its newest checkpoint")
    def resume(job_id: str) -> dict[str, Any]:
        with answering(job_id):
            return _shown(state, queue_of(state).resume(_known(state, job_id).id))

    @router.get(PREFIX + "/{job_id}/events", summary="Show what a job has recorded, the newest first")
    def events(job_id: str, after: After = None, limit: Limit = 20) -> dict[str, Any]:
        return _page(list(_events(state, _known(state, job_id), after, limit + 1)), limit)

    @router.get(PREFIX + "/{job_id}/checkpoints", summary="Show the checkpoints of a job, the newest first")
    def checkpoints(job_id: str, after: After = None, limit: Limit = 10) -> dict[str, Any]:
        return _page(list(_checkpoints(state, _known(state, job_id), after, limit + 1)), limit)

    @router.get("/v1/files", summary="List the data sets")
    def files(after: After = None, limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000) -> dict[str, Any]:
        found = list_data_sets(state.data_directories)
        return _page([_file(one) for one in _behind(found, after, limit + 1)], limit)

    @router.get("/v1/files/{file_id}", summary="Show a data set")
    def file(file_id: str) -> dict[str, Any]:
        return _file(find_data_set(state.data_directories, file_id))

    return router


def _start(state: ServerState, asked: NewFineTuningJob) -> Job:
    """Queue a job.

    Raises:
        Problem: what is asked for cannot be had.
    """
    if asked.hyperparameters is not None and asked.method is not None:
        raise Problem(422, "", "hyperparameters and method are given; give method alone", key="hyperparameters")
    wanted = asked.method.supervised.hyperparameters if asked.method else asked.hyperparameters or Hyperparameters()
    settings: dict[str, Any] = {"data.datasets": [asked.training_file]}
    for key, value in (
        ("run.epochs", wanted.n_epochs),
        ("run.batch_size", wanted.batch_size),
        ("run.seed", asked.seed),
    ):
        if value not in (None, "auto"):
            settings[key] = value
    parts = {"backend": asked.metadata.backend, "task": asked.metadata.task, "model": asked.model}

    def checked(further: Mapping[str, Any]) -> Any:
        given = {**settings, **further}
        return check(state, given, backend=parts["backend"], task=parts["task"], model=parts["model"])

    prepared = checked({})
    multiplier = wanted.learning_rate_multiplier
    if multiplier != "auto":
        if not (math.isfinite(multiplier) and multiplier > 0.0):
            raise Problem(422, "", f"learning_rate_multiplier = {multiplier}: should be above 0", key="hyperparameters")
        usual = prepared.config.optimizer.learning_rate
        prepared = checked({"optimizer.learning_rate": usual * multiplier})
    try:
        name = one_line(asked.suffix) if asked.suffix is not None else prepared.task
    except ValueError as error:
        raise Problem(422, "", f"suffix = {asked.suffix!r}: it {error}", key="suffix") from error
    with answering():
        job = queue_of(state).submit(request_of(prepared, name))
    state.index.look()
    return job


def _known(state: ServerState, job_id: str) -> Job:
    job = queue_of(state).job(job_id)
    if job is None:
        raise no_job(job_id)
    return job


def _shown(state: ServerState, job: Job) -> dict[str, Any]:
    """Return a job as the API has it."""
    settings = job.request.settings
    row = state.index.row(job.id)
    is_over = job.state in ENDED
    ended = (job.ended_at or (row.ended_at if row is not None else None)) if is_over else None
    failed = job.state in (JobState.FAILED, JobState.LOST)
    hyperparameters = {
        "n_epochs": settings.get("run.epochs", "auto"),
        "batch_size": settings.get("run.batch_size", "auto"),
        "learning_rate_multiplier": None if "optimizer.learning_rate" in settings else "auto",
    }
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": int(job.created_at),
        "finished_at": None if ended is None else int(ended),
        "model": _model(state, job),
        "fine_tuned_model": job.id if job.state is JobState.FINISHED else None,
        "organization_id": "",
        "status": STATUS[job.state],
        "error": {"code": job.state.value, "message": job.reason, "param": None} if failed else None,
        "hyperparameters": hyperparameters,
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        "metadata": {"task": job.request.task or "", "backend": job.request.backend or ""},
        "training_file": _training_file(state, job),
        "validation_file": None,
        "result_files": [],
        "seed": settings.get("run.seed", 0),
        "trained_tokens": None,
        "estimated_finish": _estimated_finish(row),
        "integrations": [],
    }


def _model(state: ServerState, job: Job) -> str:
    """Return the model that a job starts from: a family, or the run whose finished model it is; never a path."""
    model = job.request.model or ""
    return os.path.basename(os.path.dirname(model)) if os.sep in model else model  # noqa: PTH119, PTH120


def _training_file(state: ServerState, job: Job) -> str:
    """Return the id of a job's data set; empty: it is there no more, or the run was begun at a terminal."""
    paths = set(job.request.settings.get("data.datasets") or ())
    return next((one.id for one in list_data_sets(state.data_directories) if str(one.path) in paths), "")


def _estimated_finish(row: Any) -> int | None:
    if row is None or row.eta_seconds is None or row.updated_at is None:
        return None
    return int(row.updated_at + row.eta_seconds)


def _file(data: DataSet) -> dict[str, Any]:
    return {
        "id": data.id, "object": "file", "bytes": data.bytes, "created_at": int(data.path.stat().st_mtime),
        "filename": data.name, "purpose": "fine-tune", "status": "processed",
    }  # fmt: skip


# -- events and checkpoints ------------------------------------------------------------------------------------------


def _events(state: ServerState, job: Job, after: str | None, most: int) -> Iterator[dict[str, Any]]:
    """Yield the last events of a record, or the last before one of them, the newest first.

    An event's id is the place of its line in the record. So much is read as `PIECE_BYTES` says, whatever the length.
    """
    before = None
    if after is not None:
        if (found := _EVENT_ID.fullmatch(after)) is None:
            raise Problem(400, "", f"after={after!r} is the id of no event", key="after")
        before = int(found[1])
    run = found_run(state, job.id)
    try:
        with open_directory(state.root, run.path) as folder, open_in(folder, LOG_NAME) as file:
            end = file.seek(0, os.SEEK_END) if before is None else min(before, file.seek(0, os.SEEK_END))
            begin = max(0, end - PIECE_BYTES)
            file.seek(begin)
            piece = file.read(end - begin)
    except OSError:
        return  # it has recorded nothing yet
    place = begin
    lines = []
    for number, line in enumerate(piece.splitlines(keepends=True)):
        if line.endswith(b"\n") and (number > 0 or begin == 0):
            lines.append((place, line))
        place += len(line)
    count = 0
    for at, line in reversed(lines):
        event = parse_event(line)
        if event is not None and (message := _message_of(event)) is not None:
            yield {
                "id": f"ftevent-{at}", "object": "fine_tuning.job.event", "created_at": int(event["time"]),
                "level": {"run_failed": "error", "warning": "warn"}.get(event["event"], "info"),
                "message": message, "type": "metrics" if event["event"] in ("step", "eval") else "message",
                "data": _figures(event),
            }  # fmt: skip
            count += 1
            if count == most:
                return


def _message_of(event: Event) -> str | None:
    """Return an event in words; None: it is worth none."""
    name = event["event"]
    if name == "step":
        return f"Step {event['step']}: training loss={_number(event.get('loss'))}"
    if name == "eval":
        return f"Step {event['step']}: validation loss={_number(event.get('loss'))}"
    if name == "checkpoint":
        return f"Checkpoint created at step {event['step']}"
    if name == "warning":
        return str(event["message"])
    if name == "run_failed":
        return f"The job failed: {event.get('error')}"
    return {
        "run_started": "Fine-tuning job started", "run_resumed": "Fine-tuning job resumed",
        "run_stopped": "The job was cancelled", "run_finished": "The job has successfully completed",
    }.get(name)  # fmt: skip


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "?"


def _figures(event: Event) -> dict[str, float | int]:
    return {
        key: value
        for key, value in event.items()
        if key != "time" and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _checkpoints(state: ServerState, job: Job, after: str | None, most: int) -> Iterator[dict[str, Any]]:
    """Yield the checkpoints of a job, the newest first."""
    run = found_run(state, job.id)
    found = [one for one in checkpoints_of(state, run) if one["kind"] == "checkpoint" and one["step"] is not None]
    for one in _behind(found, after, most):
        yield {
            "id": one["id"], "object": "fine_tuning.job.checkpoint", "created_at": int(one["time"]),
            "fine_tuned_model_checkpoint": one["id"], "fine_tuning_job_id": job.id, "step_number": one["step"],
            "metrics": {"step": one["step"]},
        }  # fmt: skip


# -- pages -----------------------------------------------------------------------------------------------------------


def _behind(items: list[Any], after: str | None, most: int) -> list[Any]:
    """Return the items behind the one with an id, which may have gone; then there are none."""
    if after is None:
        return items[:most]
    ids = [item["id"] if isinstance(item, dict) else item.id for item in items]
    with contextlib.suppress(ValueError):
        begin = ids.index(after) + 1
        return items[begin : begin + most]
    return []


def _page(found: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """Return a page of the API; `found` has one more than it may show, if there is one."""
    return {"object": "list", "data": found[:limit], "has_more": len(found) > limit}
