"""What would stop a job late is told before anything is uploaded or created, in one line each."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from tests.azure.configs import A100, FOUR_T4, NO_GPU, T4, config, line
from tests.azure.stand_in.computes import cluster
from tests.azure.stand_in.exchange import Reply
from tests.azure.stand_in.faults import Cut
from tests.azure.stand_in.stand_in import AzureStandIn
from tests.azure.submitted_jobs import address_of
from training.azure.service import workspace
from training.azure.service.compute import DEFAULT_SIZE
from training.azure.service.errors import ServiceError
from training.azure.service.workspace import Workspace
from training.azure.submit.service_preflight import check_service
from training.errors import ConfigError, UserError
from training.settings.tree import TrainingConfig

READS = ("GET", "HEAD")
READ_BY_POST = ("/oauth2/v2.0/token", "/listSecrets")


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
            changing = [request.path for request in self.azure.requests if request.method not in READS]
            assert [path for path in changing if not path.endswith(READ_BY_POST)] == [], "it only reads"
            assert self.azure.uploads() == []
            assert self.azure.workspace.computes == before
            assert self.azure.workspace.jobs == {} or set(self.azure.workspace.jobs) == {"taken"}

    def refused(self, config: TrainingConfig) -> str:
        with pytest.raises(ConfigError) as error:
            self(config)
        return line(error.value)


@pytest.fixture
def check(azure: AzureStandIn) -> Check:
    return Check(azure, Workspace.connect(address_of(azure)))


def test_what_is_there_and_large_enough_passes_without_a_warning(check: Check) -> None:
    check.azure.add_compute("gpu", A100, nodes=2)
    assert check(config(num_gpus=1, nnodes=2, compute_name="gpu", register_model="apt-model")) == []
    assert check(config(num_gpus=4, vm_size="standard_nc64as_t4_v3", job_name="new")) == []


def test_a_job_that_names_no_machine_gets_the_default_one(check: Check) -> None:
    assert check(config()) == []
    del check.azure.world.sizes[DEFAULT_SIZE.lower()]
    assert f"--vm-size {DEFAULT_SIZE}: eastus, the workspace's region, does not offer it" in check.refused(config())


def test_a_cluster_that_is_not_there(check: Check) -> None:
    told = check.refused(config(compute_name="gpu-cluster"))
    assert "the workspace has no such cluster; it has none; choose one, or create it with --create-compute" in told
    check.azure.add_compute("gpu-clusters", A100, nodes=3)
    told = check.refused(config(compute_name="gpu-cluster"))
    assert "; it has gpu-clusters (Standard_NC24ads_A100_v4, at most 3 nodes); choose one" in told
    assert told.endswith("machines of its own; did you mean 'gpu-clusters'?")
    check.azure.add_compute("gpu-clusters", A100, nodes=1)
    assert "at most 1 node)" in check.refused(config(compute_name="gpu-cluster"))
    assert check(config(1, compute_name="gpu-cluster", create_compute=True, vm_size=T4)) == []


def test_a_cluster_that_cannot_take_the_job(check: Check) -> None:
    check.azure.add_compute("small", T4, nodes=1)
    assert "the cluster has at most 1 node, and the job needs 3 (--nnodes)" in check.refused(
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


def test_low_priority_nodes_that_nobody_asked_for_are_mentioned(check: Check) -> None:
    check.azure.add_compute("spot", T4, tier="LowPriority")
    assert check(config(num_gpus=1, compute_name="spot")) == [
        "cluster spot has low-priority nodes: Azure may take them back, and the job then resumes"
    ]
    assert check(config(num_gpus=1, compute_name="spot", low_priority=True)) == []


def test_gpus_of_a_machine_are_held_against_the_processes_on_it(check: Check) -> None:
    told = check.refused(config(num_gpus=2, vm_size=T4))
    assert f"--num-gpus 2: a machine of size {T4} has 1 GPU; choose a larger --vm-size" in told
    assert "has no GPU;" in check.refused(config(num_gpus=1, vm_size=NO_GPU))
    assert f"--num-processes 8: a machine of size {FOUR_T4} has 4 GPUs" in check.refused(
        config(num_processes=8, vm_size=FOUR_T4)
    )
    assert check(config(num_gpus=1, vm_size=FOUR_T4)) == [
        f"the job uses 1 of the 4 GPUs of each {FOUR_T4}, and all are paid for; --num-gpus 4 uses them, a smaller "
        "--vm-size costs less"
    ]
    assert "--device cuda: a machine of size" in check.refused(config(vm_size=NO_GPU, device="cuda"))
    assert check(config(num_processes=8, vm_size=FOUR_T4, device="cpu")) == [
        f"the job trains on the CPUs (--device cpu), and each {FOUR_T4} is paid with its 4 GPUs"
    ]
    assert check(config(vm_size=NO_GPU)) == [f"{NO_GPU} has no GPU: training runs on its processor cores"]


def test_a_size_that_the_region_does_not_offer(check: Check) -> None:
    told = check.refused(config(num_gpus=4, vm_size="Standard_NC64as_T4_v4"))
    assert (
        "eastus, the workspace's region, does not offer it to clusters; with at least 4 GPUs it has "
        "Standard_NC64as_T4_v3 (4 GPUs), Standard_NC96ads_A100_v4 (4 GPUs)" in told
    )
    assert told.endswith("; did you mean 'Standard_NC64as_T4_v3'?")
    real = "Standard_NV36ads_A10_v5"
    check.azure.world.sizes.pop(real.lower(), None)
    told = check.refused(config(num_gpus=1, vm_size=real))
    assert f"with at least 1 GPU it has {T4} (1 GPU), " in told
    assert "did you mean" not in told
    for retired, gpus, offered in (
        ("Standard_NC6s_v3", 1, f"{T4} (1 GPU), {A100} (1 GPU)"),
        ("STANDARD_NC24RS_V3", 4, "Standard_NC64as_T4_v3 (4 GPUs), Standard_NC96ads_A100_v4 (4 GPUs)"),
        ("Standard_NV6", 1, f"{T4} (1 GPU)"),
    ):
        told = check.refused(config(num_gpus=gpus, vm_size=retired))
        assert told.startswith(f"--vm-size {retired}: eastus, the workspace's region, does not offer it to clusters; ")
        assert f"it has {offered}" in told
        assert "did you mean" not in told
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
    sweep: dict[str, Any] = {"sweep": True, "max_trials": 20, "max_concurrent_trials": 4}
    (warning,) = check(config(num_gpus=1, vm_size=A100, **sweep))
    assert "60 cores let 2 of 4 trials run at once" in warning
    few: dict[str, Any] = {"sweep": True, "search": ["d_model=128,256,512"]}
    (warning,) = check(config(num_gpus=1, vm_size=A100, **few))
    assert "60 cores let 2 of 3 trials run at once" in warning
    check.azure.add_compute("gpu", A100, nodes=3)
    first, _ = check(config(num_gpus=1, compute_name="gpu", **sweep))
    assert first == "cluster gpu has at most 3 nodes: 3 of 4 trials run at once"


def test_a_login_that_sees_the_workspace_alone_is_warned_and_not_refused(check: Check) -> None:
    check.azure.faults.forbidden("/usages", times=99, action="locations/usages/read")
    assert check(config(num_gpus=1, vm_size=T4)) == ["the login may not read the quota of eastus: it was not checked"]
    check.azure.faults.forbidden("/vmSizes", times=99, action="locations/vmSizes/read")
    (warning,) = check(config(num_gpus=1, vm_size=T4))
    assert f"may not read the machine sizes of eastus: {T4} was not checked there" in warning
    assert "has 1 GPU;" in check.refused(config(num_gpus=2, vm_size=T4)), "what is known offline still counts"


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


def test_storage_that_does_not_let_one_in_is_told_before_the_upload(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "ATTEMPTS", 0)
    refusal = Reply(403, headers={"x-ms-error-code": "AuthorizationPermissionMismatch"})
    check.azure.faults.add(refusal, r"blob\.core\.windows\.net", times=99)
    (warning,) = check(config(num_gpus=1, vm_size=T4))
    assert "the login needs the role Storage Blob Data Contributor there" in warning
    assert "the job runs, but cannot be followed" in warning
    check.azure.faults.clear()
    check.azure.faults.add(Cut.WITHOUT_ANSWER, r"blob\.core\.windows\.net", times=99)
    with pytest.raises(ServiceError, match=r"--datastore workspaceblobstore: storage account apttests: .* broke the"):
        check(config(num_gpus=1, vm_size=T4))


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
