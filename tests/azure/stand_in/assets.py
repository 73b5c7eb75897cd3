"""What is registered in a workspace by name and version: code, environments, models; and the pending upload of code."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from tests.azure.stand_in.exchange import RefusalError, Reply, Request
from tests.azure.stand_in.routes import WORKSPACE, Routes

if TYPE_CHECKING:
    from tests.azure.stand_in.world import Document, Workspace, World

ROUTES = Routes()
_KIND = r"/(?P<kind>codes|environments|models)"
_ASSET = WORKSPACE + _KIND + r"/(?P<name>[^/]+)"
_VERSION = _ASSET + r"/versions/(?P<version>[^/]+)"
_CURATED = r"/providers/Microsoft\.MachineLearningServices/registries/(?P<registry>[^/]+)/environments/(?P<name>[^/]+)"


def _of(found: Workspace, kind: str) -> dict[str, dict[str, Document]]:
    assets: dict[str, dict[str, Document]] = getattr(found, kind.lower())
    return assets


@ROUTES.on("GET", _ASSET)
def container(world: World, request: Request, kind: str, name: str, **address: str) -> Reply:
    """A name with its newest version."""
    found = world.workspace(**address)
    versions = _of(found, kind).get(name)
    if not versions:
        raise found.not_found(kind, name)
    newest = list(versions)[-1]
    following = str(int(newest) + 1) if newest.isdigit() else None
    properties: Document = {
        "latestVersion": newest,
        "nextVersion": following,
        "isArchived": False,
        "tags": {},
        "properties": {},
    }
    return Reply(document={"id": f"{found.id}/{kind}/{name}", "name": name, "properties": properties})


@ROUTES.on("GET", WORKSPACE + _KIND)
def containers(world: World, request: Request, kind: str, **address: str) -> Reply:
    """All names."""
    found = world.workspace(**address)
    return Reply(
        document={"value": [container(world, request, kind, name, **address).document for name in _of(found, kind)]}
    )


@ROUTES.on("GET", _ASSET + "/versions")
def versions(world: World, request: Request, kind: str, name: str, **address: str) -> Reply:
    """Versions of a name, newest first; of code, those with a given hash under any name."""
    found = world.workspace(**address)
    if kind.lower() == "codes" and "hash" in request.query:
        everything = [code for of_name in found.codes.values() for code in of_name.values()]
        wanted = request.query["hash"]
        return Reply(
            document={"value": [c for c in everything if c["properties"]["properties"].get("hash_sha256") == wanted]}
        )
    newest_first = list(reversed(_of(found, kind).get(name, {}).values()))
    top = request.query.get("$top")
    return Reply(document={"value": newest_first[: int(top)] if top else newest_first})


@ROUTES.on("GET", _VERSION)
def version(world: World, request: Request, kind: str, name: str, version: str, **address: str) -> Reply:
    """One."""
    found = world.workspace(**address)
    asset = _of(found, kind).get(name, {}).get(version)
    if asset is None:
        raise found.not_found(kind, f"{name}/versions/{version}")
    return Reply(document=asset)


@ROUTES.on("PUT", _VERSION)
def put(world: World, request: Request, kind: str, name: str, version: str, **address: str) -> Reply:
    """Register one; what is registered does not change but for its words."""
    found = world.workspace(**address)
    properties = dict(request.document["properties"])
    properties.setdefault("properties", {})
    properties.setdefault("tags", {})
    before = _of(found, kind).get(name, {}).get(version)
    if before is not None and kind.lower() != "environments":
        where = {"codes": "codeUri", "models": "modelUri"}[kind.lower()]
        if before["properties"].get(where) != properties.get(where):
            message = f"A {kind[:-1]} with this name and version already exists; use a different name or version."
            raise RefusalError(400, "UserError", message)
    if kind.lower() == "environments":
        _check_environment(properties)
        properties |= {"osType": "Linux", "environmentType": "UserCreated"}
    if kind.lower() == "models":
        properties.setdefault("flavors", {})
    made = {
        "id": f"{found.id}/{kind}/{name}/versions/{version}",
        "name": version,
        "type": f"Microsoft.MachineLearningServices/workspaces/{kind}/versions",
        "systemData": {"createdAt": "2026-01-01T00:00:00.0000000+00:00", "createdByType": "Application"},
        "properties": {**properties, "provisioningState": "Succeeded"},
    }
    _of(found, kind).setdefault(name, {})[version] = made
    return Reply(201 if before is None else 200, made)


def _check_environment(properties: Document) -> None:
    """It has an image, or how to build one.

    Raises:
        RefusalError: it has not.
    """
    if not properties.get("image") and not properties.get("build"):
        raise RefusalError(400, "UserError", "Environment version must have either an image or a build context.")


@ROUTES.on("POST", WORKSPACE + r"/codes/(?P<name>[^/]+)/versions/(?P<version>[^/]+)/startPendingUpload")
def start_upload(world: World, request: Request, name: str, version: str, **address: str) -> Reply:
    """A container of its own for one snapshot, with a token to write into it."""
    world.workspace(**address)
    identity = str(uuid.uuid4())
    container_name = f"code-{identity}"
    world.storage.container(container_name, make=True)
    uri = f"{world.storage.url}/{container_name}"
    return Reply(
        document={
            "pendingUploadId": identity,
            "pendingUploadType": "TemporaryBlobReference",
            "blobReferenceForConsumption": {
                "blobUri": uri,
                "storageAccountArmId": f"/providers/Microsoft.Storage/storageAccounts/{world.storage.account}",
                "credential": {
                    "credentialType": "SAS",
                    "sasUri": f"{uri}?{world.storage.container_sas(container_name)}",
                },
            },
        }
    )
