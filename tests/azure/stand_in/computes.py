"""Clusters of a workspace: they are there, are made, or are refused."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING

from tests.azure.stand_in.exchange import RefusalError, Reply, Request
from tests.azure.stand_in.regions import LOCATION, RETIRED, TOTAL_LOW_PRIORITY
from tests.azure.stand_in.routes import WORKSPACE, Routes

if TYPE_CHECKING:
    from tests.azure.stand_in.world import Document, Workspace, World

ROUTES = Routes()
_COMPUTE = WORKSPACE + r"/computes/(?P<name>[^/]+)"


def cluster(found: Workspace, name: str, vm_size: str, *, nodes: int = 2, tier: str = "Dedicated") -> Document:
    """A cluster in the form in which the service keeps it."""
    return {
        "id": f"{found.id}/computes/{name}",
        "name": name,
        "type": "Microsoft.MachineLearningServices/workspaces/computes",
        "location": found.region,
        "properties": {
            "computeType": "AmlCompute",
            "computeLocation": found.region,
            "provisioningState": "Succeeded",
            "provisioningErrors": None,
            "isAttachedCompute": False,
            "createdOn": "2026-01-01T00:00:00.000+00:00",
            "properties": {
                "vmSize": vm_size,
                "vmPriority": tier,
                "osType": "Linux",
                "scaleSettings": {"maxNodeCount": nodes, "minNodeCount": 0, "nodeIdleTimeBeforeScaleDown": "PT2M"},
                "allocationState": "Steady",
                "currentNodeCount": 0,
                "targetNodeCount": 0,
                "nodeStateCounts": dict.fromkeys(
                    ("preparingNodeCount", "runningNodeCount", "idleNodeCount", "unusableNodeCount"), 0
                ),
                "remoteLoginPortPublicAccess": "NotSpecified",
                "enableNodePublicIp": True,
            },
        },
    }


def instance(found: Workspace, name: str, vm_size: str) -> Document:
    """A compute instance: one machine of one person, not a cluster."""
    made = cluster(found, name, vm_size)
    made["properties"]["computeType"] = "ComputeInstance"
    made["properties"]["properties"] = {"vmSize": vm_size, "state": "Running", "applicationSharingPolicy": "Personal"}
    return made


@ROUTES.on("GET", WORKSPACE + "/computes")
def computes(world: World, request: Request, **address: str) -> Reply:
    """All of a workspace."""
    return Reply(document={"value": list(world.workspace(**address).computes.values())})


@ROUTES.on("GET", _COMPUTE)
def compute(world: World, request: Request, name: str, **address: str) -> Reply:
    """One; names are the same in any case."""
    found = world.workspace(**address)
    for known, document in found.computes.items():
        if known.lower() == name.lower():
            return Reply(document=document)
    raise found.not_found("computes", name)


@ROUTES.on("PUT", _COMPUTE)
def create(world: World, request: Request, name: str, **address: str) -> Reply:
    """Make a cluster, or change how many nodes it may have."""
    found = world.workspace(**address)
    asked = request.document["properties"]
    if asked["computeType"] != "AmlCompute":
        raise RefusalError(400, "UserError", f"only clusters are played here, not {asked['computeType']}")
    if not re.fullmatch(r"[a-zA-Z](?!.*--)[a-zA-Z0-9-]{0,30}[a-zA-Z0-9]", name):
        message = (
            f"Compute name {name} is invalid. It can include letters, digits and dashes. It must start with a letter, "
            "end with a letter or digit, and be between 2 and 32 characters in length."
        )
        raise RefusalError(400, "InvalidComputeName", message)
    properties = asked["properties"]
    _check_size(world, found, properties)
    is_new = name not in found.computes
    vm_size = world.sizes[properties["vmSize"].lower()]["name"]
    made = cluster(found, name, vm_size, tier=properties.get("vmPriority") or "Dedicated")
    made["properties"]["properties"]["scaleSettings"] = properties["scaleSettings"]
    made["tags"] = request.document.get("tags") or {}
    found.computes[name] = made
    answer = {**made, "properties": {**made["properties"], "provisioningState": "Creating"}}
    if world.cluster_failure:
        code, message = world.cluster_failure
        made["properties"] |= {"provisioningState": "Failed"}
        made["properties"]["provisioningErrors"] = [{"error": {"code": code, "message": message}}]
    operations = f"https://management.azure.com/subscriptions/{found.subscription}/providers"
    operations += f"/Microsoft.MachineLearningServices/locations/{found.region}/computeOperationsStatus/{uuid.uuid4()}"
    return Reply(201 if is_new else 200, answer, {"Azure-AsyncOperation": f"{operations}?api-version=2025-12-01"})


def _check_size(world: World, found: Workspace, properties: Document) -> None:
    """The region has such machines, and the subscription may use one at least.

    Raises:
        RefusalError: it has not, or may not.
    """
    wanted, scale = properties["vmSize"], properties["scaleSettings"]
    known = world.sizes.get(wanted.lower())
    if known is None or "AmlCompute" not in known["supportedComputeTypes"]:
        what = "has been retired" if RETIRED.fullmatch(wanted) else "is not supported"
        message = f"The specified Azure ML Compute VM size {wanted} {what} in region {found.region}."
        raise RefusalError(400, "InvalidVmSize", message)
    if scale["minNodeCount"] > scale["maxNodeCount"]:
        raise RefusalError(400, "BadArgument", "minNodeCount must not be greater than maxNodeCount.")
    priority = properties.get("vmPriority") or "Dedicated"
    family = TOTAL_LOW_PRIORITY if priority == "LowPriority" else known["family"]
    limit = world.low_priority_cores if priority == "LowPriority" else world.quota.get(family, 0)
    if known["vCPUs"] > limit - world.used.get(family, 0):
        message = (
            f"The specified subscription has a {priority} vCPU quota of {limit} for {family} and cannot accommodate "
            f"for at least 1 requested managed compute node which maps to {known['vCPUs']} vCPUs."
        )
        raise RefusalError(400, "ClusterCoreQuotaReached", message)


@ROUTES.on("DELETE", _COMPUTE)
def delete(world: World, request: Request, name: str, **address: str) -> Reply:
    """Take a cluster away."""
    found = world.workspace(**address)
    if found.computes.pop(name, None) is None:
        raise found.not_found("computes", name)
    return Reply(200)


@ROUTES.on("GET", LOCATION + r"/computeOperationsStatus/(?P<operation>[^/]+)")
def operation_status(world: World, request: Request, **_: str) -> Reply:
    """A change of a cluster, which is done at once here."""
    if world.cluster_failure is None:
        return Reply(document={"status": "Succeeded"})
    code, message = world.cluster_failure
    return Reply(document={"status": "Failed", "error": {"code": code, "message": message}})
