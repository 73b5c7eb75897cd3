"""A job's YAML becomes a job: what it needs is uploaded, and it is created, once."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.azure.provenance import CHECKOUT, git_hidden_from_sdk, git_properties
from training.azure.refusals import ServiceError, service_refusals
from training.azure.upload import Upload, watched_upload

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job

    from training.azure.workspace import Workspace

SUBMISSION = "apt_trainer.submission"
"""Property of a job by which a submission knows its own."""


def _say(line: str) -> None:
    print(line, flush=True)


def submit(workspace: Workspace, document_yaml: str, base: Path, tell: Callable[[str], None] = _say) -> Job:
    """Upload what the job needs and create it. Files that Azure has from an earlier job are not sent again.

    Args:
        workspace: where.
        document_yaml: the job as `az ml job create` takes it, with a name; paths in it are relative to `base`.
        base: the staged directory.
        tell: prints a line.

    Returns:
        The job as the service describes it.

    Raises:
        ServiceError: nothing was created, or (the line says so) it is not known whether.
        KeyboardInterrupt: Ctrl-C or SIGTERM; it is not known whether.
    """
    from azure.ai.ml import load_job

    with service_refusals("the job's description"):
        job: Any = load_job(io.StringIO(document_yaml), relative_origin=str(base / "job.yml"))
        # An input that is used and not given would show only after the upload.
        (job._to_job() if hasattr(job, "_to_job") else job)._to_rest_object()
    where = f"job {job.name!r}"
    mark = uuid.uuid4().hex
    job.properties = {**(job.properties or {}), **git_properties(CHECKOUT), SUBMISSION: mark}
    with watched_upload(base, tell) as upload, git_hidden_from_sdk():
        created = _create(workspace, job, where, mark, upload)
    upload.ended()
    return created


def _create(workspace: Workspace, job: Any, where: str, mark: str, upload: Upload) -> Job:
    """Create the job; where the answer was lost, find the one that was created all the same."""
    try:
        with service_refusals(where):
            return workspace.client.jobs.create_or_update(job)
    except ServiceError as refused:
        if upload.failure is not None:
            with service_refusals(f"{where} was not created: the upload failed"):
                raise upload.failure from refused
        if refused.status is not None and refused.status not in (400, 409) and refused.status < 500:
            raise
        if (created := _find_own(workspace, job.name, where, mark)) is not None:
            return created
        raise


def _find_own(workspace: Workspace, name: str, where: str, mark: str) -> Job | None:
    """The job that this submission has created, although the answer did not say so; None: it has not.

    The name is fixed, so a second attempt never makes a second job; but the service may refuse it as a name that is
    taken, by the first.
    """
    try:
        with service_refusals(where):
            found: Any = workspace.client.jobs.get(name)
    except ServiceError as error:
        if error.status == 404:
            return None
        raise ServiceError(
            f"it is not known whether {where} was created: {error}; once Azure answers again, "
            f"`python tools/azure_jobs.py show {name}` tells"
        ) from error
    return found if (found.properties or {}).get(SUBMISSION) == mark else None
