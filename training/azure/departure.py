"""From settings to a job that runs: everything is checked first, then uploaded, submitted and followed."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from training.azure.going_on import (
    EndedJob,
    find_ended_job,
    going_on,
    looked_up,
    refuse_another_run_there,
)
from training.azure.handle import JobHandle, command
from training.azure.job_document import RUNS_PATH, cost_lines, job_document, to_yaml
from training.azure.options import options_of
from training.azure.parting import exit_code_of, name_of, sigterm_raises
from training.azure.staging import Staging
from training.backends.protocol import RunRequest, RunResult
from training.checkpoints.run_directory import RunDirectory
from training.errors import UserError
from training.tasks.protocol import check_data

if TYPE_CHECKING:
    from training.azure.workspace import Workspace


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
    refuse_another_run_there(on, config.run.run_dir)
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


def depart(request: RunRequest, resumed: EndedJob | None = None) -> RunResult:
    """Submit a run as a job, follow it and bring it home.

    Args:
        request: of the front door.
        resumed: the job that `--resume` names, where it was found already.

    Raises:
        UserError: something stands against it; where that is seen before the upload, nothing was changed anywhere.
    """
    from training.azure.arrival import arrive
    from training.azure.watch import follow

    options, run_dir = options_of(request.config), request.config.run.run_dir
    # An old run is deleted only when the new one is on its way.
    directory = RunDirectory(run_dir, resume=request.resume or request.overwrite)
    began = time.time()
    try:
        with sigterm_raises():
            try:
                workspace, handle = _send(request, resumed)
            except KeyboardInterrupt as stop:
                _say_what_was_sent(run_dir, began)
                return RunResult("stopped", 0, exit_code_of(stop))
            if options.detach:
                print(f"job {handle.job} is submitted. To follow it: {command('stream', run_dir)}")
                print(f"To cancel it: {command('cancel', run_dir)}", flush=True)
                return RunResult("submitted", 0)
            exit_code = follow(workspace, handle, run_dir)
            if exit_code == 0:
                try:
                    arrive(workspace, handle, run_dir, options.download)
                except KeyboardInterrupt as stop:
                    print(f"{name_of(stop)}: job {handle.job} has completed, and not all of it is done here. To go on:")
                    print(command("stream", run_dir), flush=True)
                    return RunResult("finished", 0, exit_code_of(stop))
        return RunResult("finished" if exit_code == 0 else "stopped", 0, exit_code)
    finally:
        directory.release()


def _say_what_was_sent(run_dir: Path, began: float) -> None:
    """After Ctrl-C in `_send`, which may have come a moment too late."""
    sent = JobHandle.read(run_dir)
    if sent is not None and sent.submitted >= began:
        print(f"job {sent.job} is submitted and goes on in Azure. To cancel it: {command('cancel', run_dir)}")
    else:
        print("stopped before a job was submitted; if a line above names one, see there", file=sys.stderr)


def _send(request: RunRequest, resumed: EndedJob | None) -> tuple[Workspace, JobHandle]:
    """Check everything, upload and submit; then the run directory is the job's."""
    from training.azure.address import find_address
    from training.azure.compute import ensure_compute
    from training.azure.service_preflight import check_service
    from training.azure.submission import submit
    from training.azure.workspace import Workspace

    config, options = request.config, options_of(request.config)
    run_dir = config.run.run_dir
    address = find_address(options)
    old = JobHandle.read(run_dir) if request.overwrite else None
    on = going_on(request)
    refuse_another_run_there(on, run_dir)
    check_data(config)
    staging = Staging.make(config, start=on.start)
    print("\n".join([*staging.describe(), *cost_lines(config)]), flush=True)
    workspace = resumed.workspace if resumed is not None else Workspace.connect(address)
    if on.job is not None:
        begin = on.start
        on = looked_up(on, resumed or find_ended_job(workspace, on.job, options.datastore), run_dir)
        if on.start != begin:
            staging = Staging.make(config, start=on.start)
    with staging:
        for warning in check_service(workspace, config):
            print(f"warning: {warning}", flush=True)
        job = options.job_name or new_job_name()
        document = job_document(config, job, code=str(staging.path), path=on.path, has_start=on.start is not None)
        ensure_compute(workspace, config)
        try:
            submit(workspace, to_yaml(document), staging.path)
            handle = JobHandle(
                job=job,
                workspace=address,
                datastore=options.datastore,
                path=None if options.sweep else on.path or f"{RUNS_PATH}/{job}",
                submitted=time.time(),
                register_model=options.register_model,
            )
            _take_over(run_dir, handle, request.overwrite, old)
        except KeyboardInterrupt:
            print(f"stopped; should job {job!r} be there already, `python tools/azure_jobs.py cancel {job}` ends it")
            raise
    return workspace, handle


def _take_over(run_dir: Path, handle: JobHandle, overwrite: bool, old: JobHandle | None) -> None:
    """The run directory is the new job's. An old job that filled it is not touched, only no longer known from here.

    Raises:
        UserError: the disk refuses; the line names the job, which is there.
    """
    if old is not None:
        print(
            f"{run_dir} no longer follows job {old.job}, which stays in Azure as it is; if it still runs, "
            f"`python tools/azure_jobs.py cancel {old.job}` ends it",
            flush=True,
        )
    try:
        if overwrite:
            RunDirectory(run_dir, claim=False).delete_run()
        handle.write(run_dir)
    except OSError as error:
        raise UserError(
            f"job {handle.job} is submitted, but --run-dir {run_dir} cannot be written ({error.strerror}); to follow "
            f"it: python tools/azure_jobs.py stream {handle.job} --run-dir and another directory"
        ) from error
