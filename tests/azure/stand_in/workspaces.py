"""Azure Resource Manager: subscriptions, resource groups, workspaces, datastores, and where a region's services are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.azure.stand_in.exchange import Reply, Request
from tests.azure.stand_in.login import TENANT
from tests.azure.stand_in.routes import WORKSPACE, Routes

if TYPE_CHECKING:
    from tests.azure.stand_in.world import Document, Workspace, World

ROUTES = Routes()


@ROUTES.on("GET", r"/subscriptions")
def subscriptions(world: World, request: Request) -> Reply:
    """All that the caller may see."""
    return Reply(document={"value": [_subscription(name) for name in world.groups]})


@ROUTES.on("GET", r"/subscriptions/(?P<subscription>[^/]+)")
def subscription(world: World, request: Request, subscription: str) -> Reply:
    """One."""
    world.check_subscription(subscription)
    return Reply(document=_subscription(subscription))


def _subscription(name: str) -> Document:
    document = {"id": f"/subscriptions/{name}", "subscriptionId": name, "displayName": "Tests", "state": "Enabled"}
    return {**document, "tenantId": TENANT}


@ROUTES.on("GET", r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)")
def resource_group(world: World, request: Request, subscription: str, group: str) -> Reply:
    """One."""
    world.check_group(subscription, group)
    identity = f"/subscriptions/{subscription}/resourceGroups/{group}"
    return Reply(document={"id": identity, "name": group, "location": "eastus", "properties": {}})


@ROUTES.on("GET", WORKSPACE)
def workspace(world: World, request: Request, **address: str) -> Reply:
    """One."""
    return Reply(document=_workspace(world, world.workspace(**address)))


@ROUTES.on("GET", WORKSPACE.removesuffix(r"/(?P<workspace>[^/]+)"))
def workspaces(world: World, request: Request, subscription: str, group: str) -> Reply:
    """Those of a resource group."""
    world.check_group(subscription, group)
    found = [w for w in world.workspaces if (w.subscription, w.group.lower()) == (subscription, group.lower())]
    return Reply(document={"value": [_workspace(world, w) for w in found]})


def _workspace(world: World, found: Workspace) -> Document:
    providers = f"/subscriptions/{found.subscription}/resourceGroups/{found.group}/providers"
    return {
        "id": found.id,
        "name": found.name,
        "type": "Microsoft.MachineLearningServices/workspaces",
        "location": found.region,
        "tags": {},
        "kind": "Default",
        "sku": {"name": "Basic", "tier": "Basic"},
        "identity": {"type": "SystemAssigned", "principalId": found.guid, "tenantId": TENANT},
        "properties": {
            "friendlyName": found.name,
            "workspaceId": found.guid,
            "storageAccount": f"{providers}/Microsoft.Storage/storageAccounts/{world.storage.account}",
            "keyVault": f"{providers}/Microsoft.Keyvault/vaults/{found.name}",
            "applicationInsights": f"{providers}/Microsoft.insights/components/{found.name}",
            "discoveryUrl": f"{found.api}/discovery",
            "mlFlowTrackingUri": f"azureml://{found.region}.api.azureml.ms/mlflow/v1.0{found.id}",
            "provisioningState": "Succeeded",
            "publicNetworkAccess": "Enabled",
            "hbiWorkspace": False,
            "tenantId": TENANT,
        },
    }


@ROUTES.on("GET", WORKSPACE + r"/datastores")
def datastores(world: World, request: Request, **address: str) -> Reply:
    """All, or the default one."""
    found = world.workspace(**address)
    only_default = request.query.get("isDefault", "").lower() == "true"
    names = [name for name, store in found.datastores.items() if store["isDefault"] or not only_default]
    return Reply(document={"value": [_datastore(found, name) for name in names]})


@ROUTES.on("GET", WORKSPACE + r"/datastores/(?P<name>[^/]+)")
def datastore(world: World, request: Request, name: str, **address: str) -> Reply:
    """One."""
    found = world.workspace(**address)
    found.datastore(name)
    return Reply(document=_datastore(found, name))


def _datastore(found: Workspace, name: str) -> Document:
    kind = "Microsoft.MachineLearningServices/workspaces/datastores"
    return {"id": f"{found.id}/datastores/{name}", "name": name, "type": kind, "properties": found.datastores[name]}


@ROUTES.on("POST", WORKSPACE + r"/datastores/(?P<name>[^/]+)/listSecrets")
def secrets(world: World, request: Request, name: str, **address: str) -> Reply:
    """The account's key, or a token for the container."""
    store = world.workspace(**address).datastore(name)
    if world.secrets == "Sas":
        return Reply(document={"secretsType": "Sas", "sasToken": world.storage.container_sas(store["containerName"])})
    return Reply(document={"secretsType": "AccountKey", "key": world.storage.key})


@ROUTES.on("GET", r"/discovery(/.*)?")
def discovery(world: World, request: Request) -> Reply:
    """Addresses of the region's data plane."""
    base = f"https://{request.host}"
    names = ("api", "catalog", "experimentation", "gateway", "history", "hyperdrive", "modelmanagement", "pipelines")
    return Reply(document=dict.fromkeys(names, base) | {"studio": "https://ml.azure.com"})


@ROUTES.on("GET", "/metadata/endpoints")
def clouds(world: World, request: Request) -> Reply:
    """The clouds that there are: the public one."""
    login = {"loginEndpoint": "https://login.microsoftonline.com", "tenant": "common", "identityProvider": "AAD"}
    audiences = ["https://management.core.windows.net/", "https://management.azure.com/"]
    suffixes = {"storage": "core.windows.net", "keyVaultDns": "vault.azure.net", "acrLoginServer": "azurecr.io"}
    cloud = {
        "name": "AzureCloud",
        "portal": "https://portal.azure.com",
        "authentication": {**login, "audiences": audiences},
        "resourceManager": "https://management.azure.com/",
        "graph": "https://graph.windows.net/",
        "graphAudience": "https://graph.windows.net/",
        "suffixes": suffixes,
    }
    return Reply(document=[cloud])
