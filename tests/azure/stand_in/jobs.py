"""The jobs of a workspace, through Azure Resource Manager."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.azure.stand_in import registries, search_space
from tests.azure.stand_in.exchange import RefusalError, Reply, Request
from tests.azure.stand_in.job import ENDED, STUDIO, Job
from tests.azure.stand_in.routes import WORKSPACE, Routes

if TYPE_CHECKING:
    from tests.azure.stand_in.world import Document, Workspace, World

ROUTES = Routes()
_JOB = WORKSPACE + r"/jobs/(?P<name>[^/]+)"
_PAGE = 20
_CHANGEABLE = ("tags", "properties", "displayName", "description", "isArchived")


@ROUTES.on("PUT", _JOB)
def put(world: World, request: Request, name: str, **address: str) -> Reply:
    """Submit a job; a second time with the same settings changes nothing but its words."""
    found = world.workspace(**address)
    asked = request.document["properties"]
    before = found.jobs.get(name)
    if before is not None:
        fixed = [key for key in asked if key not in _CHANGEABLE and asked[key] != before.asked.get(key)]
        if fixed:
            message = (
                "A job with this name already exists. If you are trying to submit a new job, use a different name. If "
                "you are trying to update an existing job, the existing job's settings cannot be changed. Only "
                "description, tags, displayName, properties, and isArchived can be updated."
            )
            raise RefusalError(400, "UserError", message)
        before.asked |= {key: asked[key] for key in _CHANGEABLE if asked.get(key) is not None}
        return Reply(200, document(before))
    _check(found, world, name, asked)
    job = Job(found, name, asked)
    found.jobs[name] = job
    world.start(job)
    return Reply(201, document(job))


def _check(found: Workspace, world: World, name: str, asked: Document) -> None:
    """What the service would refuse.

    Raises:
        RefusalError: in the service's words where they are known, else in ours.
    """

    def refuse(message: str) -> RefusalError:
        return RefusalError(400, "UserError", message)

    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}", name):
        raise refuse(f"The job name '{name}' is invalid: letters, digits, '-' and '_', at most 255 characters.")
    experiment = asked.get("experimentName") or "Default"
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_ -]{0,254}", experiment):
        raise refuse(f"Experiment name '{experiment}' is invalid.")
    if asked["jobType"] not in ("Command", "Sweep"):
        raise refuse(f"only Command and Sweep are played here, not {asked['jobType']}")
    part = asked["trial"] if asked["jobType"] == "Sweep" else asked
    resources = part.get("resources") or {}
    compute = (asked.get("computeId") or "").rpartition("/")[2]
    nodes = resources.get("instanceCount") or 1
    if compute and compute != "serverless":
        clusters = {known.lower(): document for known, document in found.computes.items()}
        if compute.lower() not in clusters:
            raise refuse(f"The compute '{compute}' does not exist in workspace '{found.name}'.")
        most = clusters[compute.lower()]["properties"]["properties"]["scaleSettings"]["maxNodeCount"]
        if nodes > most:
            raise refuse(f"The job asks for {nodes} nodes, the cluster '{compute}' has at most {most}.")
    elif resources.get("instanceType") and resources["instanceType"].lower() not in world.sizes:
        raise refuse(f"The instance type '{resources['instanceType']}' is not supported in region {found.region}.")
    if nodes < 1:
        raise refuse(f"instanceCount must be at least 1, not {nodes}.")
    refused = _check_sweep(asked) if asked["jobType"] == "Sweep" else None
    if refused:
        raise refuse(refused)
    code = part.get("codeId")
    if code:
        code_name, _, version = code.partition("/codes/")[2].partition("/versions/")
        if version not in found.codes.get(code_name, {}):
            raise refuse(f"The code asset {code} does not exist.")
    _check_environment(world, found, part.get("environmentId") or "")


def _check_sweep(asked: Document) -> str | None:
    """Why the service would refuse a sweep; None: it would not."""
    sampling = asked["samplingAlgorithm"]["samplingAlgorithmType"]
    limits = asked.get("limits") or {}
    total, at_once = limits.get("maxTotalTrials") or 1000, limits.get("maxConcurrentTrials") or 1
    if not 1 <= total <= 1000:
        return f"maxTotalTrials must be between 1 and 1000, not {total}."
    if not 1 <= at_once <= total:
        return f"maxConcurrentTrials ({at_once}) must not be greater than maxTotalTrials ({total})."
    if sampling == "Bayesian" and asked.get("earlyTermination"):
        return "Bayesian sampling does not support early termination policies."
    if not (asked.get("objective") or {}).get("primaryMetric"):
        return "A sweep needs an objective with a primary metric."
    return search_space.check(asked["searchSpace"], sampling)


def _check_environment(world: World, found: Workspace, environment: str) -> None:
    if not environment:
        raise RefusalError(400, "UserError", "A job needs an environment.")
    if environment.startswith("azureml://registries/"):
        registry, _, rest = environment.removeprefix("azureml://registries/").partition("/environments/")
        registries.check(world, registry, rest.partition("/")[0])
        return
    name, _, version = environment.partition("/environments/")[2].partition("/versions/")
    if version not in found.environments.get(name, {}):
        raise found.not_found("environments", f"{name}/versions/{version}")


@ROUTES.on("GET", _JOB)
def get(world: World, request: Request, name: str, **address: str) -> Reply:
    """One."""
    return Reply(document=document(find(world.workspace(**address), name)))


def find(found: Workspace, name: str) -> Job:
    """A job or trial by name.

    Raises:
        RefusalError: 404, in the words of Azure ML.
    """
    if name not in found.jobs:
        message = (
            f"Job with name '{name}' under resource group '{found.group}' in workspace '{found.name}' was not found."
        )
        raise RefusalError(404, "ResourceNotFound", message)
    return found.jobs[name]


@ROUTES.on("GET", WORKSPACE + "/jobs")
def jobs(world: World, request: Request, **address: str) -> Reply:
    """All but trials, newest first, in pages."""
    found = world.workspace(**address)
    wanted = [job for job in reversed(found.jobs.values()) if job.parent is None]
    archived = {"activeonly": [False], "archivedonly": [True]}.get(request.query.get("listViewType", "").lower())
    if archived:
        wanted = [job for job in wanted if bool(job.asked.get("isArchived")) in archived]
    if request.query.get("jobType"):
        wanted = [job for job in wanted if job.asked["jobType"] == request.query["jobType"]]
    if request.query.get("tag"):
        key, _, value = request.query["tag"].partition("=")
        wanted = [job for job in wanted if key in job.tags and (not value or job.tags[key] == value)]
    first = int(request.query.get("$skip", 0))
    page: Document = {"value": [document(job) for job in wanted[first : first + _PAGE]]}
    if first + _PAGE < len(wanted):
        query = "&".join(f"{k}={v}" for k, v in {**request.query, "$skip": str(first + _PAGE)}.items())
        page["nextLink"] = f"https://{request.host}{request.path}?{query}"
    return Reply(document=page)


@ROUTES.on("POST", _JOB + "/cancel")
def cancel(world: World, request: Request, name: str, **address: str) -> Reply:
    """Ask for the end of a job; the answer comes before it has ended."""
    found = world.workspace(**address)
    job = find(found, name)
    if job.status in ENDED:
        raise RefusalError(400, "UserError", f"The job {name} is in state {job.status} and cannot be canceled.")
    job.status = "CancelRequested"
    for each in (job, *job.children):
        each.cancelled.set()
    where = f"https://management.azure.com{found.id}/jobs/{name}/cancelResults?api-version=2025-01-01-preview"
    return Reply(202, headers={"Location": where, "Retry-After": "1"})


@ROUTES.on("GET", _JOB + "/cancelResults")
def cancel_results(world: World, request: Request, name: str, **address: str) -> Reply:
    """202 until the job has ended."""
    job = find(world.workspace(**address), name)
    if job.status in ENDED:
        return Reply(200)
    where = f"https://management.azure.com{request.path}?api-version=2025-01-01-preview"
    return Reply(202, headers={"Location": where, "Retry-After": "1"})


def document(job: Job) -> Document:
    """A job in the form in which it is sent."""
    found = job.workspace
    studio = STUDIO.format(name=job.name, workspace=found.id)
    tracking = f"azureml://{found.region}.api.azureml.ms/mlflow/v1.0{found.id}?"
    outputs: Document = {
        "default": {
            "jobOutputType": "uri_folder",
            "mode": "ReadWriteMount",
            "uri": f"azureml://datastores/workspaceartifactstore/{job.artifacts}",
        }
    }
    for name, given in (job.asked.get("outputs") or {}).items():
        if job.is_sweep:
            outputs[name] = given
            continue
        datastore, path = job.place_of(name)
        outputs[name] = {**given, "uri": f"azureml://datastores/{datastore}/paths/{path}/"}
    properties = {
        "description": None,
        "experimentName": job.experiment,
        "displayName": job.name,
        "isArchived": False,
        **job.asked,
        "tags": job.tags,
        "properties": {**(job.asked.get("properties") or {}), **job.properties},
        "status": job.status,
        "services": {
            "Tracking": {"jobServiceType": "Tracking", "endpoint": tracking, "port": None, "status": None},
            "Studio": {"jobServiceType": "Studio", "endpoint": studio, "port": None, "status": None},
        },
        "outputs": outputs,
    }
    return {
        "id": f"{found.id}/jobs/{job.name}",
        "name": job.name,
        "type": "Microsoft.MachineLearningServices/workspaces/jobs",
        "systemData": {
            "createdAt": job.created,
            "createdBy": "apt-tests",
            "createdByType": "Application",
            "lastModifiedAt": job.ended or job.started or job.created,
        },
        "properties": properties,
    }
