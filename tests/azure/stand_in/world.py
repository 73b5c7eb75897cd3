"""What there is behind the addresses: subscriptions, resource groups, workspaces and what is in them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.azure.stand_in.exchange import RefusalError
from tests.azure.stand_in.storage import Storage

if TYPE_CHECKING:
    from tests.azure.stand_in.job import Job
    from tests.azure.stand_in.tracking import Tracking

SUBSCRIPTION = "5ab5c819-0000-4000-8000-000000000001"
GROUP = "apt-tests"
WORKSPACE = "apt-workspace"
REGION = "eastus"
ARTIFACTS = "azureml"
"""Container of what Azure itself keeps of a run: logs above all."""

Document = dict[str, Any]


@dataclass
class Workspace:
    """One workspace and all that is registered in it, in the form in which it is sent."""

    subscription: str
    group: str
    name: str
    region: str = REGION
    guid: str = field(default_factory=lambda: str(uuid.uuid4()))
    computes: dict[str, Document] = field(default_factory=dict)
    environments: dict[str, dict[str, Document]] = field(default_factory=dict)
    """By name, then by version; so for all assets."""
    codes: dict[str, dict[str, Document]] = field(default_factory=dict)
    models: dict[str, dict[str, Document]] = field(default_factory=dict)
    datastores: dict[str, Document] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    """By name, oldest first."""

    @property
    def id(self) -> str:
        """ARM id."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.name}"
        )

    @property
    def api(self) -> str:
        """Base address of the region's data plane."""
        return f"https://{self.region}.api.azureml.ms"

    @property
    def container(self) -> str:
        """Of the default datastore."""
        return f"azureml-blobstore-{self.guid}"

    def container_of(self, datastore: str) -> str:
        """The container behind a datastore of blobs; raises as `datastore` does."""
        container: str = self.datastore(datastore)["containerName"]
        return container

    def datastore(self, name: str) -> Document:
        """A datastore by name.

        Raises:
            RefusalError: there is none of that name.
        """
        if name not in self.datastores:
            raise self.not_found("datastores", name)
        return self.datastores[name]

    def not_found(self, kind: str, name: str) -> RefusalError:
        """404 for something in this workspace."""
        what = f"Microsoft.MachineLearningServices/workspaces/{self.name}/{kind}/{name}"
        return RefusalError(
            404, "ResourceNotFound", f"The Resource '{what}' under resource group '{self.group}' was not found."
        )


class World:
    """All of Azure that a test session sees."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.groups: dict[str, set[str]] = {}
        """Resource groups of each subscription."""
        self.workspaces: list[Workspace] = []
        self.sizes: dict[str, Document] = {}
        """Machine sizes of the region, by name."""
        self.quota: dict[str, int] = {}
        """Cores that the subscription may use, by family of machines."""
        self.low_priority_cores = 100
        """Cores of low-priority machines that it may use, of all families together."""
        self.used: dict[str, int] = {}
        """Cores in use, by family; `TotalLowPriorityCores` for low-priority ones."""
        self.curated: dict[str, list[str]] = {}
        """Environments of the registry `azureml`, with their versions."""
        self.secrets = "AccountKey"
        """What a datastore's secrets are: `AccountKey` or `Sas`."""
        self.cluster_failure: tuple[str, str] | None = None
        """Code and message with which the creation of a cluster fails after it was accepted."""
        self.tracking: Tracking
        self.start: Callable[[Job], None]
        """Sets a submitted job going."""

    def add_workspace(self, subscription: str, group: str, name: str, region: str = REGION) -> Workspace:
        """A new workspace with its containers; its subscription and group are made too where they are missing."""
        made = Workspace(subscription, group, name, region)
        self.groups.setdefault(subscription, set()).add(group)
        self.workspaces.append(made)
        for store, container in (("workspaceblobstore", made.container), ("workspaceartifactstore", ARTIFACTS)):
            self.storage.container(container, make=True)
            made.datastores[store] = {
                "datastoreType": "AzureBlob",
                "isDefault": store == "workspaceblobstore",
                "accountName": self.storage.account,
                "containerName": container,
                "endpoint": "core.windows.net",
                "protocol": "https",
                "credentials": {"credentialsType": "AccountKey"},
                "serviceDataAccessAuthIdentity": "None",
            }
        made.datastores["workspacefilestore"] = {
            "datastoreType": "AzureFile",
            "isDefault": False,
            "accountName": self.storage.account,
            "fileShareName": f"azureml-filestore-{made.guid}",
            "endpoint": "core.windows.net",
            "protocol": "https",
            "credentials": {"credentialsType": "AccountKey"},
            "serviceDataAccessAuthIdentity": "None",
        }
        return made

    def check_subscription(self, subscription: str) -> None:
        """It exists.

        Raises:
            RefusalError: it does not, or is no id.
        """
        try:
            uuid.UUID(subscription)
        except ValueError as error:
            message = f"The provided subscription identifier '{subscription}' is malformed or invalid."
            raise RefusalError(400, "InvalidSubscriptionId", message) from error
        if subscription not in self.groups:
            message = f"The subscription '{subscription}' could not be found."
            raise RefusalError(404, "SubscriptionNotFound", message)

    def check_group(self, subscription: str, group: str) -> None:
        """It exists.

        Raises:
            RefusalError: it does not.
        """
        self.check_subscription(subscription)
        if group.lower() not in {name.lower() for name in self.groups[subscription]}:
            raise RefusalError(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")

    def workspace(self, subscription: str, group: str, workspace: str) -> Workspace:
        """The workspace at an address.

        Raises:
            RefusalError: 404, naming what of the address does not exist.
        """
        self.check_group(subscription, group)
        for found in self.workspaces:
            if (found.subscription, found.group.lower(), found.name.lower()) == (
                subscription,
                group.lower(),
                workspace.lower(),
            ):
                return found
        message = (
            f"The Resource 'Microsoft.MachineLearningServices/workspaces/{workspace}' under resource group '{group}' "
            "was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
        )
        raise RefusalError(404, "ResourceNotFound", message)
