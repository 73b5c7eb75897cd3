"""What the stand-in of Azure ML refuses, and the faults that a test asks for, as the real SDK meets them."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.azure.stand_in import azurite
from tests.azure.stand_in.faults import Cut
from tests.azure.stand_in.small_jobs import Submit, client_of
from tests.azure.stand_in.stand_in import AzureStandIn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # what the SDK and MLflow say to their authors
]


@pytest.fixture
def client(azure: AzureStandIn) -> Any:
    """The real SDK, logged in by a client's secret; the cluster `cpu` is there."""
    return client_of(azure)


@pytest.fixture
def submit(client: Any, tmp_path: Path) -> Submit:
    return Submit(client, tmp_path)


def test_faults_count_and_end(azure: AzureStandIn, client: Any) -> None:
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

    azure.faults.unauthorized("/computes/cpu")
    with pytest.raises(ClientAuthenticationError):
        client.compute.get("cpu")
    azure.faults.forbidden("/computes/cpu")
    with pytest.raises(HttpResponseError, match="AuthorizationFailed"):
        client.compute.get("cpu")
    for add in (
        partial(azure.faults.throttled, times=2),
        azure.faults.server_error,
        partial(azure.faults.add, Cut.WITHOUT_ANSWER),
    ):
        fault = add(where="/computes/cpu")
        azure.forget()
        assert client.compute.get("cpu").size == "Standard_DS3_v2"  # the SDK tries again
        assert fault.met == fault.times
        assert len(azure.requests) == fault.times + 1
    azure.faults.conflict("/computes/more")
    with pytest.raises(HttpResponseError, match="Conflict"):
        client.compute.begin_create_or_update(cluster("more"))


def cluster(name: str, **settings: Any) -> Any:
    from azure.ai.ml.entities import AmlCompute

    return AmlCompute(name=name, **{"size": "Standard_NC4as_T4_v3", "max_instances": 2, **settings})


def test_a_cluster_is_made_refused_or_fails_later(azure: AzureStandIn, client: Any) -> None:
    from azure.core.exceptions import HttpResponseError

    made = client.compute.begin_create_or_update(cluster("gpus", tier="low_priority")).result()
    assert (made.size, made.tier, made.max_instances) == ("Standard_NC4as_T4_v3", "low_priority", 2)
    with pytest.raises(HttpResponseError, match="has been retired"):
        client.compute.begin_create_or_update(cluster("old", size="Standard_NC6s_v3"))
    with pytest.raises(HttpResponseError, match="quota of 0"):
        client.compute.begin_create_or_update(cluster("big", size="Standard_ND96isr_H100_v5"))
    azure.world.cluster_failure = ("ClusterCoreQuotaReached", "no cores are left")
    with pytest.raises(HttpResponseError, match="no cores are left"):
        client.compute.begin_create_or_update(cluster("late")).result()
    limits = {row.name["value"]: row.limit for row in client.compute.list_usage() if "vmFamily/dedicated" in row.type}
    assert limits["Standard NCASv3_T4 Family"] == 64
    assert {size.name: size.gpus for size in client.compute.list_sizes()}["Standard_NC64as_T4_v3"] == 4


def test_an_upload_that_is_cut_in_the_middle_leaves_no_blob(azure: AzureStandIn) -> None:
    from azure.core.exceptions import AzureError
    from azure.storage.blob import ContainerClient

    container = azure.workspace.container
    address = f"{azure.storage.url}/{container}?{azure.storage.container_sas(container)}"
    fault = azure.faults.upload_cut()
    with ContainerClient.from_container_url(address, retry_total=0) as client, pytest.raises(AzureError):
        client.upload_blob("half", b"x" * 300_000)
    assert (fault.met, azure.names()) == (1, [])
    with ContainerClient.from_container_url(address, retry_total=0) as client:
        client.upload_blob("whole", b"x" * 300_000)
    assert len(azure.blobs()["whole"]) == 300_000
    assert azure.uploads() == [f"apttests.blob.core.windows.net/{container}/{name}" for name in ("half", "whole")]


def test_nobody_else_is_reached(azure: AzureStandIn) -> None:
    import requests

    with pytest.raises(requests.exceptions.ProxyError):
        requests.get("https://example.com", timeout=10)
    assert [(r.method, r.host) for r in azure.requests] == [("CONNECT", "example.com")]


def test_a_service_that_is_silent_keeps_nobody_longer_than_he_waits(azure: AzureStandIn) -> None:
    import requests

    azure.faults.add(Cut.SILENCE, "/discovery")
    url = "https://eastus.api.azureml.ms/discovery"
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(url, timeout=0.3)
    assert requests.get(url, timeout=10).json()["history"] == "https://eastus.api.azureml.ms"


def test_a_machine_without_node_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert shutil.which("node") is None
    with pytest.raises(RuntimeError, match="run `make setup`"):
        azurite.install()
