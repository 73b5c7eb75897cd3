"""From settings to a job that runs: everything is checked first, then uploaded, submitted and followed."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from training.azure_job.going_on import GoingOn, going_on, run_path
from training.azure_job.handle import JobHandle
from training.azure_job.job_document import RUNS_PATH, cost_lines, job_document, to_yaml
from training.azure_job.options import options_of
from training.azure_job.staging import Staging
from training.backend import RunRequest, RunResult
from training.config import TrainingConfig
from training.dataset import with_vocab_size
from training.forecast import read_data
from training.run_directory import RunDirectory

if TYPE_CHECKING:
    from training.azure_job.workspace import Workspace

EXIT_INTERRUPTED = 128 + 2


def new_job_name() -> str:
    """`apt-20261121-191500-3f2a`: sorted by time, and unlikely to be anybody else's."""
    return f"apt-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def dry_run_lines(request: RunRequest) -> Iterator[str]:
    """What would be submitted, made offline: the job as YAML, and as comments its size and what costs money.

    Raises:
        UserError: data or code cannot be staged.
    """
    config, options = request.config, options_of(request.config)
    on = going_on(request)
    job = options.job_name or new_job_name()
    with Staging.make(config, start=on.start) as staging:
        document = job_document(
            config, job, code=str(options.snapshot_dir or "snapshot"), path=on.path, has_start=on.start is not None
        )
        yield to_yaml(document).rstrip("\n")
        told = [*staging.describe(), *cost_lines(config)]
    if on.job is not None and on.path is None:
        told.append(f"goes on with job {on.job}: its run's path and settings are read from the workspace at submission")
    if options.snapshot_dir is None:
        told.append("nothing was written; --snapshot-dir DIR keeps the files that `code` names for `az ml job create`")
    yield from (f"# {line}" for line in told)


def depart(request: RunRequest) -> RunResult:
    """Submit a run as a job, follow it and bring it home.

    Raises:
        UserError: something stands against it; where that is seen before the upload, nothing was changed anywhere.
    """
    from training.azure_job.arrival import arrive
    from training.azure_job.watch import command, follow

    options, run_dir = options_of(request.config), request.config.run.run_dir
    # An old run is deleted only when the new one is on its way.
    directory = RunDirectory(run_dir, resume=request.resume or request.overwrite)
    try:
        try:
            workspace, handle = _send(request)
        except KeyboardInterrupt:
            print("stopped before a job was submitted; if a line above names one, see there", file=sys.stderr)
            return RunResult("stopped", 0, EXIT_INTERRUPTED)
        if request.overwrite:
            directory.delete_run()
        handle.write(run_dir)
        if options.detach:
            print(f"job {handle.job} is submitted. To follow it: {command('stream', run_dir)}")
            print(f"To cancel it: {command('cancel', run_dir)}", flush=True)
            return RunResult("submitted", 0)
        exit_code = follow(workspace, handle, run_dir)
        if exit_code == 0:
            arrive(workspace, handle, run_dir, options.download)
        return RunResult("finished" if exit_code == 0 else "stopped", 0, exit_code)
    finally:
        directory.release()


def _send(request: RunRequest) -> tuple[Workspace, JobHandle]:
    """Check everything, upload and submit."""
    from training.azure_job.address import find_address
    from training.azure_job.compute import ensure_compute
    from training.azure_job.service_preflight import check_service
    from training.azure_job.submission import submit
    from training.azure_job.workspace import Workspace

    config, options = request.config, options_of(request.config)
    address = find_address(options)
    on = going_on(request)
    check_data(config)
    with Staging.make(config, start=on.start) as staging:
        print("\n".join(staging.describe()), flush=True)
        workspace = Workspace.connect(address)
        on = looked_up(on, workspace, options.datastore)
        for warning in check_service(workspace, config):
            print(f"warning: {warning}", flush=True)
        job = options.job_name or new_job_name()
        document = job_document(config, job, code=str(staging.path), path=on.path, has_start=on.start is not None)
        ensure_compute(workspace, config)
        submit(workspace, to_yaml(document), staging.path)
    return workspace, JobHandle(
        job=job,
        workspace=address,
        datastore=options.datastore,
        path=None if options.sweep else on.path or f"{RUNS_PATH}/{job}",
        submitted=time.time(),
        register_model=options.register_model,
    )


def looked_up(on: GoingOn, workspace: Workspace, datastore: str) -> GoingOn:
    """The same with the path of its job, which has ended.

    Raises:
        UserError: see `run_path`.
    """
    return on if on.job is None else replace(on, path=run_path(workspace, on.job, datastore))


def check_data(config: TrainingConfig) -> None:
    """Read the data as the job will, so that what is wrong with them shows here and not after an hour in a queue.

    Raises:
        UserError: as the job would.
    """
    with_vocab_size(config, read_data(config).vocab_size)
