"""The run that `--resume` continues: another job's run directory in the datastore, or a run of this machine."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.azure.service.address import find_address
from training.azure.service.errors import ServiceError, service_refusals
from training.azure.service.job_file import JobHandle
from training.azure.service.jobs import OUTPUT, look_at
from training.azure.service.workspace import Workspace
from training.azure.settings.inner_run import DATA_DIRECTORY, FILES_DIRECTORY
from training.azure.settings.options import RULES, options_of
from training.backends.protocol import RunRequest
from training.checkpoints.manifest import NAME as MANIFEST_NAME
from training.checkpoints.manifest import checkpoint_directories
from training.checkpoints.run_directory import CONFIG_NAME, RunDirectory, run_directory_of
from training.checkpoints.run_settings import path_to_go_on_from
from training.errors import CheckpointError, ConfigError, UserError
from training.record.reporter import read_report
from training.settings.plain_yaml import parse_yaml
from training.settings.tree import TrainingConfig


@dataclass(frozen=True)
class ResumeSource:
    """The run that is continued. Without `job` and `start` the run starts from the beginning."""

    job: str | None = None
    """Job in whose run directory the new one continues."""
    path: str | None = None
    """That directory, within the datastore; None: the service has to be asked for it."""
    start: Path | None = None
    """Run directory or checkpoint on this machine, which is uploaded. With `job` too, it is used only where the job has
    left no checkpoint, such as one that was cancelled before it began."""


def find_resume_source(request: RunRequest) -> ResumeSource:
    """Resolve `--resume`, as far as that is possible offline.

    Raises:
        UserError: the run directory holds a sweep, which has no single run to continue.
    """
    run_dir = request.config.run.run_dir
    if not request.resume:
        return ResumeSource()
    if options_of(request.config).sweep:
        raise ConfigError(
            "--sweep and --resume do not go together: every trial starts from the beginning, with settings of its own"
        )
    if request.resume_from is not None:
        with contextlib.suppress(CheckpointError):
            return ResumeSource(start=path_to_go_on_from(request.resume_from, run_dir))
        name = str(request.resume_from)
        if re.fullmatch(RULES["job_name"].pattern, name) is None:
            raise UserError(
                f"--resume {name}: there is no such checkpoint or run here, and a job cannot have such a name"
            )
        return ResumeSource(job=name)
    if handle := JobHandle.read(run_dir):
        if handle.path is None:
            raise UserError(
                f"--resume: {run_dir} holds the sweep {handle.job}, which is many runs; continue one trial: "
                "--resume TRIAL with another --run-dir"
            )
        return ResumeSource(handle.job, handle.path, run_dir if checkpoint_directories(run_dir) else None)
    if checkpoint_directories(run_dir):
        return ResumeSource(start=run_dir)
    print(f"{run_dir}: no checkpoint yet, training starts from the beginning", flush=True)
    return ResumeSource()


def refuse_another_run_there(source: ResumeSource, run_dir: Path) -> None:
    """Refuse a `run_dir` that holds another run than the one whose record will be mirrored there.

    Raises:
        UserError: there is one.
    """
    own = JobHandle.read(run_dir)
    if source.start is not None:
        is_there = run_dir.resolve() in (source.start.resolve(), run_directory_of(source.start).resolve())
    else:
        is_there = source.job is None or (own is not None and own.job == source.job)
    holds = [f"the job {own.job}"] if own is not None else RunDirectory(run_dir, claim=False).holds_run()
    if holds and not is_there:
        raise UserError(
            f"--run-dir {run_dir}: it holds another run ({', '.join(holds)}), which stays as it is; give another "
            f"directory to continue {source.job or source.start}"
        )


def complete_source(source: ResumeSource, ended: EndedJob, run_dir: Path) -> ResumeSource:
    """Complete a source with what only the service knows: the job's run directory, and whether it has checkpoints.

    Args:
        source: that names the job.
        ended: that job.
        run_dir: on this machine.

    Raises:
        UserError: the run is gone from the datastore, and its record is here; or the storage refuses.
    """
    with service_refusals(f"looking for the checkpoints of job {ended.job}"):
        blobs = ended.workspace.container(ended.datastore).list_blobs(name_starts_with=f"{ended.path}/checkpoint")
        has_checkpoint = any(blob.name.endswith(f"/{MANIFEST_NAME}") for blob in blobs)
    if has_checkpoint:
        if source.start is not None:
            print(
                f"job {source.job} continues from its own checkpoints in the datastore; those of {source.start} stay "
                "here"
            )
        return replace(source, path=ended.path, start=None)
    if source.start is not None:
        print(f"job {source.job} has left no checkpoint: the run continues from that of {source.start}", flush=True)
    elif (read_report(run_dir) or {}).get("checkpoints"):
        raise UserError(
            f"--resume: {run_dir} holds the record of job {source.job}, whose checkpoints are no longer in "
            f"the datastore {ended.datastore} ({ended.path}); start again in another --run-dir, or with --overwrite"
        )
    else:
        print(f"job {source.job} has left no checkpoint: training starts from the beginning", flush=True)
    return replace(source, path=ended.path)


@dataclass(frozen=True)
class EndedJob:
    """A job whose run another one may continue: it has ended, so nobody else writes there."""

    workspace: Workspace
    job: str
    datastore: str
    path: str
    """Its run directory within the datastore."""
    nodes: int
    """Number of machines that it ran on."""


def find_ended_job(workspace: Workspace, job: str, datastore: str) -> EndedJob:
    """Ask the service for a job to continue.

    Args:
        workspace: of the job.
        job: its name.
        datastore: that will hold the new job's run.

    Raises:
        UserError: there is no such job, it is not one of this project, still runs, or keeps its run elsewhere.
    """
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
            f"--resume {job}: this is a sweep, which is many runs; continue one trial (`python tools/azure_jobs.py "
            f"show {job}` names them): --resume TRIAL with another --run-dir"
        )
    if state.run is None:
        raise UserError(
            f"--resume {job}: this job has no run to continue (no output {OUTPUT!r}); was it started by this project?"
        )
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
    """Find the job that `--resume JOB` names, in the workspace that the config names.

    Raises:
        UserError: see `find_ended_job`; or the workspace cannot be reached.
    """
    from training.azure.service.workspace import Workspace

    options = options_of(config)
    return find_ended_job(Workspace.connect(find_address(options)), job, options.datastore)


def settings_of_job(ended: EndedJob) -> dict[str, Any]:
    """Read the resolved settings of a job's run from its config.yaml.

    Raises:
        UserError: it has written none, they are damaged, or the storage refuses.
    """
    from azure.core.exceptions import ResourceNotFoundError

    job, place = ended.job, f"{ended.path}/{CONFIG_NAME}"
    with service_refusals(f"reading the settings of job {job}"):
        try:
            content = ended.workspace.container(ended.datastore).download_blob(place).readall()
        except ResourceNotFoundError as error:
            raise UserError(
                f"--resume {job}: it wrote no {CONFIG_NAME}, so it never began to train; start it again without "
                "--resume"
            ) from error
    try:
        return as_submitted(parse_yaml(content.decode()), ended.nodes)
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"--resume {job}: its {CONFIG_NAME} ({ended.path}) is damaged ({error})") from error


def as_submitted(settings: dict[str, Any], nodes: int) -> dict[str, Any]:
    """Undo in the settings of a run what was changed for the job: paths, trackers, the number of nodes.

    A file that was uploaded is looked for here by its bare name.
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
