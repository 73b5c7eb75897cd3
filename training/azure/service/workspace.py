"""The connection to an Azure ML workspace: import the SDK, log in, find the workspace, and reach what it stores."""

from __future__ import annotations

import logging
import os
import time
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from training.azure.service.address import WorkspaceAddress
from training.azure.service.errors import INSTALL, ServiceError, refusal, service_refusals
from training.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.identity import DefaultAzureCredential
    from azure.storage.blob import ContainerClient


# -- the SDK -----------------------------------------------------------------------------------------------------------


def load_sdk() -> None:
    """Import azure-ai-ml and azure-identity, about two seconds. Call it before any other import of `azure`.

    Their deprecation warnings and loggers are silenced: `azure.identity` writes forty lines where nobody is logged in,
    `azure.ai.ml` one for each experimental class; `errors.py` reports what matters. A logger `azure` that was
    configured before this call (a level or a handler) stays as it is.

    Raises:
        ConfigError: the SDK is not installed.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    logger = logging.getLogger("azure")
    is_unconfigured = not logger.handlers and logger.level == logging.NOTSET
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import azure.ai.ml
            import azure.identity  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"azure-ai-ml is not installed ({error}); run: {INSTALL}") from error
    if is_unconfigured:
        logger.setLevel(logging.CRITICAL)
        logging.getLogger("azure.ai.ml").setLevel(logging.CRITICAL)  # it has a level and a handler of its own


# -- the workspace -----------------------------------------------------------------------------------------------------

TIMEOUTS = {"connection_timeout": 20.0, "read_timeout": 120.0}
"""Seconds until a connection must be open, and that Azure may be silent in an answer; the SDK's defaults are 300."""
ATTEMPTS = 3
"""Further attempts after a fault that may pass."""
PATIENCE: dict[str, Any] = {**TIMEOUTS, "retry_total": ATTEMPTS, "retry_backoff_factor": 0.5}
"""Arguments of every client: pauses of 0, 1 and 2 seconds between attempts, or as long as Azure asks (Retry-After).
The SDK's own ten attempts are two silent minutes; code that waits for longer says so (`waiting.py`)."""
LOGIN_TIMEOUT = 30
"""Seconds that `az` may take for a token; it is slow on a busy machine, and the SDK gives it 10."""
ACCESS_LASTS = 1200.0
"""Seconds after which access to a datastore is asked for again. What Azure gives ends after an hour."""
BLOBS = "AzureBlob"
"""Type of datastore that can hold a run."""
MOST_NAMES = 8
"""Number of workspaces that are named where the right one was not found."""


class Cloud(NamedTuple):
    """The hosts of an Azure cloud."""

    authority: str
    """Login host."""
    manager: str
    """Host of Azure Resource Manager."""
    studio: str


CLOUDS = {
    "AzureCloud": Cloud("login.microsoftonline.com", "management.azure.com", "ml.azure.com"),
    "AzureChinaCloud": Cloud("login.chinacloudapi.cn", "management.chinacloudapi.cn", "studio.ml.azure.cn"),
    "AzureUSGovernment": Cloud("login.microsoftonline.us", "management.usgovcloudapi.net", "ml.azure.us"),
}
"""Value of AZUREML_CURRENT_CLOUD, the SDK's variable -> cloud."""


@dataclass
class Workspace:
    """A workspace that was found with a login that it accepts."""

    address: WorkspaceAddress
    client: MLClient
    credential: DefaultAzureCredential
    location: str
    """Region, such as `westeurope`."""
    mlflow_tracking_uri: str | None
    studio_url: str
    _containers: dict[str, tuple[float, ContainerClient]] = field(default_factory=dict, repr=False)

    @classmethod
    def connect(cls, address: WorkspaceAddress) -> Workspace:
        """Log in as the SDK does, without asking anything, and find the workspace.

        Raises:
            ConfigError: the SDK is missing, or AZUREML_CURRENT_CLOUD does not name a cloud.
            ServiceError: nobody is logged in, or there is no such workspace, which the message tells apart from a
                missing subscription or resource group.
        """
        load_sdk()
        from azure.ai.ml import MLClient

        cloud = _cloud()
        credential = _log_in(cloud)
        # show_progress: without it the SDK (1.35) waits forever for an upload that has failed.
        client = MLClient(
            credential,
            address.subscription_id,
            address.resource_group,
            address.workspace_name,
            show_progress=True,
            enable_telemetry=False,
            **PATIENCE,
        )
        found: Any = _find(client, address)
        wsid = (
            f"/subscriptions/{address.subscription_id}/resourceGroups/{address.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{address.workspace_name}"
        )
        return cls(
            address=address,
            client=client,
            credential=credential,
            location=str(found.location),
            mlflow_tracking_uri=found.mlflow_tracking_uri,
            studio_url=f"https://{cloud.studio}?wsid={wsid}",
        )

    def container(self, datastore: str) -> ContainerClient:
        """Open the blob container of a datastore, with the key or signature that the workspace keeps, else the login.

        Access ends after a while and is then asked for again: call this for each use rather than keep the result.

        Raises:
            ServiceError: there is no such datastore, or it is not a blob datastore.
        """
        asked, container = self._containers.get(datastore, (0.0, None))
        if container is None or time.monotonic() - asked > ACCESS_LASTS:
            with service_refusals(f"datastore {datastore!r}"):
                container = self._open(datastore)
            self._containers[datastore] = (time.monotonic(), container)
        return container

    def _open(self, datastore: str) -> ContainerClient:
        from azure.storage.blob import ContainerClient, LinearRetry

        found: Any = self.client.datastores.get(datastore)
        if (kind := kind_of(found)) != BLOBS:
            raise ServiceError(f"datastore {datastore!r} is of type {kind}; choose one of type {BLOBS}")
        return ContainerClient(
            f"https://{found.account_name}.blob.{found.endpoint}",
            found.container_name,
            credential=self._access(datastore, found),
            retry_policy=LinearRetry(backoff=1, retry_total=ATTEMPTS, random_jitter_range=1),
            **TIMEOUTS,
        )

    def _access(self, datastore: str, found: Any) -> Any:
        """Return a signature, a key, or the login where the workspace keeps neither or does not give it away."""
        from azure.core.exceptions import HttpResponseError

        if "none" in str(getattr(found.credentials, "type", "none")).lower():
            return self.credential
        try:
            credentials: Any = self.client.datastores.get(datastore, include_secrets=True).credentials
        except HttpResponseError as error:
            if error.status_code != 403:
                raise
            return self.credential  # the role may not read keys; the login may have a role of its own at the storage
        return getattr(credentials, "sas_token", None) or getattr(credentials, "account_key", None) or self.credential


def kind_of(datastore: Any) -> str:
    """Return the type of a datastore as Azure spells it, such as `AzureBlob`; the SDK spells it in two ways."""
    name = str(getattr(datastore.type, "value", datastore.type))
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _cloud() -> Cloud:
    name = os.environ.get("AZUREML_CURRENT_CLOUD", "AzureCloud")
    if name not in CLOUDS:
        raise ConfigError(
            f"AZUREML_CURRENT_CLOUD={name!r} should be one of {', '.join(CLOUDS)}{did_you_mean(name, CLOUDS)}"
        )
    return CLOUDS[name]


def _log_in(cloud: Cloud) -> DefaultAzureCredential:
    """Return a credential that has fetched a token."""
    from azure.identity import DefaultAzureCredential

    with service_refusals("Azure login"):
        try:
            credential = DefaultAzureCredential(
                authority=os.environ.get("AZURE_AUTHORITY_HOST", cloud.authority),
                exclude_interactive_browser_credential=True,
                exclude_broker_credential=True,  # may open a window
                exclude_shared_token_cache_credential=True,  # of an old Visual Studio
                process_timeout=LOGIN_TIMEOUT,
                **PATIENCE,
            )
        except ValueError as error:  # AZURE_TOKEN_CREDENTIALS, AZURE_AUTHORITY_HOST, an id with wrong characters
            raise ServiceError(f"Azure login: {error}") from error
        credential.get_token(f"https://{cloud.manager}/.default")
    return credential


def _find(client: MLClient, address: WorkspaceAddress) -> Any:
    """Fetch the workspace as the SDK describes it."""
    where = f"workspace {address.workspace_name!r}"
    try:
        with service_refusals(where):
            return client.workspaces.get(address.workspace_name)
    except ServiceError as error:
        group = f"resource group {address.resource_group!r}"
        if error.code in ("SubscriptionNotFound", "InvalidSubscriptionId"):
            message = (str(error).partition(": ")[2]).replace(
                "no such subscription", f"no subscription {address.subscription_id}", 1
            )
            raise ServiceError(message, error.status, error.code) from error
        if error.code == "ResourceGroupNotFound":
            raise ServiceError(
                f"there is no {group} in subscription {address.subscription_id}; `az group list -o table` shows them",
                error.status,
                error.code,
            ) from error
        if error.status == 404:
            raise ServiceError(
                f"there is no {where} in {group}{_others(client, address.workspace_name)}", error.status, error.code
            ) from error
        raise


def _others(client: MLClient, wanted: str) -> str:
    """Say which workspaces the resource group has instead."""
    try:
        names = sorted(str(found.name) for found in client.workspaces.list())
    except Exception as error:  # of the SDK; the line stands without them
        return f" (and those that are there cannot be listed: {refusal(error) or error})"
    if not names:
        return "; it has none: make one in the portal, or give another resource group"
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"; it has {', '.join(names[:MOST_NAMES])}{more}{did_you_mean(wanted, names)}"
