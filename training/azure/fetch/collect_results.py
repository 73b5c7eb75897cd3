"""Results of a job that completed: its run is downloaded, its model registered, and the next command shown."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from training.azure.fetch.download import download_run
from training.azure.follow.sweep import best_run
from training.azure.service.errors import service_refusals
from training.azure.service.job_file import JobHandle
from training.azure.service.jobs import OUTPUT
from training.azure.settings.options import check_name
from training.checkpoints.run_directory import MODEL_DIRECTORY
from training.errors import UserError, printable
from training.record.log import LOG_NAME, REPORT_NAME, DamagedLines, counted, parse_report, read_events

if TYPE_CHECKING:
    from azure.ai.ml.entities import Model
    from azure.storage.blob import ContainerClient

    from training.azure.service.workspace import Workspace


def collect_results(
    workspace: Workspace, handle: JobHandle, run_dir: Path, what: Literal["final", "all", "none"]
) -> None:
    """Download and register as the job's options say. The caller holds the run directory.

    Args:
        workspace: of the job.
        handle: of a job that completed; of a sweep the best trial is used.
        run_dir: directory into which the record was mirrored.
        what: see `AzureOptions.download`.

    Raises:
        UserError: storage or service refuse; what was fetched stays, and the same call fetches the rest.
    """
    place = run_dir if what == "none" else download_run(workspace, handle, run_dir, what)
    if handle.register_model is not None:
        register_model(workspace, handle, handle.register_model)
    if what != "none":
        for line in conclusion_lines(place):
            print(printable(line))
        if (place / MODEL_DIRECTORY).is_dir():
            model = shlex.quote(str(place / MODEL_DIRECTORY))
            print(f"to look at it: python tools/verify_hlbd_model.py --model {model}", flush=True)


def conclusion_lines(run_dir: Path) -> Sequence[str]:
    """Return what the task said of the finished model at the end of the run, as it would on this machine."""
    log = run_dir / LOG_NAME
    damaged = DamagedLines()
    events = counted(read_events(log, damaged)) if log.is_file() else []
    if damaged.count:
        print(f"warning: {printable(run_dir)}: {damaged}", flush=True)
    return next((event.get("lines", ()) for event in reversed(events) if event["event"] == "conclusion"), ())


# -- the model in the workspace ----------------------------------------------------------------------------------------

TAG_OF_JOB = "job"
"""Tag that names the job of a registered model."""


def register_model(workspace: Workspace, handle: JobHandle, name: str) -> str:
    """Register `final_model/` of a job, or of a sweep's best trial, as a model of the workspace.

    A second call for the same job registers nothing and says so.

    Returns:
        The model's version.

    Raises:
        UserError: the name is not allowed, the job has no final model, or the service refuses.
    """
    check_name("register_model", name)
    run = best_run(workspace, handle)
    assert run.path is not None
    doing = f"registering the model of job {run.job}"
    with service_refusals(doing):
        container = workspace.container(run.datastore)
        root = f"{run.path}/{MODEL_DIRECTORY}"
        if next(iter(container.list_blobs(name_starts_with=f"{root}/")), None) is None:
            raise UserError(f"{doing}: there is no {MODEL_DIRECTORY}/ in its run ({run.path}); has it come to its end?")
        for model in _versions(workspace, name):
            if (model.tags or {}).get(TAG_OF_JOB) == run.job:
                print(f"the model of job {run.job} is registered already: {name}, version {model.version}", flush=True)
                return str(model.version)
        version = _register(workspace, run, name, _tags(container, run))
    print(f"registered the final model of job {run.job}: {name}, version {version}", flush=True)
    return version


def _register(workspace: Workspace, run: JobHandle, name: str, tags: dict[str, str]) -> str:
    from azure.ai.ml.constants import AssetTypes
    from azure.ai.ml.entities import Model

    model = Model(
        name=name,
        # A path by the job lets Studio show where the model comes from.
        path=f"azureml://jobs/{run.job}/outputs/{OUTPUT}/paths/{MODEL_DIRECTORY}",
        type=AssetTypes.CUSTOM_MODEL,
        description="APT model in the Hugging Face form: config.json, model.safetensors, tokenizer.json",
        tags=tags,
    )
    made: Any = workspace.client.models.create_or_update(model)
    return str(made.version)


def _versions(workspace: Workspace, name: str) -> list[Model]:
    from azure.core.exceptions import ResourceNotFoundError

    try:
        return list(workspace.client.models.list(name=name))
    except ResourceNotFoundError:
        return []


def _tags(container: ContainerClient, run: JobHandle) -> dict[str, str]:
    """Return tags that say of which run the model is, by which settings, and how good."""
    from azure.core.exceptions import ResourceNotFoundError

    tags: dict[str, str] = {TAG_OF_JOB: run.job}
    try:
        report = parse_report(container.download_blob(f"{run.path}/{REPORT_NAME}").readall())
    except ResourceNotFoundError:
        return tags
    if report is None:
        return tags
    evaluations = report.get("evaluations") or [{}]
    figures = {
        "run_id": report.get("run_id"),
        "curve_hash": report.get("curve_hash"),
        "step": report.get("step"),
        "train_loss": (report.get("latest") or {}).get("loss"),
        "eval_loss": evaluations[-1].get("loss"),
    }
    return tags | {
        key: f"{value:.6g}" if isinstance(value, float) else str(value)
        for key, value in figures.items()
        if value is not None
    }
