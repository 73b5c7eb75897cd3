"""The stand-in's own view of the blobs in Azurite: what a service and its machines read and write."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from tests.azure.stand_in.azurite import Azurite
from tests.azure.stand_in.certificates import Certificates

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient, ContainerClient


class Storage:
    """One storage account. Its calls go past the proxy, straight to Azurite: no fault hits them."""

    def __init__(self, azurite: Azurite, certificates: Certificates) -> None:
        self.account, self.key = azurite.account, azurite.key
        self.url = f"https://{azurite.account}.blob.core.windows.net"
        """As clients know it."""
        self._address = f"https://127.0.0.1:{azurite.port}/{azurite.account}"
        self._authority = str(certificates.authority)
        self._client: BlobServiceClient | None = None

    def client(self) -> BlobServiceClient:
        """With the account's key."""
        if self._client is None:
            from azure.core.pipeline.transport import RequestsTransport
            from azure.storage.blob import BlobServiceClient

            self._client = BlobServiceClient(
                self._address,
                credential={"account_name": self.account, "account_key": self.key},
                transport=RequestsTransport(use_env_settings=False, connection_verify=self._authority),
                connection_verify=self._authority,
            )
        return self._client

    def container(self, name: str, make: bool = False) -> ContainerClient:
        """A container by name, made where it is missing if so told."""
        from azure.core.exceptions import ResourceExistsError

        client = self.client().get_container_client(name)
        if make:
            try:
                client.create_container()
            except ResourceExistsError:
                return client
        return client

    def delete_containers(self) -> None:
        """Nothing is left of what tests have written."""
        for found in self.client().list_containers():
            self.client().delete_container(found.name)

    def container_sas(self, name: str, permission: str = "racwl") -> str:
        """A token for a container for an hour."""
        from azure.storage.blob import ContainerSasPermissions, generate_container_sas

        token: str = generate_container_sas(
            self.account,
            name,
            account_key=self.key,
            permission=ContainerSasPermissions.from_string(permission),
            expiry=_in_an_hour(),
        )
        return token

    def blob_url(self, container: str, blob: str, permission: str = "r") -> str:
        """The address of a blob with a token for an hour."""
        from urllib.parse import quote

        from azure.storage.blob import BlobSasPermissions, generate_blob_sas

        token = generate_blob_sas(
            self.account,
            container,
            blob,
            account_key=self.key,
            permission=BlobSasPermissions.from_string(permission),
            expiry=_in_an_hour(),
        )
        return f"{self.url}/{container}/{quote(blob)}?{token}"


def _in_an_hour() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
