"""The final model of a job, registered in its workspace where it lies: nothing is uploaded again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from training.azure.handle import JobHandle
from training.azure.job_document import OUTPUT
from training.azure.names import check_name
from training.azure.refusals import service_refusals
from training.azure.sweep import best_run
from training.checkpoints.run_directory import MODEL_DIRECTORY
from training.errors import UserError
from training.record.reporter import REPORT_NAME

if TYPE_CHECKING:
    from azure.ai.ml.entities import Model
    from azure.storage.blob import ContainerClient

    from training.azure.workspace import Workspace

TAG_OF_JOB = "job"
"""By which a model that was registered for a job already is known again."""


def register_model(workspace: Workspace, handle: JobHandle, name: str) -> str:
    """Register `final_model/` of a job, or of a sweep's best trial, as a model of the workspace.

    A second call for the same job registers nothing, and says so.

    Returns:
        The model's version.

    Raises:
        UserError: the name cannot be one, the job has no final model, or the service refuses.
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
        # By the job, so that Studio shows where the model comes from.
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
    """Of which run the model is, by which settings, and how good."""
    from azure.core.exceptions import ResourceNotFoundError

    tags: dict[str, str] = {TAG_OF_JOB: run.job}
    try:
        report = json.loads(container.download_blob(f"{run.path}/{REPORT_NAME}").readall())
    except (ResourceNotFoundError, ValueError):
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
