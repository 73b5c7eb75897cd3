"""What would stop a job late is told before anything is uploaded or created, in one line each."""

from __future__ import annotations

import copy
import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apt_model.errors import ConfigError, UserError
from tests.azure_stand_in.computes import cluster
from tests.azure_stand_in.exchange import Reply
from tests.azure_stand_in.faults import Cut
from tests.azure_stand_in.login import TENANT
from tests.azure_stand_in.stand_in import AzureStandIn
from training.azure_job import compute, workspace
from training.azure_job.compute import ensure_compute
from training.azure_job.handle import WorkspaceAddress
from training.azure_job.refusals import ServiceError, service_refusals
from training.azure_job.service_preflight import check_service
from training.azure_job.workspace import Workspace
from training.config import TrainingConfig
from training.inner_backend import with_options
from training.train_azure_ml import AzureBackend

T4, FOUR_T4, A100, NO_GPU = (
    "Standard_NC4as_T4_v3",
    "Standard_NC64as_T4_v3",
    "Standard_NC24ads_A100_v4",
    "Standard_DS3_v2",
)
READS = ("GET", "HEAD")


def config(
    num_gpus: int | None = None, nnodes: int = 1, num_processes: int | None = None, **options: Any
) -> TrainingConfig:
    launch = {"num_gpus": num_gpus, "nnodes": nnodes, "num_processes": num_processes}
    return with_options(AzureBackend)(launch=launch, azure=options)  # type: ignore[arg-type]


def address_of(azure: AzureStandIn) -> WorkspaceAddress:
    found = azure.workspace
    return WorkspaceAddress(found.subscription, found.group, found.name)


def line(error: BaseException) -> str:
    assert "\n" not in str(error)
    assert len(str(error)) < 900
    return str(error)


@pytest.fixture
def address(azure: AzureStandIn) -> WorkspaceAddress:
    return address_of(azure)


@pytest.fixture
def refused_login(address: WorkspaceAddress) -> Callable[[], str]:
    def attempt() -> str:
        with pytest.raises(UserError) as error:
            Workspace.connect(address)
        return line(error.value)

    return attempt


# -- login and workspace -----------------------------------------------------------------------------------------------


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
    began = time.monotonic()
    told = refused_login()
    assert told.startswith("Azure login: nobody is logged in to Azure here; run `az login`, or set AZURE_TENANT_ID")
    az("missing")
    assert "`az login` (https://aka.ms/azure-cli brings it)" in refused_login()
    assert time.monotonic() - began < 10, "nothing asks, and no probe hangs"


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
            "the answer is none of Azure ML's",
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


def test_as_long_as_azure_asks_is_waited_and_no_longer(azure: AzureStandIn, address: WorkspaceAddress) -> None:
    azure.faults.throttled("workspaces/", times=1, retry_after=1)
    began = time.monotonic()
    assert Workspace.connect(address).location == "eastus"
    assert 1.0 <= time.monotonic() - began < 5.0


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"REQUESTS_CA_BUNDLE": None, "SSL_CERT_FILE": None},
            "set REQUESTS_CA_BUNDLE to the file with its certificate",
        ),
        ({"REQUESTS_CA_BUNDLE": "/nowhere.pem"}, "REQUESTS_CA_BUNDLE=/nowhere.pem is no file with certificates"),
        ({"HTTPS_PROXY": "http://user:pass@127.0.0.1:9"}, "the proxy http://127.0.0.1:9 does not let this through"),
        (
            {"HTTPS_PROXY": None},
            "login.microsoftonline.com cannot be found; is there a network, or does it need HTTPS_PROXY?",
        ),
    ],
    ids=["an untrusted certificate", "no such file", "a dead proxy", "no network"],
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


def test_faults_of_our_own_keep_their_traceback_and_secrets_are_never_told() -> None:
    with pytest.raises(KeyError), service_refusals("our own"):
        {}["mistake"]
    from azure.core.exceptions import AzureError

    with pytest.raises(ServiceError) as error, service_refusals("store"):
        raise AzureError("cannot read https://a.blob/c?sv=1&sig=abc%2Fdef&se=2 with AccountKey=xyz== Bearer ey.J-x_y=")
    assert line(error.value).count("…") == 3
    assert not any(secret in str(error.value) for secret in ("abc", "xyz", "ey.J"))


def test_the_logger_of_azure_stays_as_a_developer_has_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from training.azure_job.sdk import load_sdk

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


# -- storage -----------------------------------------------------------------------------------------------------------


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


# -- what a job asks for -----------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Check:
    """The preflight, and what it did."""

    azure: AzureStandIn
    workspace: Workspace

    def __call__(self, config: TrainingConfig) -> list[str]:
        self.azure.forget()
        before = copy.deepcopy(self.azure.workspace.computes)
        try:
            return check_service(self.workspace, config)
        finally:
            changing = [request for request in self.azure.requests if request.method not in READS]
            assert [r.path for r in changing if r.host != "login.microsoftonline.com"] == [], "it only reads"
            assert self.azure.uploads() == []
            assert self.azure.workspace.computes == before
            assert self.azure.workspace.jobs == {} or set(self.azure.workspace.jobs) == {"taken"}

    def refused(self, config: TrainingConfig) -> str:
        with pytest.raises(ConfigError) as error:
            self(config)
        return line(error.value)


@pytest.fixture
def check(azure: AzureStandIn, address: WorkspaceAddress) -> Check:
    return Check(azure, Workspace.connect(address))


def test_what_is_there_and_large_enough_passes_without_a_warning(check: Check) -> None:
    check.azure.add_compute("gpu", A100, nodes=2)
    assert check(config(num_gpus=1, nnodes=2, compute_name="gpu", register_model="apt-model")) == []
    assert check(config(num_gpus=4, vm_size="standard_nc64as_t4_v3", job_name="new")) == []


def test_a_cluster_that_is_not_there(check: Check) -> None:
    told = check.refused(config(compute_name="gpu-cluster"))
    assert "the workspace has no such cluster; it has none; choose one, or create it with --create-compute" in told
    check.azure.add_compute("gpu-clusters", A100, nodes=3)
    told = check.refused(config(compute_name="gpu-cluster"))
    assert "did you mean 'gpu-clusters'?; it has gpu-clusters (Standard_NC24ads_A100_v4, at most 3 nodes)" in told
    assert check(config(1, compute_name="gpu-cluster", create_compute=True, vm_size=T4)) == []


def test_a_cluster_that_cannot_take_the_job(check: Check) -> None:
    check.azure.add_compute("small", T4, nodes=1)
    assert "the cluster has at most 1 nodes, and the job needs 3 (--nnodes)" in check.refused(
        config(num_gpus=1, nnodes=3, compute_name="small")
    )
    assert f"--vm-size {A100}: the cluster small has machines of size {T4}" in check.refused(
        config(compute_name="small", vm_size=A100, create_compute=True)
    )
    assert "--low-priority: the nodes of cluster small are dedicated" in check.refused(
        config(compute_name="small", low_priority=True)
    )
    broken = check.azure.add_compute("broken", T4)
    broken["properties"]["provisioningState"] = "Failed"
    broken["properties"]["provisioningErrors"] = [{"error": {"code": "SubnetNotFound", "message": "no subnet"}}]
    assert "the cluster is not usable (state Failed: SubnetNotFound)" in check.refused(config(compute_name="broken"))
    notebook = cluster(check.azure.workspace, "notebook", T4)
    notebook["properties"] |= {"computeType": "ComputeInstance", "properties": {"vmSize": T4, "state": "Running"}}
    check.azure.workspace.computes["notebook"] = notebook
    assert "is of type computeinstance, and jobs need a cluster (AmlCompute)" in check.refused(
        config(compute_name="notebook")
    )


def test_a_cluster_that_is_to_be_created_must_hold_the_job(check: Check) -> None:
    assert "--max-nodes 1: the job needs 2 nodes" in check.refused(
        config(nnodes=2, compute_name="new", create_compute=True, vm_size=T4, max_nodes=1)
    )


def test_low_priority_nodes_that_nobody_asked_for_are_mentioned(check: Check) -> None:
    check.azure.add_compute("spot", T4, tier="LowPriority")
    assert check(config(num_gpus=1, compute_name="spot")) == [
        "cluster spot has low-priority nodes: Azure may take them back, and the job then resumes"
    ]
    assert check(config(num_gpus=1, compute_name="spot", low_priority=True)) == []


def test_gpus_of_a_machine_are_held_against_the_processes_on_it(check: Check) -> None:
    told = check.refused(config(num_gpus=2, vm_size=T4))
    assert f"--num-gpus 2: a machine of size {T4} has 1 GPUs; choose a larger --vm-size" in told
    assert "has no GPUs" in check.refused(config(num_gpus=1, vm_size=NO_GPU))
    assert f"--num-processes 8: a machine of size {FOUR_T4} has 4 GPUs" in check.refused(
        config(num_processes=8, vm_size=FOUR_T4)
    )
    assert check(config(num_gpus=1, vm_size=FOUR_T4)) == [
        f"the job uses 1 of the 4 GPUs of each {FOUR_T4}, and all are paid for; --num-gpus 4 uses them, a smaller "
        "--vm-size costs less"
    ]
    assert check(config(vm_size=NO_GPU)) == [f"{NO_GPU} has no GPU: training runs on its processor cores"]


def test_a_size_that_the_region_does_not_offer(check: Check) -> None:
    told = check.refused(config(num_gpus=4, vm_size="Standard_NC64as_T4_v4"))
    assert (
        "eastus, the workspace's region, does not offer it to clusters; did you mean 'Standard_NC64as_T4_v3'?" in told
    )
    assert "with at least 4 GPUs it has Standard_NC64as_T4_v3 (4 GPUs), Standard_NC96ads_A100_v4 (4 GPUs)" in told
    check.azure.world.sizes[T4.lower()]["supportedComputeTypes"] = ["ComputeInstance"]
    assert "does not offer it to clusters" in check.refused(config(vm_size=T4))
    assert "Azure has no low-priority machines of size Standard_ND96isr_H100_v5" in check.refused(
        config(num_gpus=8, vm_size="Standard_ND96isr_H100_v5", low_priority=True)
    )


def test_a_quota_that_never_suffices_is_refused_and_one_that_is_in_use_is_a_warning(check: Check) -> None:
    family = check.azure.world.sizes[A100.lower()]["family"]
    check.azure.world.quota[family] = 40
    told = check.refused(config(num_gpus=1, nnodes=2, vm_size=A100))
    assert f": 40 cores, and the job needs 2 x {A100} = 48 cores; ask for more in Studio (Quota, region eastus)" in told
    check.azure.world.used[family] = 30
    (warning,) = check(config(num_gpus=1, vm_size=A100))
    assert "30 of 40 cores are in use, and the job needs 1 x Standard_NC24ads_A100_v4 = 24 cores; it waits" in warning
    check.azure.world.used.clear()
    check.azure.world.quota[family] = 0
    assert ": 0 cores, and the job needs" in check.refused(config(num_gpus=1, vm_size=A100))
    assert check(config(num_gpus=1, vm_size=A100, low_priority=True)) == [], "low-priority cores have their own quota"
    check.azure.world.low_priority_cores = 10
    assert "quota of all of eastus: 10 cores" in check.refused(config(num_gpus=1, vm_size=A100, low_priority=True))


def test_a_sweep_hears_how_many_trials_run_at_once(check: Check) -> None:
    family = check.azure.world.sizes[A100.lower()]["family"]
    check.azure.world.quota[family] = 60
    sweep = {"sweep": True, "max_trials": 20, "max_concurrent_trials": 4}
    (warning,) = check(config(num_gpus=1, vm_size=A100, **sweep))
    assert "60 cores let 2 of 4 trials run at once" in warning
    check.azure.add_compute("gpu", A100, nodes=3)
    first, _ = check(config(num_gpus=1, compute_name="gpu", **sweep))
    assert first == "cluster gpu has at most 3 nodes: 3 of 4 trials run at once"


def test_a_login_that_sees_the_workspace_alone_is_warned_and_not_refused(check: Check) -> None:
    check.azure.faults.forbidden("/usages", times=99, action="locations/usages/read")
    assert check(config(num_gpus=1, vm_size=T4)) == ["the login may not read the quota of eastus: it was not checked"]
    check.azure.faults.forbidden("/vmSizes", times=99, action="locations/vmSizes/read")
    (warning,) = check(config(num_gpus=1, vm_size=T4))
    assert f"may not read the machine sizes of eastus: {T4} was not checked there" in warning
    assert "has 1 GPUs" in check.refused(config(num_gpus=2, vm_size=T4)), "what is known offline still counts"


def test_a_datastore_that_cannot_keep_the_run(check: Check) -> None:
    assert "--datastore blobs: the workspace has none of that name; its blob datastores are " in check.refused(
        config(vm_size=T4, datastore="blobs")
    )
    check.azure.workspace.datastores["workspacefilestore"] = {
        "datastoreType": "AzureFile", "isDefault": False, "accountName": "a", "fileShareName": "s",
        "endpoint": "core.windows.net", "protocol": "https", "credentials": {"credentialsType": "AccountKey"},
    }  # fmt: skip
    assert "--datastore workspacefilestore: is of type AzureFile, and a run needs one of blobs (AzureBlob)" in (
        check.refused(config(vm_size=T4, datastore="workspacefilestore"))
    )


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("azureml://registries/azureml/environments/acpt-pytorch-2.8-cuda12.6/versions/2", None),
        ("azureml://registries/azureml/environments/acpt-pytorch-2.8-cuda12.6/labels/latest", None),
        (
            "azureml://registries/azureml/environments/acpt-pytorch-2.8-cuda12.6/versions/9",
            "the registry azureml has no such environment; versions of acpt-pytorch-2.8-cuda12.6: 3, 2, 1",
        ),
        ("azureml://registries/azureml/environments/nothing/labels/latest", "there is none called nothing"),
        ("azureml://registries/ours/environments/any/versions/1", "registry ours"),
        ("mine:1", None),
        ("azureml:mine@latest", None),
        ("mine:2", "the workspace has no such environment; versions of mine: 1"),
        ("nobodys@latest", "there is none called nobodys: leave --environment out"),
    ],
)
def test_an_environment_is_looked_up_where_its_name_says(reference: str, told: str | None, check: Check) -> None:
    from azure.ai.ml.entities import Environment

    check.workspace.client.environments.create_or_update(Environment(name="mine", version="1", image="here/image:1"))
    wanted = config(num_gpus=1, vm_size=T4, environment=reference)
    if told is None:
        assert check(wanted) == []
    else:
        with pytest.raises(UserError) as error:
            check(wanted)
        assert told in line(error.value)
        assert f"--environment {reference}" in line(error.value)


def test_a_jobs_name_is_used_once(check: Check) -> None:
    import io

    from azure.ai.ml import load_job

    check.azure.machine.open.clear()
    document = (
        "type: command\nname: taken\ncommand: echo\nexperiment_name: e\nresources: {instance_type: Standard_DS3_v2}\n"
        "environment: {image: 'here/image:1'}\n"
    )
    check.workspace.client.jobs.create_or_update(load_job(io.StringIO(document)))
    told = check.refused(config(vm_size=T4, job_name="taken"))
    assert told.startswith("--job-name taken: the workspace has a job of that name (Queued)")
    assert "--resume taken goes on with that job's run" in told


def test_registering_that_will_be_refused_is_refused_now(check: Check) -> None:
    check.azure.faults.forbidden("/models/", times=9, action="models/read")
    with pytest.raises(ServiceError, match="--register-model apt-model: the login may not do this"):
        check(config(num_gpus=1, vm_size=T4, register_model="apt-model"))


# -- a cluster that is created -----------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that are told; what is long in reality is looked at often."""
    monkeypatch.setattr(compute, "LOOK_EVERY", 0.05)
    return []


def test_a_cluster_is_created_with_consent_and_shrinks_to_nothing(check: Check, impatient: list[str]) -> None:
    wanted = config(num_gpus=1, nnodes=2, compute_name="gpu", vm_size=A100, create_compute=True, low_priority=True)
    ensure_compute(check.workspace, wanted, impatient.append)
    made = check.azure.workspace.computes["gpu"]["properties"]["properties"]
    assert (made["vmSize"], made["vmPriority"]) == (A100, "LowPriority")
    assert made["scaleSettings"] == {
        "minNodeCount": 0, "maxNodeCount": 2, "nodeIdleTimeBeforeScaleDown": "PT10M"
    }  # fmt: skip
    assert impatient == [
        f"creating compute cluster gpu: {A100}, 0 to 2 low-priority nodes, an idle one is given back after 10 min",
        "compute cluster gpu is there",
    ]


def test_a_cluster_that_is_there_is_never_changed(check: Check, impatient: list[str]) -> None:
    check.azure.add_compute("gpu", A100, nodes=1)
    check.azure.forget()
    ensure_compute(
        check.workspace, config(compute_name="gpu", vm_size=A100, create_compute=True, max_nodes=9), impatient.append
    )
    ensure_compute(check.workspace, config(vm_size=A100), impatient.append)
    assert {request.method for request in check.azure.requests} <= {"GET"}
    assert impatient == []


def test_a_cluster_is_not_created_without_consent(check: Check, impatient: list[str]) -> None:
    with pytest.raises(ConfigError, match="create it with --create-compute"):
        ensure_compute(check.workspace, config(compute_name="gpu", vm_size=A100), impatient.append)
    assert check.azure.workspace.computes == {}


def test_a_cluster_that_azure_cannot_make_is_told_with_the_reason(check: Check, impatient: list[str]) -> None:
    check.azure.world.cluster_failure = ("ClusterCoreQuotaReached", "Operation results in exceeding quota of 24 cores.")
    wanted = config(num_gpus=1, compute_name="gpu", vm_size=A100, create_compute=True)
    with pytest.raises(ServiceError) as error:
        ensure_compute(check.workspace, wanted, impatient.append)
    told = line(error.value)
    assert told.startswith("compute cluster 'gpu' could not be created: ")
    assert "ClusterCoreQuotaReached" in told
    assert "exceeding quota of 24 cores" in told
    check.azure.workspace.computes.clear()
    check.azure.faults.forbidden("computes/", times=9, action="computes/write", method="PUT")
    with pytest.raises(ServiceError, match="it needs the role Contributor on the workspace"):
        ensure_compute(check.workspace, wanted, impatient.append)


def test_the_public_package_is_named_where_the_sdk_is_missing(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = (
        "import sys; sys.modules['azure'] = None\n"
        "from training.azure_job.sdk import load_sdk\n"
        "try: load_sdk()\nexcept Exception as error: print(type(error).__name__, error)"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=root)
    assert done.stdout.startswith("ConfigError azure-ai-ml is not installed")
    assert done.stdout.rstrip().endswith("run: pip install -e '.[azure]'")
