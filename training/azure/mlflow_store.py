"""An Azure ML workspace as MLflow's store: `azureml://…`, reached by azureml-mlflow. The SDK is imported in functions.

Seen in the packages' source (azureml-mlflow 1.62) and in reports of its users, and kept here in one place:

- its own login opens a browser, or waits for a code that is typed elsewhere: a tracker must do neither;
- it sends files by the login of MLflow's default store, whatever store the client was made for;
- a file's name can be taken once in a run, also by an earlier part of it;
- the service takes fewer metrics in a call, fewer params and fewer tags than MLflow.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterable, Iterator

from training.azure.handle import WorkspaceAddress
from training.errors import ConfigError

SHORTHAND = "azureml"
"""As a tracking URI: the workspace that the environment or its config.json names."""
MAX_METRICS = 250
"""In one call (Azure ML's "Service limits": metric rows per batch)."""
MAX_PARAMS_OF_RUN = 200
MAX_TAGS_OF_RUN = 50
MAX_PARAM_LENGTH = 500

_SCOPE = re.compile(
    r"azureml://[^/]+/.*?/subscriptions/([^/]+)/resourceGroups/([^/]+)"
    r"/providers/Microsoft\.MachineLearningServices/workspaces/([^/?]+)",
    re.IGNORECASE,
)


def is_workspace(uri: str | None) -> bool:
    """Whether a tracking URI means an Azure ML workspace."""
    return uri == SHORTHAND or (uri or "").startswith("azureml:")


def address_of(uri: str) -> WorkspaceAddress:
    """The workspace that a tracking URI means. Offline.

    Raises:
        ConfigError: it names none.
    """
    if uri == SHORTHAND:
        from training.azure.address import find_address
        from training.azure.options import AzureOptions

        return find_address(AzureOptions(), asker="--mlflow-tracking-uri azureml")
    match = _SCOPE.match(uri)
    if match is None:
        raise ConfigError(
            f"MLflow tracking URI {uri!r}: it names no workspace; give what `az ml workspace show --query "
            "mlflow_tracking_uri -o tsv` prints, or the word azureml for the workspace of config.json"
        )
    return WorkspaceAddress(*match.groups())


def log_in(uri: str) -> str:
    """Find the workspace with the login of this machine, and let azureml-mlflow use that login.

    Returns:
        The workspace's tracking URI.

    Raises:
        UserError: the SDK is missing, nobody is logged in, or there is no such workspace.
    """
    from training.azure.workspace import Workspace

    workspace = Workspace.connect(address_of(uri))  # the SDK hands its login to azureml-mlflow
    if workspace.mlflow_tracking_uri is None:
        raise ConfigError(f"workspace {workspace.address.workspace_name!r} has no MLflow store")
    return workspace.mlflow_tracking_uri


def be_quiet() -> None:
    """No lines of azureml-mlflow's own beside the progress bar."""
    logging.getLogger("azureml").setLevel(logging.ERROR)


@contextlib.contextmanager
def as_default_store(uri: str) -> Iterator[None]:
    """Let MLflow's default store be the workspace, as azureml-mlflow needs it to send a file."""
    name = "MLFLOW_TRACKING_URI"
    before = os.environ.get(name)
    os.environ[name] = uri
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def free_folder(taken: Iterable[str], wanted: Iterable[str]) -> str:
    """Where this part of a run puts its files: "" for the first, then `part_2`, `part_3`, …

    Args:
        taken: names at the top of the run's files.
        wanted: names that are to be put there.
    """
    taken = set(taken)
    if taken.isdisjoint(wanted) and not any(name.startswith("part_") for name in taken):
        return ""
    number = 2
    while f"part_{number}" in taken:
        number += 1
    return f"part_{number}"


def studio_page(uri: str, run_id: str) -> str:
    """Where Studio shows a run."""
    address = address_of(uri)
    studio = {"cn": "studio.ml.azure.cn", "us": "ml.azure.us"}.get(uri.split("/")[2].rpartition(".")[2], "ml.azure.com")
    return (
        f"https://{studio}/runs/{run_id}?wsid=/subscriptions/{address.subscription_id}/resourcegroups/"
        f"{address.resource_group}/workspaces/{address.workspace_name}"
    )
