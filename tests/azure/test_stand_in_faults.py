"""What the stand-in of Azure ML refuses, and the faults that a test asks for, as the real SDK meets them."""

from __future__ import annotations

import os
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
from tests.support.meanwhile import Meanwhile

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


def test_what_does_not_exist_is_named(azure: AzureStandIn, client: Any) -> None:
    from azure.ai.ml import MLClient
    from azure.core.exceptions import HttpResponseError
    from azure.identity import DefaultAzureCredential

    address = azure.address
    for change, code in (
        ({"subscription_id": "not-an-id"}, "InvalidSubscriptionId"),
        ({"subscription_id": "5ab5c819-0000-4000-8000-00000000ffff"}, "SubscriptionNotFound"),
        ({"resource_group_name": "none"}, "ResourceGroupNotFound"),
        ({"workspace_name": "none"}, "ResourceNotFound"),
    ):
        with pytest.raises(HttpResponseError) as refusal:
            MLClient(DefaultAzureCredential(), **{**address, **change}).workspaces.get()
        assert refusal.value.error.code == code
    with pytest.raises(HttpResponseError, match="computes/none"):
        client.compute.get("none")
    with pytest.raises(HttpResponseError, match="Job with name 'none'"):
        client.jobs.get("none")


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


def test_an_upload_is_refused_and_a_log_is_replaced_by_storages_error(
    azure: AzureStandIn, client: Any, submit: Submit, capsys: pytest.CaptureFixture[str]
) -> None:
    azure.faults.upload_forbidden(times=100)
    with pytest.raises(Exception, match="AuthorizationPermissionMismatch"):
        submit("print(1)", name="refused")
    assert "refused" not in azure.workspace.jobs
    azure.faults.clear()
    azure.faults.log_unreadable(times=100)
    azure.machine.open.clear()
    submit("print('shown')", name="shown")
    with Meanwhile(partial(azure.start_when_streamed, "shown")):
        client.jobs.stream("shown")
    assert "<Code>AuthenticationFailed</Code>" in capsys.readouterr().out


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


@pytest.mark.parametrize("logged_in", [True, False])
def test_the_azure_cli_is_a_way_to_log_in(
    azure: AzureStandIn, monkeypatch: pytest.MonkeyPatch, logged_in: bool
) -> None:
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import AzureCliCredential

    monkeypatch.setenv("PATH", f"{azure.fake_az(logged_in)}:{os.environ['PATH']}")
    if logged_in:
        assert AzureCliCredential().get_token("https://management.azure.com/.default").token.count(".") == 2
    else:
        with pytest.raises(ClientAuthenticationError, match="az login"):
            AzureCliCredential().get_token("https://management.azure.com/.default")


def test_a_wrong_secret_is_refused(azure: AzureStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.core.exceptions import ClientAuthenticationError

    monkeypatch.setenv("AZURE_CLIENT_SECRET", "wrong")
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        client_of(azure).workspaces.get()


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
