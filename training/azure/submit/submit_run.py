"""From settings to a submitted job: everything is checked first, then uploaded and created."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from training.azure.service.address import find_address
from training.azure.service.compute import create_cluster, find_compute, missing_compute
from training.azure.service.job_file import JobHandle, command
from training.azure.service.jobs import RUNS_PATH
from training.azure.service.workspace import Workspace
from training.azure.settings.job_size import cluster_to_create, cost_lines
from training.azure.settings.options import options_of
from training.azure.submit.job_document import job_document, to_yaml
from training.azure.submit.resume_source import (
    EndedJob,
    complete_source,
    find_ended_job,
    find_resume_source,
    refuse_another_run_there,
)
from training.azure.submit.service_preflight import check_service
from training.azure.submit.staging import Staging
from training.azure.submit.submission import submit
from training.backends.protocol import RunRequest
from training.checkpoints.branches import left_branch_line, set_aside_later
from training.checkpoints.manifest import read_manifest
from training.checkpoints.run_directory import RunDirectory
from training.checkpoints.start_from import parts_to_go_on_from
from training.errors import UserError, printable
from training.settings.tree import TrainingConfig
from training.tasks.protocol import check_data


def new_job_name() -> str:
    """Return `apt-20261121-191500-3f2a`: sorted by time, and unlikely to be taken."""
    return f"apt-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def dry_run_lines(request: RunRequest) -> Iterator[str]:
    """Yield what would be submitted, made offline: the job as YAML, and as comments its size and what costs money.

    Raises:
        UserError: data or code cannot be staged.
    """
    config, options = request.config, options_of(request.config)
    source = find_resume_source(request)
    refuse_another_run_there(source, config.run.run_dir)
    job = options.job_name or new_job_name()
    with Staging.make(config, start=source.start) as staging:
        code, has_start = str(options.snapshot_dir or "snapshot"), source.start is not None
        document = job_document(config, job, code=code, path=source.path, has_start=has_start)
        yield to_yaml(document).rstrip("\n")
        comments = [*staging.describe(), *cost_lines(config)]
    if source.job is not None and source.path is None:
        comments.append(f"continues job {source.job}: its run's path and settings are read at submission")
    if options.snapshot_dir is None:
        comments.append(
            "nothing was written; --snapshot-dir DIR keeps the files that `code` names for `az ml job create`"
        )
    yield from (f"# {line}" for line in comments)


def submit_run(request: RunRequest, resumed: EndedJob | None = None) -> tuple[Workspace, JobHandle]:
    """Check everything, upload and submit; then the run directory is the job's. The caller holds that directory.

    Args:
        request: of the front door.
        resumed: the job that `--resume` names, where it was found already.

    Raises:
        UserError: the request is refused; where that is seen before the upload, nothing was changed anywhere.
        KeyboardInterrupt: Ctrl-C or SIGTERM; `report_interrupted_submission` says what was sent.
    """
    from training.azure.service.workspace import Workspace

    config, options = request.config, options_of(request.config)
    run_dir = config.run.run_dir
    address = find_address(options)
    old = JobHandle.read(run_dir) if request.overwrite else None
    source = find_resume_source(request)
    refuse_another_run_there(source, run_dir)
    check_data(config)
    staging = Staging.make(config, start=source.start)
    print("\n".join(map(printable, [*staging.describe(), *cost_lines(config)])), flush=True)
    workspace = resumed.workspace if resumed is not None else Workspace.connect(address)
    if source.job is not None:
        before = source.start
        source = complete_source(source, resumed or find_ended_job(workspace, source.job, options.datastore), run_dir)
        if source.start != before:
            staging = Staging.make(config, start=source.start)
    with staging:
        for warning in check_service(workspace, config):
            print(f"warning: {warning}", flush=True)
        job = options.job_name or new_job_name()
        has_start = source.start is not None
        document = job_document(config, job, code=str(staging.path), path=source.path, has_start=has_start)
        ensure_compute(workspace, config)
        try:
            submit(workspace, to_yaml(document), staging.path)
            handle = JobHandle(
                job=job,
                workspace=address,
                datastore=options.datastore,
                path=None if options.sweep else source.path or f"{RUNS_PATH}/{job}",
                submitted=time.time(),
                register_model=options.register_model,
            )
            _take_over(run_dir, handle, request.overwrite, old, source.start)
        except KeyboardInterrupt:
            print(f"stopped; should job {job!r} be there already, `python tools/azure_jobs.py cancel {job}` ends it")
            raise
    return workspace, handle


def report_interrupted_submission(run_dir: Path, began: float) -> None:
    """Say after Ctrl-C in `submit_run`, which may have come a moment too late, whether a job was submitted.

    Args:
        run_dir: of the request.
        began: time of the call, in Unix seconds.
    """
    sent = JobHandle.read(run_dir)
    if sent is not None and sent.submitted >= began:
        print(f"job {sent.job} is submitted and goes on in Azure. To cancel it: {command('cancel', run_dir)}")
    else:
        print("stopped before a job was submitted; if a line above names one, see there", file=sys.stderr)


def ensure_compute(
    workspace: Workspace,
    config: TrainingConfig,
    say: Callable[[str], None] = lambda line: print(printable(line), flush=True),
) -> None:
    """Create the job's cluster if it does not exist and the user has asked for it. An existing one is never changed.

    Args:
        workspace: of the job.
        config: without a compute_name nothing is done: such a job gets machines of its own.
        say: prints a line.

    Raises:
        ConfigError: there is none, and --create-compute was not given.
        ServiceError: it could not be created.
    """
    name = options_of(config).compute_name
    if name is None or find_compute(workspace, name) is not None:
        return
    wanted = cluster_to_create(config)
    if wanted is None:
        raise missing_compute(workspace, name)
    create_cluster(workspace, wanted, say)


def _take_over(run_dir: Path, handle: JobHandle, overwrite: bool, old: JobHandle | None, start: Path | None) -> None:
    """Make the run directory the new job's. An old job that filled it goes on, but is no longer known from here.

    Checkpoints that are later than the one that the job continues from are set aside: the job leaves their branch.

    Raises:
        UserError: the disk refuses; the line names the job, which exists.
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
        if start is not None:
            step = read_manifest(parts_to_go_on_from(start)[-1]).step
            if set_aside := set_aside_later(run_dir, step):
                print(left_branch_line(*set_aside), flush=True)
        handle.write(run_dir)
    except OSError as error:
        raise UserError(
            f"job {handle.job} is submitted, but --run-dir {run_dir} cannot be written ({error.strerror}); to follow "
            f"it: python tools/azure_jobs.py stream {handle.job} --run-dir and another directory"
        ) from error
