"""From where a job goes on: another job's run directory in the datastore, or a run of this machine that goes along."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from training.azure.handle import JobHandle
from training.azure.inner_run import DATA_DIRECTORY, FILES_DIRECTORY
from training.azure.job_document import OUTPUT
from training.azure.names import RULES
from training.azure.options import options_of
from training.backends.protocol import RunRequest
from training.checkpoints.manifest import NAME as MANIFEST_NAME
from training.checkpoints.manifest import checkpoint_directories, existing_form
from training.checkpoints.run_directory import CONFIG_NAME, RunDirectory
from training.errors import ConfigError, UserError
from training.record.reporter import read_report
from training.settings.tree import TrainingConfig

if TYPE_CHECKING:
    from training.azure.workspace import Workspace


@dataclass(frozen=True)
class GoingOn:
    """Neither `job` nor `start`: the run begins at its beginning."""

    job: str | None = None
    """A job whose run directory the new one goes on in."""
    path: str | None = None
    """That directory, within the datastore; None: it has to be asked of the service."""
    start: Path | None = None
    """A run directory or checkpoint on this machine, which is uploaded. With `job` too: it counts only where the job
    has left no checkpoint, as one that was cancelled before it began."""


def going_on(request: RunRequest) -> GoingOn:
    """What `--resume` means, as far as it can be told offline.

    Raises:
        UserError: the run directory holds a sweep, which has no one run to go on with.
    """
    run_dir = request.config.run.run_dir
    if not request.resume:
        return GoingOn()
    if options_of(request.config).sweep:
        raise ConfigError("--sweep and --resume do not go together: every trial begins anew, with settings of its own")
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
        return GoingOn(handle.job, handle.path, run_dir if checkpoint_directories(run_dir) else None)
    if checkpoint_directories(run_dir):
        return GoingOn(start=run_dir)
    print(f"{run_dir}: no checkpoint yet, training starts from the beginning", flush=True)
    return GoingOn()


def refuse_another_run_there(on: GoingOn, run_dir: Path) -> None:
    """The record of the run that goes on comes into `run_dir`, where no other may be.

    Raises:
        UserError: there is one.
    """
    own = JobHandle.read(run_dir)
    if on.start is not None:
        is_there = run_dir.resolve() in (on.start.resolve(), on.start.resolve().parent)
    else:
        is_there = on.job is None or (own is not None and own.job == on.job)
    holds = [f"the job {own.job}"] if own is not None else RunDirectory(run_dir, claim=False).holds_run()
    if holds and not is_there:
        raise UserError(
            f"--run-dir {run_dir}: it holds another run ({', '.join(holds)}), which stays as it is; give another "
            f"directory to go on with {on.job or on.start}"
        )


def looked_up(on: GoingOn, ended: EndedJob, run_dir: Path) -> GoingOn:
    """The same with what only the service knows: where the job keeps its run, and whether one can go on there.

    Args:
        on: names the job.
        ended: that job.
        run_dir: of this machine.

    Raises:
        UserError: the run is gone from the datastore, and its record is here; or the storage refuses.
    """
    from training.azure.refusals import service_refusals

    with service_refusals(f"looking for the checkpoints of job {ended.job}"):
        blobs = ended.workspace.container(ended.datastore).list_blobs(name_starts_with=f"{ended.path}/checkpoint")
        can_go_on = any(blob.name.endswith(f"/{MANIFEST_NAME}") for blob in blobs)
    if can_go_on:
        if on.start is not None:
            print(f"job {on.job} goes on with its own checkpoints in the datastore; those of {on.start} stay here")
        return replace(on, path=ended.path, start=None)
    if on.start is not None:
        print(f"job {on.job} has left no checkpoint: the run goes on from that of {on.start}", flush=True)
    elif (read_report(run_dir) or {}).get("checkpoints"):
        raise UserError(
            f"--resume: {run_dir} holds the record of job {on.job}, whose checkpoints are no longer in the datastore "
            f"{ended.datastore} ({ended.path}); start anew in another --run-dir, or with --overwrite"
        )
    else:
        print(f"job {on.job} has left no checkpoint: training starts from the beginning", flush=True)
    return replace(on, path=ended.path)


@dataclass(frozen=True)
class EndedJob:
    """A job whose run another one may go on with: it has ended, so nobody else writes there."""

    workspace: Workspace
    job: str
    datastore: str
    path: str
    """Of its run directory, within the datastore."""
    nodes: int
    """Machines that it ran on."""


def find_ended_job(workspace: Workspace, job: str, datastore: str) -> EndedJob:
    """Ask the service for a job to go on with.

    Args:
        workspace: of the job.
        job: its name.
        datastore: where the new job keeps its run.

    Raises:
        UserError: there is no such job, it is none of ours, still runs, or keeps its run elsewhere.
    """
    from training.azure.job_state import look_at
    from training.azure.refusals import ServiceError, service_refusals

    try:
        with service_refusals(f"looking for job {job}"):
            state = look_at(workspace, job)
    except ServiceError as error:
        if error.status != 404:
            raise
        raise UserError(
            f"--resume {job}: there is no such checkpoint or run here, and no such job in the workspace "
            f"{workspace.address.workspace_name}; `python tools/azure_jobs.py list` shows the jobs"
        ) from error
    if state.is_sweep:
        raise UserError(
            f"--resume {job}: this is a sweep, which is many runs; go on with one trial (`python tools/azure_jobs.py "
            f"show {job}` names them): --resume TRIAL with another --run-dir"
        )
    if state.run is None:
        raise UserError(f"--resume {job}: this job has no run to go on with (no output {OUTPUT!r}); is it one of ours?")
    if not state.has_ended:
        raise UserError(
            f"--resume {job}: the job has not ended ({state.status}), and two jobs must not write one run; wait for it "
            f"(python tools/azure_jobs.py stream {job}) or cancel it"
        )
    keeps_in, path = state.run
    if keeps_in != datastore:
        raise UserError(f"--resume {job}: its run is kept in the datastore {keeps_in}; give --datastore {keeps_in}")
    return EndedJob(workspace, job, datastore, path, state.nodes)


def job_named(job: str, config: TrainingConfig) -> EndedJob:
    """The job that `--resume JOB` names, in the workspace that the config names.

    Raises:
        UserError: see `find_ended_job`; or the workspace cannot be reached.
    """
    from training.azure.address import find_address
    from training.azure.workspace import Workspace

    options = options_of(config)
    return find_ended_job(Workspace.connect(find_address(options)), job, options.datastore)


def settings_of_job(ended: EndedJob) -> dict[str, Any]:
    """The resolved settings of a job's run, as it wrote them down.

    Raises:
        UserError: it has written none, they are damaged, or the storage refuses.
    """
    from azure.core.exceptions import ResourceNotFoundError

    from training.azure.refusals import service_refusals

    job, place = ended.job, f"{ended.path}/{CONFIG_NAME}"
    with service_refusals(f"reading the settings of job {job}"):
        try:
            content = ended.workspace.container(ended.datastore).download_blob(place).readall()
        except ResourceNotFoundError as error:
            raise UserError(
                f"--resume {job}: it wrote no {CONFIG_NAME}, so it never began to train; start it anew without --resume"
            ) from error
    try:
        return as_submitted(yaml.safe_load(content), ended.nodes)
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise UserError(f"--resume {job}: its {CONFIG_NAME} ({ended.path}) is damaged") from error


def as_submitted(settings: dict[str, Any], nodes: int) -> dict[str, Any]:
    """The settings of a run in a job, less what was changed for the job: paths, trackers, the number of nodes.

    A file that went along is looked for here by its bare name.
    """
    kept = {
        section: {name: _here(value) for name, value in values.items()} if isinstance(values, dict) else values
        for section, values in settings.items()
        if section != "track"
    }
    kept["launch"] = {**kept.get("launch", {}), "nnodes": nodes}
    data = dict(settings.get("data", {}))
    data["datasets"] = [name.removeprefix(f"{DATA_DIRECTORY}/") for name in data.get("datasets", ())]
    return {**kept, "data": data}


def _here(value: Any) -> Any:
    return value.removeprefix(f"{FILES_DIRECTORY}/") if isinstance(value, str) else value
