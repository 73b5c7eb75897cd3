"""The public registry `azureml`, as far as its curated environments go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.azure.stand_in.exchange import RefusalError, Reply, Request
from tests.azure.stand_in.routes import Routes

if TYPE_CHECKING:
    from tests.azure.stand_in.world import Document, World

ROUTES = Routes()
CURATED = {"acpt-pytorch-2.8-cuda12.6": ["1", "2", "3"]}
"""Environments and their versions, oldest first."""
_REGISTRY = (
    r"/mferp/managementfrontend/subscriptions/[^/]+/resourceGroups/[^/]+"
    r"/providers/Microsoft\.MachineLearningServices/registries/(?P<registry>[^/]+)"
)
_ENVIRONMENT = _REGISTRY + r"/environments/(?P<name>[^/]+)"


def check(world: World, registry: str, name: str) -> list[str]:
    """Versions of an environment.

    Raises:
        RefusalError: no such registry, or no such environment in it.
    """
    if registry.lower() != "azureml":
        raise RefusalError(404, "RegistryNotFound", f"Registry {registry} was not found.")
    if name not in world.curated:
        raise RefusalError(404, "UserError", f"Environment container {name} does not exist in registry {registry}.")
    return world.curated[name]


@ROUTES.on("GET", r"/registrymanagement/v1\.0/registries/(?P<registry>[^/]+)/discovery")
def discovery(world: World, request: Request, registry: str) -> Reply:
    """Where a registry's services are."""
    if registry.lower() != "azureml":
        raise RefusalError(404, "RegistryNotFound", f"Registry {registry} was not found.")
    subscription = next(iter(world.groups), "")
    return Reply(
        document={
            "registryName": registry,
            "resourceGroup": "registry-builtin-prod",
            "subscriptionId": subscription,
            "primaryRegion": "eastus",
            "primaryRegionResourceProviderUri": f"https://{request.host}/",
            "resourceId": f"azureml://registries/{registry}",
        }
    )


@ROUTES.on("GET", _ENVIRONMENT)
def container(world: World, request: Request, registry: str, name: str) -> Reply:
    """A name with its newest version."""
    versions = check(world, registry, name)
    properties = {"latestVersion": versions[-1], "nextVersion": str(int(versions[-1]) + 1), "isArchived": False}
    return Reply(
        document={"id": f"azureml://registries/{registry}/environments/{name}", "name": name, "properties": properties}
    )


@ROUTES.on("GET", _ENVIRONMENT + "/versions")
def versions(world: World, request: Request, registry: str, name: str) -> Reply:
    """Versions of a name, newest first."""
    found = [_version(registry, name, version) for version in reversed(check(world, registry, name))]
    return Reply(document={"value": found[: int(request.query.get("$top", 100))]})


@ROUTES.on("GET", _ENVIRONMENT + "/versions/(?P<version>[^/]+)")
def version(world: World, request: Request, registry: str, name: str, version: str) -> Reply:
    """One."""
    if version not in check(world, registry, name):
        message = f"Environment {name} with version {version} does not exist in registry {registry}."
        raise RefusalError(404, "UserError", message)
    return Reply(document=_version(registry, name, version))


def _version(registry: str, name: str, version: str) -> Document:
    return {
        "id": f"azureml://registries/{registry}/environments/{name}/versions/{version}",
        "name": version,
        "type": "environments",
        "systemData": {"createdAt": "2026-01-01T00:00:00.0000000+00:00", "createdByType": "User"},
        "properties": {
            "environmentType": "Curated",
            "image": f"mcr.microsoft.com/azureml/curated/{name}:{version}",
            "osType": "Linux",
            "isArchived": False,
            "isAnonymous": False,
            "tags": {},
            "properties": {},
            "provisioningState": "Succeeded",
        },
    }
