"""Run history: what the SDK reads to stream, to download and to list the trials of a sweep."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.azure.stand_in.exchange import Reply, Request
from tests.azure.stand_in.job import Job
from tests.azure.stand_in.jobs import find
from tests.azure.stand_in.routes import WORKSPACE, Routes
from tests.azure.stand_in.world import ARTIFACTS

if TYPE_CHECKING:
    from tests.azure.stand_in.world import Document, World

ROUTES = Routes()
_RUN = r"/history/v1\.0" + WORKSPACE + r"(/experiment(ids|s)/[^/]+)?/runs/(?P<name>[^/]+)"


@ROUTES.on("GET", _RUN)
def get(world: World, request: Request, name: str, **address: str) -> Reply:
    """One run."""
    return Reply(document=run(find(world.workspace(**_address(address)), name)))


@ROUTES.on("PATCH", _RUN)
def patch(world: World, request: Request, name: str, **address: str) -> Reply:
    """Change a run's words."""
    job = find(world.workspace(**_address(address)), name)
    given = request.document
    for ours, theirs in (("displayName", "displayName"), ("description", "description"), ("isArchived", "hidden")):
        if given.get(theirs) is not None:
            job.asked[ours] = given[theirs]
    for key in ("tags", "properties"):
        if given.get(key):
            job.asked[key] = {**(job.asked.get(key) or {}), **given[key]}
    return Reply(document=run(job))


@ROUTES.on("GET", _RUN + "/details")
def details(world: World, request: Request, name: str, **address: str) -> Reply:
    """One run with its error and the addresses of its logs."""
    job = find(world.workspace(**_address(address)), name)
    container = world.storage.container(ARTIFACTS)
    start = job.artifacts + "/"
    blobs = [blob.name for blob in container.list_blobs(name_starts_with=f"{start}user_logs/")]
    found = run(job)
    kept = ("runId", "target", "status", "startTimeUtc", "endTimeUtc", "error", "properties", "warnings", "outputs")
    return Reply(
        document={
            **{key: found.get(key) for key in kept},
            "inputDatasets": [],
            "runDefinition": {},
            "logFiles": {blob.removeprefix(start): world.storage.blob_url(ARTIFACTS, blob) for blob in blobs},
            "submittedBy": "apt-tests",
        }
    )


@ROUTES.on("GET", _RUN + "/children")
def children(world: World, request: Request, name: str, **address: str) -> Reply:
    """The trials of a sweep."""
    job = find(world.workspace(**_address(address)), name)
    return Reply(document={"value": [run(child) for child in job.children], "continuationToken": None})


@ROUTES.on("POST", r"/history/v1\.0" + WORKSPACE + "/rundata")
def run_data(world: World, request: Request, **address: str) -> Reply:
    """One run with its outputs."""
    job = find(world.workspace(**address), request.document["runId"])
    return Reply(document={"runMetadata": run(job), "runDefinition": {}, "jobSpecification": {}})


@ROUTES.on("POST", r"/data/v1\.0" + WORKSPACE + r"/dataversion/batchGetResolvedUris")
def data_uris(world: World, request: Request, **address: str) -> Reply:
    """Where the outputs of a run are, by the ids that `rundata` gave them."""
    found = world.workspace(**address)
    values = {}
    for asset in request.document["values"]:
        name, _, output = asset.partition("azureml://locations/here/outputs/")[2].partition("/")
        job = find(found, name)
        if output == "default":
            uri = f"azureml://{found.id.lstrip('/')}/datastores/workspaceartifactstore/paths/{job.artifacts}/"
        else:
            datastore, path = job.place_of(output)
            uri = f"azureml://{found.id.lstrip('/')}/datastores/{datastore}/paths/{path}/"
        uri = uri.replace("providers/Microsoft.MachineLearningServices/", "")
        values[asset] = {"uri": uri, "type": "uri_folder"}
    return Reply(document={"values": values})


def run(job: Job) -> Document:
    """A job in the form of a run."""
    names = ["default", *({} if job.is_sweep else job.asked.get("outputs") or {})]
    error: Document | None = None
    if job.error:
        error = {"error": {"code": "UserError", "message": job.error, "messageParameters": {}, "details": []}}
        error |= {"correlation": {}, "environment": job.workspace.region, "location": job.workspace.region}
    tags = dict(job.tags)
    if job.values:
        tags["hyperparameters"] = json.dumps(job.values)
    return {
        "runId": job.name,
        "rootRunId": (job.parent or job).name,
        "parentRunId": job.parent.name if job.parent else None,
        "runNumber": job.number,
        "experimentId": "0",
        "displayName": job.asked.get("displayName") or job.name,
        "description": job.asked.get("description"),
        "hidden": bool(job.asked.get("isArchived")),
        "runType": "azureml.HyperDrive" if job.is_sweep else "azureml.scriptrun",
        "runTypeV2": {"orchestrator": "Execution", "traits": [], "attribution": "Execution"},
        "target": (job.asked.get("computeId") or "serverless").rpartition("/")[2],
        "status": job.status,
        "createdUtc": job.created,
        "startTimeUtc": job.started,
        "endTimeUtc": job.ended,
        "tags": tags,
        "properties": {**(job.asked.get("properties") or {}), **job.properties},
        "error": error,
        "warnings": [],
        "outputs": {
            name: {"assetId": f"azureml://locations/here/outputs/{job.name}/{name}", "type": "uri_folder"}
            for name in names
        },
    }


def _address(groups: dict[str, str]) -> dict[str, str]:
    return {key: groups[key] for key in ("subscription", "group", "workspace")}
