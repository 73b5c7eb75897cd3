"""The job that a command is about: one that is named, or the one that fills a run directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training.azure.service.address import find_address
from training.azure.service.errors import service_refusals
from training.azure.service.job_file import JobHandle
from training.azure.service.jobs import JobState, look_at
from training.azure.settings.options import AzureOptions, check_name
from training.errors import UserError

if TYPE_CHECKING:
    from training.azure.service.workspace import Workspace

RUNS = Path("runs")
"""Parent of the run directories of jobs for which none is given."""


@dataclass(frozen=True)
class NamedJob:
    """A job that was asked for, with the connection to its workspace."""

    workspace: Workspace
    state: JobState
    handle: JobHandle | None
    """None: a job that was not submitted by this project."""
    run_dir: Path
    """Its run directory here, which may not exist yet."""

    def own_handle(self) -> JobHandle:
        """Return its handle.

        Raises:
            UserError: the job was not submitted by this project.
        """
        if self.handle is None:
            raise UserError(
                f"job {self.state.job} has no output 'run': it was not submitted by train.py; "
                f"use `az ml job stream --name {self.state.job}` and `az ml job download`"
            )
        return self.handle


def connect(options: AzureOptions, handle: JobHandle | None = None) -> Workspace:
    """Connect to the workspace of a job that is known here, or to the one that flags and environment name.

    Raises:
        UserError: it is not known, cannot be reached, or nobody is logged in.
    """
    address = handle.workspace if handle is not None else find_address(options)
    from training.azure.service.workspace import Workspace

    return Workspace.connect(address)


def find_job(job: str | None, run_dir: Path | None, options: AzureOptions) -> NamedJob:
    """Find the job that is meant.

    Args:
        job: its name; None: the one that fills `run_dir`.
        run_dir: on this machine; None: `runs/JOB`.
        options: name the workspace of a job that no run directory knows.

    Raises:
        UserError: none is named, there is no such job, or its workspace cannot be reached.
    """
    if job is None and run_dir is None:
        raise UserError("which job? Give its name, or --run-dir with the directory that it fills")
    check_name("job_name", job)
    directory = run_dir if run_dir is not None else RUNS / str(job)
    known = JobHandle.read(directory)
    if job is None:
        if known is None:
            what = "no job fills this directory" if directory.is_dir() else "there is no such directory"
            raise UserError(f"--run-dir {directory}: {what}; give the job's name")
        job = known.job
    handle = known if known is not None and known.job == job else None
    workspace = connect(options, handle)
    with service_refusals(f"looking for job {job}"):
        state = look_at(workspace, job)
    return NamedJob(workspace, state, handle or _handle_of(workspace, state), directory)


def _handle_of(workspace: Workspace, state: JobState) -> JobHandle | None:
    if state.run is None:
        return None
    datastore, path = state.run
    return JobHandle(
        job=state.job,
        workspace=workspace.address,
        datastore=datastore,
        path=None if state.is_sweep else path,
        submitted=state.created or 0.0,
    )
