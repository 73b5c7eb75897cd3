"""From where a job goes on: another job's run directory in the datastore, or a run of this machine that goes along."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from apt_model.errors import UserError
from training.azure_job.handle import JobHandle
from training.azure_job.inner_run import DATA_DIRECTORY
from training.azure_job.job_document import OUTPUT
from training.azure_job.names import RULES
from training.azure_job.options import options_of
from training.backend import RunRequest
from training.config import TrainingConfig
from training.manifest import checkpoint_directories, existing_form
from training.run_directory import CONFIG_NAME

if TYPE_CHECKING:
    from training.azure_job.workspace import Workspace


@dataclass(frozen=True)
class GoingOn:
    """At most one of `job` and `start` is given; neither: the run begins at its beginning."""

    job: str | None = None
    """A job whose run directory the new one goes on in."""
    path: str | None = None
    """That directory, within the datastore; None: it has to be asked of the service."""
    start: Path | None = None
    """A run directory or checkpoint on this machine, which is uploaded."""


def going_on(request: RunRequest) -> GoingOn:
    """What `--resume` means, as far as it can be told offline.

    Raises:
        UserError: the run directory holds a sweep, which has no one run to go on with.
    """
    run_dir = request.config.run.run_dir
    if not request.resume:
        return GoingOn()
    if request.resume_from is not None:
        for path in (existing_form(request.resume_from.expanduser()), existing_form(run_dir / request.resume_from)):
            if path.exists():
                return GoingOn(start=path)
        name = str(request.resume_from)
        if re.fullmatch(RULES["job_name"].pattern, name) is None:
            raise UserError(f"--resume {name}: there is no such checkpoint or run here, and no job can be called so")
        return GoingOn(job=name)
    if handle := JobHandle.read(run_dir):
        if handle.path is None:
            raise UserError(
                f"--resume: {run_dir} holds the sweep {handle.job}, which is many runs; go on with one trial: "
                "--resume TRIAL with another --run-dir"
            )
        return GoingOn(job=handle.job, path=handle.path)
    if checkpoint_directories(run_dir):
        return GoingOn(start=run_dir)
    print(f"{run_dir}: no checkpoint yet, training starts from the beginning", flush=True)
    return GoingOn()


def run_path(workspace: Workspace, job: str, datastore: str) -> str:
    """Where a job keeps its run directory, within the datastore.

    Raises:
        UserError: there is no such job, it is none of ours, still runs, or keeps its run elsewhere.
    """
    from training.azure_job.job_state import look_at
    from training.azure_job.refusals import ServiceError, service_refusals

    try:
        with service_refusals(f"looking for job {job}"):
            found = workspace.client.jobs.get(job)
            state = look_at(workspace, job)
    except ServiceError as error:
        if error.status != 404:
            raise
        raise UserError(
            f"--resume {job}: there is no such checkpoint or run here, and no such job in the workspace "
            f"{workspace.address.workspace_name}; `python tools/azure_jobs.py list` shows the jobs"
        ) from error
    output = (getattr(found, "outputs", None) or {}).get(OUTPUT)
    place = re.search(r"datastores/([^/]+)/paths/(.+?)/?$", str(getattr(output, "path", None) or ""))
    if place is None:
        raise UserError(f"--resume {job}: this job has no run to go on with (no output {OUTPUT!r}); is it one of ours?")
    if not state.has_ended:
        raise UserError(
            f"--resume {job}: the job has not ended ({state.status}), and two jobs must not write one run; wait for it "
            f"(python tools/azure_jobs.py stream {job}) or cancel it"
        )
    if place[1] != datastore:
        raise UserError(f"--resume {job}: its run is kept in the datastore {place[1]}; give --datastore {place[1]}")
    return place[2].replace("${{name}}", job)  # of a trial


def settings_of_job(job: str, config: TrainingConfig) -> dict[str, Any]:
    """The resolved settings of a job's run, as it wrote them down.

    Raises:
        UserError: no such job, or it has written none yet.
    """
    from training.azure_job.address import find_address
    from training.azure_job.refusals import service_refusals
    from training.azure_job.sdk import load_sdk
    from training.azure_job.workspace import Workspace

    load_sdk()
    from azure.core.exceptions import ResourceNotFoundError

    options = options_of(config)
    workspace = Workspace.connect(find_address(options))
    path = run_path(workspace, job, options.datastore)
    with service_refusals(f"reading the settings of job {job}"):
        try:
            content = workspace.container(options.datastore).download_blob(f"{path}/{CONFIG_NAME}").readall()
        except ResourceNotFoundError as error:
            raise UserError(
                f"--resume {job}: it wrote no {CONFIG_NAME}, so it never began to train; start it anew without --resume"
            ) from error
    settings = yaml.safe_load(content)
    if not isinstance(settings, dict):
        raise UserError(f"--resume {job}: its {CONFIG_NAME} is damaged")
    return as_submitted(settings)


def as_submitted(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run in a job, less what was changed for the job: paths, trackers, the number of nodes."""
    kept = {name: value for name, value in settings.items() if name != "track"}
    kept["launch"] = {name: value for name, value in settings.get("launch", {}).items() if name != "nnodes"}
    data = dict(settings.get("data", {}))
    data["datasets"] = [name.removeprefix(f"{DATA_DIRECTORY}/") for name in data.get("datasets", ())]
    return {**kept, "data": data}
