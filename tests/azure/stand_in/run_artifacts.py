"""Artifacts of runs: where azureml-mlflow asks for addresses of blobs to write and to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.azure.stand_in.exchange import RefusalError, Reply, Request
from tests.azure.stand_in.login import make_token
from tests.azure.stand_in.routes import WORKSPACE, Routes
from tests.azure.stand_in.world import ARTIFACTS

if TYPE_CHECKING:
    from tests.azure.stand_in.world import Document, World

ROUTES = Routes()
_RUN = r"/history/v1\.0" + WORKSPACE + r"(/experiment(ids|s)/[^/]+)?/runs/(?P<name>[^/]+)"


@ROUTES.on("POST", _RUN + "/artifacts/batch/metadata")
def batch(world: World, request: Request, name: str, **_: str) -> Reply:
    """Addresses to write to; a path that there is already is refused."""
    artifacts, content, errors = {}, {}, {}
    for each in request.document["paths"]:
        path = each["path"]
        blob = f"ExperimentRun/dcid.{name}/{path}"
        if world.storage.container(ARTIFACTS).get_blob_client(blob).exists():
            message = f"Resource Conflict: ArtifactId {blob} already exists."
            errors[path] = {"error": {"code": "UserError", "message": message}}
            continue
        artifacts[path] = _artifact(name, path)
        content[path] = {**_artifact(name, path), "contentUri": world.storage.blob_url(ARTIFACTS, blob, "cw")}
    return Reply(document={"artifacts": artifacts, "artifactContentInformation": content, "errors": errors})


@ROUTES.on("GET", _RUN + "/artifacts")
def artifacts(world: World, request: Request, name: str, **_: str) -> Reply:
    """All of a run."""
    start = f"ExperimentRun/dcid.{name}/"
    blobs = world.storage.container(ARTIFACTS).list_blobs(name_starts_with=start)
    found = [_artifact(name, blob.name.removeprefix(start)) for blob in blobs]
    return Reply(document={"value": found, "continuationToken": None, "nextLink": None})


@ROUTES.on("GET", _RUN + "/artifacts/contentinfo")
def content(world: World, request: Request, name: str, **_: str) -> Reply:
    """An address to read from."""
    path = request.query["path"]
    blob = f"ExperimentRun/dcid.{name}/{path}"
    if not world.storage.container(ARTIFACTS).get_blob_client(blob).exists():
        raise RefusalError(404, "UserError", f"Could not find artifact with id {blob}.")
    return Reply(document={**_artifact(name, path), "contentUri": world.storage.blob_url(ARTIFACTS, blob)})


@ROUTES.on("GET|POST", _RUN + "/token")
def renew(world: World, request: Request, name: str, **_: str) -> Reply:
    """A new token for a job that runs for long."""
    return Reply(document={"token": make_token("https://ml.azure.com"), "expiryTimeUtc": "2099-01-01T00:00:00Z"})


def _artifact(name: str, path: str) -> Document:
    place = {"origin": "ExperimentRun", "container": f"dcid.{name}", "path": path}
    return {"artifactId": f"ExperimentRun/dcid.{name}/{path}", **place}
