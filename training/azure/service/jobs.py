"""Jobs as the service knows them: their state, and once they have ended, why and where their logs are.

The states are the service's own words. `jobs.get` of the SDK returns the state alone; the error, the times and the logs
are in the run history, for which the SDK has no public method.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from training.azure.service.errors import service_refusals

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job

    from training.azure.service.workspace import Workspace


RUNS_PATH = "apt-runs"
"""Directory in the datastore that holds the run directories, each named after its job."""
OUTPUT = "run"
"""Output of a job that is its run directory. Its path is fixed, so an interrupted job finds its checkpoints again."""
WAITING = frozenset({"NotStarted", "Starting", "Provisioning", "Preparing", "Queued"})
"""States in which the job has no machine, or not now."""
ENDED = frozenset({"Completed", "Failed", "Canceled"})
"""States that are final. NotResponding and Paused, which the SDK counts among them, may go on."""
BEST_TRIAL = "best_child_run_id"
"""Property of a sweep that names the best trial so far, by the service's judgement."""


@dataclass(frozen=True)
class JobState:
    """A job as the service knows it at one moment. Times are Unix seconds."""

    job: str
    status: str
    kind: str
    """`command` or `sweep`; `base` for a trial that the service knows from its history alone."""
    experiment: str
    studio_url: str | None
    created: float | None
    timeout: int | None = None
    """Time limit in seconds."""
    run: tuple[str, str] | None = None
    """Datastore of its run directory, and the path within it; None: unknown, or the job is not one of this project."""
    nodes: int = 1
    """Number of machines that it runs on."""
    objective: tuple[str, str] | None = None
    """Metric of a sweep, and `minimize` or `maximize`."""
    searched: tuple[str, ...] = ()
    """Settings that a sweep varies."""
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_waiting(self) -> bool:
        """True while it has no machine (now)."""
        return self.status in WAITING

    @property
    def has_ended(self) -> bool:
        """True once it will not run again."""
        return self.status in ENDED

    @property
    def is_sweep(self) -> bool:
        """True if its trials do the training."""
        return self.kind == "sweep"

    def age(self) -> float | None:
        """Return the seconds since it was created."""
        return None if self.created is None else max(0.0, time.time() - self.created)


@dataclass(frozen=True)
class RunHistory:
    """Times, error and logs of a job from its run history."""

    started: float | None
    ended: float | None
    error: str | None
    """Error in the service's own words, in one line."""
    log_urls: Mapping[str, str]
    """Name such as `user_logs/std_log.txt` -> URL that may be read for a while without a login."""

    @property
    def seconds(self) -> float | None:
        """Seconds that it ran, where both ends are known."""
        return self.ended - self.started if self.started is not None and self.ended is not None else None


def look_at(workspace: Workspace, job: str) -> JobState:
    """Ask the service for a job's present state.

    Raises:
        azure.core.exceptions.AzureError: the service refuses, there is no such job, or it cannot be reached.
    """
    return state_of(workspace.client.jobs.get(job))


def jobs_of(workspace: Workspace, at_most: int, parent: str | None = None) -> list[JobState]:
    """List the workspace's latest jobs, newest first, or a sweep's trials.

    Raises:
        azure.core.exceptions.AzureError: the service refuses or cannot be reached.
    """
    found: list[JobState] = []
    jobs: Iterable[Job | None] = workspace.client.jobs.list(parent_job_name=parent)
    for job in jobs:
        if job is not None:  # one that this SDK cannot read
            found.append(state_of(job))
        if len(found) >= at_most:
            break
    return found


def history_of(workspace: Workspace, job: str) -> RunHistory:
    """Ask the run history for times, error and logs of a job.

    Raises:
        azure.core.exceptions.AzureError: the service refuses or cannot be reached.
    """
    details = workspace.client.jobs._runs_operations.get_run_details(job)
    error = getattr(details.error, "error", None)
    message = getattr(error, "message", None) or getattr(error, "code", None)
    return RunHistory(
        started=_seconds(details.start_time_utc),
        ended=_seconds(details.end_time_utc),
        error=" ".join(message.split()) if message else None,
        log_urls=dict(details.log_files or {}),
    )


def state_of(job: Job) -> JobState:
    """Convert a job of the SDK."""
    timeout = getattr(getattr(job, "limits", None), "timeout", None)
    return JobState(
        job=str(job.name),
        status=_word(job.status) or "NotStarted",
        kind=_word(job.type) or "command",
        experiment=job.experiment_name or "",
        studio_url=_studio_url(job),
        created=_seconds(getattr(job.creation_context, "created_at", None)),
        timeout=int(timeout) if timeout else None,
        run=_run_output(job),
        nodes=int(getattr(getattr(job, "resources", None), "instance_count", None) or 1),
        objective=_objective(job),
        searched=tuple(getattr(job, "search_space", None) or ()),
        tags=dict(job.tags or {}),
        properties=dict(job.properties or {}),
    )


def _word(value: Any) -> str:
    """Return the service's word, also where the SDK has an enumeration for it."""
    return str(getattr(value, "value", value) or "")


def _run_output(job: Job) -> tuple[str, str] | None:
    output = (getattr(job, "outputs", None) or {}).get(OUTPUT)
    found = re.search(r"datastores/([^/]+)/paths/(.+?)/?$", str(getattr(output, "path", None) or ""))
    if found is None:
        return None
    # In a sweep the placeholder stands for the name of each trial.
    return found[1], found[2] if _word(job.type) == "sweep" else found[2].replace("${{name}}", str(job.name))


def _objective(job: Job) -> tuple[str, str] | None:
    objective = getattr(job, "objective", None)
    if objective is None or not objective.primary_metric:
        return None
    return str(objective.primary_metric), str(objective.goal or "minimize").lower()


def _studio_url(job: Job) -> str | None:
    # A trial from the run history has its services in another form, and none for Studio.
    try:
        url: str | None = job.studio_url
        return url
    except AttributeError:
        return None


def _seconds(moment: Any) -> float | None:
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            return None
    if not isinstance(moment, datetime):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def cancel(workspace: Workspace, state: JobState) -> str:
    """Ask the service to end a job. A second call, or one after its end, does nothing. Returns a line for the user.

    Raises:
        UserError: the service refuses.
    """
    from azure.core.exceptions import HttpResponseError

    if state.has_ended:
        return f"job {state.job} has ended already ({state.status})"
    if state.status == "CancelRequested":
        return f"job {state.job} is being cancelled already"
    with service_refusals(f"cancelling job {state.job}"):
        try:
            workspace.client.jobs.begin_cancel(state.job, polling=False)
        except HttpResponseError:
            now = look_at(workspace, state.job)
            if not now.has_ended:
                raise
            return f"job {state.job} has ended meanwhile ({now.status})"
    return f"job {state.job} is being cancelled; its checkpoints stay where they are"
