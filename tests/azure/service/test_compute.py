"""A compute cluster is created only with consent, shrinks to nothing, and is never changed once it is there."""

from __future__ import annotations

import pytest

from tests.azure.configs import A100, config, line
from tests.azure.stand_in.stand_in import AzureStandIn
from tests.azure.submitted_jobs import address_of
from training.azure.service import compute
from training.azure.service.errors import ServiceError
from training.azure.service.workspace import Workspace
from training.azure.submit.submit_run import ensure_compute
from training.errors import ConfigError


@pytest.fixture
def found(azure: AzureStandIn) -> Workspace:
    return Workspace.connect(address_of(azure))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that are told; what is long in reality is looked at often."""
    monkeypatch.setattr(compute, "LOOK_EVERY", 0.05)
    return []


def test_a_cluster_is_created_with_consent_and_shrinks_to_nothing(
    azure: AzureStandIn, found: Workspace, told: list[str]
) -> None:
    wanted = config(num_gpus=1, nnodes=2, compute_name="gpu", vm_size=A100, create_compute=True, low_priority=True)
    ensure_compute(found, wanted, told.append)
    made = azure.workspace.computes["gpu"]["properties"]["properties"]
    assert (made["vmSize"], made["vmPriority"]) == (A100, "LowPriority")
    assert made["scaleSettings"] == {
        "minNodeCount": 0, "maxNodeCount": 2, "nodeIdleTimeBeforeScaleDown": "PT10M"
    }  # fmt: skip
    assert told == [
        f"creating compute cluster gpu: {A100}, 0 to 2 low-priority nodes, an idle one is given back after 10 min",
        "compute cluster gpu is there",
    ]


def test_a_cluster_that_is_there_is_never_changed(azure: AzureStandIn, found: Workspace, told: list[str]) -> None:
    azure.add_compute("gpu", A100, nodes=1)
    azure.forget()
    ensure_compute(found, config(compute_name="gpu", vm_size=A100, create_compute=True, max_nodes=9), told.append)
    ensure_compute(found, config(vm_size=A100), told.append)
    assert {request.method for request in azure.requests} <= {"GET"}
    assert told == []


def test_a_cluster_is_not_created_without_consent(azure: AzureStandIn, found: Workspace, told: list[str]) -> None:
    with pytest.raises(ConfigError, match="create it with --create-compute"):
        ensure_compute(found, config(compute_name="gpu", vm_size=A100), told.append)
    assert azure.workspace.computes == {}


def test_a_cluster_that_azure_cannot_make_is_told_with_the_reason(
    azure: AzureStandIn, found: Workspace, told: list[str]
) -> None:
    azure.world.cluster_failure = ("ClusterCoreQuotaReached", "Operation results in exceeding quota of 24 cores.")
    wanted = config(num_gpus=1, compute_name="gpu", vm_size=A100, create_compute=True)
    with pytest.raises(ServiceError) as error:
        ensure_compute(found, wanted, told.append)
    shown = line(error.value)
    assert shown.startswith("compute cluster 'gpu' could not be created: ")
    assert "ClusterCoreQuotaReached" in shown
    assert "exceeding quota of 24 cores" in shown
    azure.workspace.computes.clear()
    azure.faults.forbidden("computes/", times=9, action="computes/write", method="PUT")
    with pytest.raises(ServiceError, match="it needs the role Contributor on the workspace"):
        ensure_compute(found, wanted, told.append)
