"""The connection to a workspace by the real SDK: who logs in, what is not there, what bars the way; one line each."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.azure.configs import line
from tests.azure.stand_in.exchange import Reply
from tests.azure.stand_in.faults import Cut
from tests.azure.stand_in.login import TENANT
from tests.azure.stand_in.stand_in import AzureStandIn
from tests.azure.submitted_jobs import address_of
from training.azure.service import workspace
from training.azure.service.address import WorkspaceAddress
from training.azure.service.errors import ServiceError, service_refusals
from training.azure.service.workspace import Workspace
from training.errors import UserError


@pytest.fixture
def address(azure: AzureStandIn) -> WorkspaceAddress:
    return address_of(azure)


@pytest.fixture
def refused_login(address: WorkspaceAddress) -> Callable[[], str]:
    """Try to connect, and read why it fails."""

    def attempt() -> str:
        with pytest.raises(UserError) as error:
            Workspace.connect(address)
        return line(error.value)

    return attempt


def test_a_login_finds_the_workspace(azure: AzureStandIn, address: WorkspaceAddress) -> None:
    found = Workspace.connect(address)
    assert found.location == "eastus"
    assert found.studio_url.startswith("https://ml.azure.com?wsid=/subscriptions/")
    assert found.mlflow_tracking_uri is not None
    assert found.mlflow_tracking_uri.startswith("azureml://eastus.api.azureml.ms/mlflow/")
    assert [request.host for request in azure.requests].count("management.azure.com") == 1


@pytest.fixture
def az(azure: AzureStandIn, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A machine without secrets, on whose PATH is an `az` that is logged in, logged out, or missing."""
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name)

    def put(state: str) -> None:
        directory = "" if state == "missing" else f"{azure.fake_az(logged_in=state == 'logged in')}:"
        monkeypatch.setenv("PATH", f"{directory}/usr/bin:/bin")

    return put


def test_the_login_of_az_is_used(az: Callable[[str], None], address: WorkspaceAddress) -> None:
    az("logged in")
    assert Workspace.connect(address).location == "eastus"


def test_nobody_is_logged_in(az: Callable[[str], None], refused_login: Callable[[], str]) -> None:
    az("logged out")
    told = refused_login()
    assert told.startswith("Azure login: nobody is logged in to Azure here; run `az login`, or set AZURE_TENANT_ID")
    az("missing")
    assert "`az login` (https://aka.ms/azure-cli brings it)" in refused_login()


def test_the_tenant_that_is_set_is_named(
    az: Callable[[str], None], refused_login: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    az("logged out")
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    assert f"`az login --tenant {TENANT}`" in refused_login()


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("AZURE_CLIENT_SECRET", "wrong", "AZURE_CLIENT_SECRET is wrong (give the secret's value, not its id)"),
        ("AZURE_CLIENT_ID", "7e57e57e-0000-4000-8000-000000000009", "there is no application AZURE_CLIENT_ID"),
        ("AZURE_TENANT_ID", "7e57e57e-0000-4000-8000-000000000009", "there is no tenant AZURE_TENANT_ID"),
        ("AZURE_TOKEN_CREDENTIALS", "nonsense", "Invalid value for AZURE_TOKEN_CREDENTIALS: nonsense"),
        ("AZUREML_CURRENT_CLOUD", "AzureChina", "did you mean 'AzureChinaCloud'?"),
    ],
)
def test_a_variable_of_the_login_that_is_wrong_is_named(
    variable: str, value: str, told: str, refused_login: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert told in refused_login()


def test_what_of_an_address_does_not_exist_is_told(address: WorkspaceAddress) -> None:
    def refused(**changed: str) -> str:
        with pytest.raises(ServiceError) as error:
            Workspace.connect(dataclasses.replace(address, **changed))
        return line(error.value)

    other = "11111111-2222-4333-8444-555555555555"
    assert refused(subscription_id=other).startswith(f"there is no subscription {other}, or the login may not see it")
    assert refused(resource_group="nowhere").startswith(
        f"there is no resource group 'nowhere' in subscription {address.subscription_id}"
    )
    assert refused(workspace_name="apt-workspaec") == (
        "there is no workspace 'apt-workspaec' in resource group 'apt-tests'; it has apt-workspace; "
        "did you mean 'apt-workspace'?"
    )


def test_a_login_of_another_tenant_is_told_with_the_right_one(
    azure: AzureStandIn,
    refused_login: Callable[[], str],
) -> None:
    other = "99999999-2222-4333-8444-555555555555"
    message = (
        f"The access token is from the wrong issuer 'https://sts.windows.net/{TENANT}/'. It must match one of the "
        f"tenants 'https://sts.windows.net/{other}/' associated with this subscription."
    )
    document = {"error": {"code": "InvalidAuthenticationTokenTenant", "message": message}}
    azure.faults.add(Reply(401, document), "management.azure.com", times=99)
    assert f"run `az login --tenant {other}`" in refused_login()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (
            lambda faults: faults.unauthorized(times=99),
            "Azure no longer accepts the login (401 InvalidAuthenticationToken",
        ),
        (lambda faults: faults.forbidden("workspaces/", times=99), "it needs the role AzureML Data Scientist"),
        (
            lambda faults: faults.server_error("workspaces/", times=99),
            "Azure has a fault of its own, also after trying",
        ),
        (lambda faults: faults.throttled("workspaces/", times=99), "Azure has had too many requests"),
        (lambda faults: faults.add(Cut.WITHOUT_ANSWER, "workspaces/", times=99), "broke the connection off"),
        (
            lambda faults: faults.add(
                Reply(200, body=b"<html>Please accept our terms</html>"), "workspaces/", times=99
            ),
            "the answer is not Azure ML's",
        ),
    ],
    ids=["401", "403", "500", "429", "cut", "a hotel's login page"],
)
def test_what_the_service_refuses_is_one_line(
    fault: Callable[[Any], object],
    told: str,
    azure: AzureStandIn,
    refused_login: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(workspace.PATIENCE, "retry_total", 1)
    fault(azure.faults)
    assert told in refused_login()


def test_as_long_as_azure_asks_is_waited_and_no_longer(
    azure: AzureStandIn, address: WorkspaceAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    sleep = time.sleep

    def sleep_unless_here(seconds: float) -> None:
        is_here = threading.current_thread() is threading.main_thread()
        waits.append(seconds) if is_here else sleep(seconds)

    monkeypatch.setattr(time, "sleep", sleep_unless_here)
    azure.faults.throttled("workspaces/", times=1, retry_after=1)
    assert Workspace.connect(address).location == "eastus"
    assert waits == [1.0]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"REQUESTS_CA_BUNDLE": None, "SSL_CERT_FILE": None},
            "set REQUESTS_CA_BUNDLE to the file with its certificate",
        ),
        ({"REQUESTS_CA_BUNDLE": "/nowhere.pem"}, "REQUESTS_CA_BUNDLE=/nowhere.pem is not a file with certificates"),
        ({"HTTPS_PROXY": "http://user:pass@127.0.0.1:9"}, "the proxy http://127.0.0.1:9 does not let this through"),
        ({"HTTPS_PROXY": "http://proxy.invalid:3128"}, "the proxy http://proxy.invalid:3128 does not let this through"),
    ],
    ids=["an untrusted certificate", "no such file", "a dead proxy", "an unknown proxy"],
)
def test_the_way_to_azure_is_barred(
    changed: dict[str, str | None],
    told: str,
    refused_login: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(workspace.PATIENCE, "retry_total", 0)
    for name, value in changed.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    shown = refused_login()
    assert told in shown
    assert "user:pass" not in shown


def test_no_network_is_told_as_that(azure: AzureStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.core import PipelineClient
    from azure.core.rest import HttpRequest

    monkeypatch.delenv("HTTPS_PROXY")
    client = PipelineClient("https://nowhere.invalid", retry_total=0)
    with client, pytest.raises(ServiceError) as error, service_refusals("asking"):
        client.send_request(HttpRequest("GET", "https://nowhere.invalid/"))
    assert (
        line(error.value) == "asking: nowhere.invalid cannot be found; is there a network, or does it need HTTPS_PROXY?"
    )


def test_a_file_here_that_the_sdk_cannot_read_is_named(tmp_path: Path) -> None:
    from azure.ai.ml import load_job

    with pytest.raises(UserError) as error, service_refusals("loading"):
        load_job(str(tmp_path))
    assert str(tmp_path) in line(error.value)


def test_faults_of_our_own_keep_their_traceback_and_secrets_are_never_told() -> None:
    with pytest.raises(KeyError), service_refusals("our own"):
        raise KeyError("mistake")
    with pytest.raises(TimeoutError), service_refusals("our own"):
        raise TimeoutError("our own timed out")
    from azure.core.exceptions import AzureError

    with pytest.raises(ServiceError) as error, service_refusals("store"):
        raise AzureError("cannot read https://a.blob/c?sv=1&sig=abc%2Fdef&se=2 with AccountKey=xyz== Bearer ey.J-x_y=")
    assert line(error.value).count("…") == 3
    assert not any(secret in str(error.value) for secret in ("abc", "xyz", "ey.J"))


def test_the_logger_of_azure_stays_as_a_developer_has_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from training.azure.service.workspace import load_sdk

    logger = logging.getLogger("azure")
    before = logger.level
    try:
        logger.setLevel(logging.DEBUG)
        load_sdk()
        assert logger.level == logging.DEBUG
        logger.setLevel(logging.NOTSET)
        load_sdk()
        assert logger.level == logging.CRITICAL
    finally:
        logger.setLevel(before)


@pytest.mark.parametrize("secrets", ["AccountKey", "Sas", "refused", "none"])
def test_a_datastore_is_reached_by_key_signature_or_login(
    secrets: str,
    azure: AzureStandIn,
    address: WorkspaceAddress,
) -> None:
    if secrets == "refused":
        azure.faults.forbidden("listSecrets", times=99, action="datastores/listSecrets/action")
    elif secrets == "none":
        azure.workspace.datastores["workspaceblobstore"]["credentials"] = {"credentialsType": "None"}
    else:
        azure.world.secrets = secrets
    found = Workspace.connect(address)
    container = found.container("workspaceblobstore")
    if secrets in ("AccountKey", "Sas"):
        container.upload_blob("apt-runs/a.txt", b"here")
        assert container.download_blob("apt-runs/a.txt").readall() == b"here"
    else:
        assert container.credential is found.credential
    assert found.container("workspaceblobstore") is container, "it is not asked for anew each time"


def test_access_to_a_datastore_is_asked_for_anew_before_it_ends(
    azure: AzureStandIn,
    address: WorkspaceAddress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = Workspace.connect(address)
    first = found.container("workspaceblobstore")
    monkeypatch.setattr(workspace, "ACCESS_LASTS", -1.0)
    assert found.container("workspaceblobstore") is not first


def test_the_public_package_is_named_where_the_sdk_is_missing(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['azure'] = None\n"
        "from training.azure.service.workspace import load_sdk\n"
        "try: load_sdk()\nexcept Exception as error: print(type(error).__name__, error)"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=root)
    assert done.stdout.startswith("ConfigError azure-ai-ml is not installed")
    assert done.stdout.rstrip().endswith("run: pip install -e '.[azure]'")
