"""An Azure ML workspace as MLflow's store: `azureml://…`, reached by azureml-mlflow. The SDK is imported in functions.

What the packages' source (azureml-mlflow 1.62) and reports of its users show:

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

from training.azure.service.address import WorkspaceAddress, find_address
from training.azure.service.errors import INSTALL
from training.errors import ConfigError
from training.tracking.choice import is_installed
from training.tracking.mlflow_services import register_service

SHORTHAND = "azureml"
"""Tracking URI of the workspace that the environment or its config.json names."""

_SCOPE = re.compile(
    r"azureml://[^/]+/.*?/subscriptions/([^/]+)/resourceGroups/([^/]+)"
    r"/providers/Microsoft\.MachineLearningServices/workspaces/([^/?]+)",
    re.IGNORECASE,
)


class AzureStore:
    """The rules of Azure ML's MLflow store. See `MLflowService`."""

    max_metrics = 250
    """Azure ML's "Service limits": metric rows per batch."""
    max_tags = 50
    max_param_length = 500

    def check(self, uri: str, is_guest: bool) -> None:
        """Refuse missing packages, and a URI that does not name a workspace. See `MLflowService.check`."""
        needed = ("azureml.mlflow",) if is_guest else ("azureml.mlflow", "azure.ai.ml", "azure.identity")
        if missing := [module for module in needed if not is_installed(module)]:
            raise ConfigError(
                f"--track mlflow into an Azure ML workspace: {', '.join(missing)} is not installed; run: {INSTALL}"
            )
        address_of(uri)

    def quieten(self) -> None:
        """Silence azureml-mlflow, whose lines would tear the progress bar."""
        logging.getLogger("azureml").setLevel(logging.ERROR)

    def log_in(self, uri: str) -> str:
        """Find the workspace with the login of this machine, and let azureml-mlflow use that login.

        Returns:
            The workspace's tracking URI.

        Raises:
            UserError: the SDK is missing, nobody is logged in, or there is no such workspace.
        """
        from training.azure.service.workspace import Workspace

        workspace = Workspace.connect(address_of(uri))  # the SDK hands its login to azureml-mlflow
        if workspace.mlflow_tracking_uri is None:
            raise ConfigError(f"workspace {workspace.address.workspace_name!r} has no MLflow store")
        return workspace.mlflow_tracking_uri

    @contextlib.contextmanager
    def sending_files(self, uri: str) -> Iterator[None]:
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

    def free_folder(self, taken: Iterable[str], wanted: Iterable[str]) -> str:
        """Return the folder for this part of a run's files: "" for the first, then `part_2`, `part_3`, …

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

    def page(self, uri: str, run_id: str) -> str:
        """Return the address of the page on which Studio shows a run."""
        address = address_of(uri)
        studio = {"cn": "studio.ml.azure.cn", "us": "ml.azure.us"}.get(
            uri.split("/")[2].rpartition(".")[2], "ml.azure.com"
        )
        return (
            f"https://{studio}/runs/{run_id}?wsid=/subscriptions/{address.subscription_id}/resourcegroups/"
            f"{address.resource_group}/workspaces/{address.workspace_name}"
        )


def register() -> None:
    """Make the store known to the MLflow tracker, which imports nothing of Azure. The front door calls this."""
    register_service("azure", is_workspace, AzureStore())


def is_workspace(uri: str) -> bool:
    """Return True if a tracking URI means an Azure ML workspace."""
    return uri == SHORTHAND or uri.startswith("azureml:")


def address_of(uri: str) -> WorkspaceAddress:
    """Return the workspace that a tracking URI means, offline.

    Raises:
        ConfigError: it does not name one.
    """
    if uri == SHORTHAND:
        return find_address(None, asker="--mlflow-tracking-uri azureml")
    match = _SCOPE.match(uri)
    if match is None:
        raise ConfigError(
            f"MLflow tracking URI {uri!r}: it names no workspace; give what `az ml workspace show --query "
            "mlflow_tracking_uri -o tsv` prints, or the word azureml for the workspace of config.json"
        )
    return WorkspaceAddress(*match.groups())
