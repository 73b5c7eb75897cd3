"""Checks that need the service, made before anything is uploaded or created; they change nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from training.azure.service.compute import (
    USABLE,
    Machine,
    find_compute,
    gpus_in_words,
    gpus_of,
    machine_in_region,
    missing_compute,
    quotas_for,
    state_of,
)
from training.azure.service.errors import ServiceError, service_refusals
from training.azure.service.workspace import BLOBS, PATIENCE, kind_of
from training.azure.settings.job_size import serverless_size, trials_at_once
from training.azure.settings.options import AzureOptions, options_of
from training.errors import ConfigError, did_you_mean
from training.launch.torchrun import ranks_here
from training.settings.tree import TrainingConfig

if TYPE_CHECKING:
    from training.azure.service.workspace import Workspace

_REGISTRY = re.compile(r"azureml://registries/([^/]+)/environments/([^/]+)/(versions|labels)/([^/]+)", re.IGNORECASE)
_OF_WORKSPACE = re.compile(r"(?:azureml:)?(?P<name>[^/:@]+)(?::(?P<version>[^/:@]+)|@(?P<label>[^/:@]+))")


def check_service(workspace: Workspace, config: TrainingConfig) -> list[str]:
    """Find out what would stop the job only after the upload, or after hours in a queue.

    Returns:
        Warnings: what costs more than necessary, what makes the job wait, and what the login may not read.

    Raises:
        ConfigError: a setting asks for something that does not exist, or is too small.
        ServiceError: the service cannot be asked.
    """
    options = options_of(config)
    warnings: list[str] = []
    _check_datastore(workspace, options, warnings)
    _check_job_name(workspace, options)
    size = _check_compute(workspace, config, warnings)
    _check_environment(workspace, options)
    _check_model(workspace, options)
    if size is not None:
        _check_machines(workspace, config, size, warnings)
    return warnings


def _check_datastore(workspace: Workspace, options: AzureOptions, warnings: list[str]) -> None:
    name = options.datastore
    try:
        with service_refusals(f"--datastore {name}"):
            found: Any = workspace.client.datastores.get(name)
    except ServiceError as error:
        if error.status != 404:
            raise
        with service_refusals("datastores of the workspace"):
            stores = [str(store.name) for store in workspace.client.datastores.list() if kind_of(store) == BLOBS]
        raise ConfigError(
            f"--datastore {name}: the workspace has none of that name; its blob datastores are {', '.join(stores)}"
            f"{did_you_mean(name, stores)}"
        ) from error
    if (kind := kind_of(found)) != BLOBS:
        raise ConfigError(f"--datastore {name}: is of type {kind}, and a run needs one of blobs ({BLOBS})")
    try:
        # A network that does not let this machine in shows here in seconds; the SDK's upload takes minutes.
        with service_refusals(f"--datastore {name}: storage account {found.account_name}"):
            next(iter(workspace.container(name).list_blobs(name_starts_with="apt-runs/", results_per_page=1)), None)
    except ServiceError as error:
        if error.status != 403:
            raise
        warnings.append(f"{error}; without it the job runs, but cannot be followed, and its model is not brought here")


def _check_job_name(workspace: Workspace, options: AzureOptions) -> None:
    name = options.job_name
    if name is None:
        return
    try:
        with service_refusals(f"--job-name {name}"):
            found: Any = workspace.client.jobs.get(name)
    except ServiceError as error:
        if error.status != 404:
            raise
        return
    status = str(getattr(found.status, "value", found.status))
    raise ConfigError(
        f"--job-name {name}: the workspace has a job of that name ({status}), and names are used once; choose "
        f"another or leave it out. --resume {name} goes on with that job's run"
    )


def _check_compute(workspace: Workspace, config: TrainingConfig, warnings: list[str]) -> str | None:
    """Check the cluster; return the size of the machines that the job gets."""
    options = options_of(config)
    name = options.compute_name
    if name is None:
        return serverless_size(config)
    found = find_compute(workspace, name)
    if found is None and not options.create_compute:
        raise missing_compute(workspace, name)
    nnodes = config.launch.nnodes
    if found is None:
        return options.vm_size
    where = f"--compute-name {name}"
    if str(found.type).lower() != "amlcompute":
        raise ConfigError(f"{where}: is of type {found.type}, and jobs need a cluster (AmlCompute)")
    state = state_of(found)
    if state.lower() not in USABLE:
        why = f": {found.provisioning_errors}" if found.provisioning_errors else ""
        raise ConfigError(f"{where}: the cluster is not usable (state {state}{why}); repair or delete it in Studio")
    if options.vm_size is not None and options.vm_size.lower() != str(found.size).lower():
        raise ConfigError(
            f"--vm-size {options.vm_size}: the cluster {name} has machines of size {found.size}, and a cluster that is "
            "there is never changed; leave --vm-size out, or choose another --compute-name"
        )
    most = int(found.max_instances or 0)
    if most < nnodes:
        raise ConfigError(
            f"{where}: the cluster has at most {_nodes(most)}, and the job needs {nnodes} (--nnodes); raise its "
            f"maximum (az ml compute update --name {name} --max-instances {nnodes}), or choose another"
        )
    is_low = "low" in str(found.tier).lower()
    if options.low_priority and not is_low:
        raise ConfigError(
            f"--low-priority: the nodes of cluster {name} are dedicated, at the full price; choose a cluster with "
            "low-priority nodes, another --compute-name with --create-compute, or leave --low-priority out"
        )
    if is_low and not options.low_priority:
        warnings.append(f"cluster {name} has low-priority nodes: Azure may take them back, and the job then resumes")
    trials = trials_at_once(config)
    if trials > 1 and most < nnodes * trials:
        warnings.append(f"cluster {name} has at most {_nodes(most)}: {most // nnodes} of {trials} trials run at once")
    return str(found.size)


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def _check_environment(workspace: Workspace, options: AzureOptions) -> None:
    reference = options.environment
    if reference is None:
        return
    where = f"--environment {reference}"
    registry = _REGISTRY.fullmatch(reference)
    local = _OF_WORKSPACE.fullmatch(reference)
    if registry is not None:
        from azure.ai.ml import MLClient

        name, kind, which = registry[2], registry[3].lower(), registry[4]
        with service_refusals(f"{where}: registry {registry[1]}"):
            client = MLClient(workspace.credential, registry_name=registry[1], enable_telemetry=False, **PATIENCE)
        version, label = (which, None) if kind == "versions" else (None, which)
        place = f"registry {registry[1]}"
    elif local is not None:
        client, place = workspace.client, "workspace"
        name, version, label = local["name"], local["version"], local["label"]
    else:
        return  # an ARM id, which is checked where it is used
    if label not in (None, "latest"):
        return  # the SDK knows no other label; the service does
    try:
        with service_refusals(where):
            client.environments.get(name, version=version, label=label)
    except ServiceError as error:
        if error.status not in (404, None):
            raise
        raise ConfigError(f"{where}: the {place} has no such environment{_versions(client, name)}") from error


def _versions(client: Any, name: str) -> str:
    """Say which versions there are of that name."""
    try:
        with service_refusals(f"environment {name}"):
            versions = [str(found.version) for found in client.environments.list(name)]
    except ServiceError:
        versions = []  # no environment of that name
    if not versions:
        return f"; there is none called {name}: leave --environment out for one that is built from our pins"
    return f"; versions of {name}: {', '.join(versions[:8])}"


def _check_model(workspace: Workspace, options: AzureOptions) -> None:
    """Check that the login can read models: the model is registered last, after hours."""
    name = options.register_model
    if name is None:
        return
    try:
        with service_refusals(f"--register-model {name}"):
            next(iter(workspace.client.models.list(name)), None)
    except ServiceError as error:
        if error.status != 404:
            raise


def _check_machines(workspace: Workspace, config: TrainingConfig, size: str, warnings: list[str]) -> None:
    try:
        machine = machine_in_region(workspace, size, config.launch.num_gpus or 1)
    except ServiceError as error:
        if error.status != 403:
            raise
        warnings.append(
            f"the login may not read the machine sizes of {workspace.location}: {size} was not checked there"
        )
        if (gpus := gpus_of(size)) is not None:
            _check_gpus(config, size, gpus, warnings)
        return
    _check_gpus(config, machine.name, machine.gpus, warnings)
    if options_of(config).low_priority and not machine.can_be_low_priority:
        raise ConfigError(f"--low-priority: Azure has no low-priority machines of size {machine.name}; leave it out")
    _check_quota(workspace, config, machine, warnings)


def _check_gpus(config: TrainingConfig, size: str, gpus: int, warnings: list[str]) -> None:
    """Compare the GPUs of one machine with the processes on it."""
    wanted, ranks = config.launch.num_gpus or 0, ranks_here(config.launch)
    device = getattr(getattr(config, options_of(config).inner_backend, None), "device", "auto")
    if gpus < wanted:
        raise ConfigError(
            f"--num-gpus {wanted}: a machine of size {size} has {gpus_in_words(gpus)}; choose a larger --vm-size, or "
            "fewer GPUs and more --nnodes"
        )
    if gpus == 0 and device == "cuda":
        raise ConfigError(f"--device cuda: a machine of size {size} has no GPU; choose another --vm-size")
    if gpus > 0 and device == "cpu":
        warnings.append(
            f"the job trains on the CPUs (--device cpu), and each {size} is paid with its {gpus_in_words(gpus)}"
        )
    elif 0 < gpus < ranks:
        raise ConfigError(
            f"--num-processes {ranks}: a machine of size {size} has {gpus_in_words(gpus)}, one for each process; "
            "choose a larger --vm-size, or fewer processes and more --nnodes"
        )
    elif gpus > ranks:
        warnings.append(
            f"the job uses {ranks} of the {gpus} GPUs of each {size}, and all are paid for; --num-gpus {gpus} uses "
            "them, a smaller --vm-size costs less"
        )
    elif gpus == 0:
        warnings.append(f"{size} has no GPU: training runs on its processor cores")


def _check_quota(workspace: Workspace, config: TrainingConfig, machine: Machine, warnings: list[str]) -> None:
    options, nodes = options_of(config), config.launch.nnodes
    needed = nodes * machine.cores
    try:
        quotas = quotas_for(workspace, machine, options.low_priority)
    except ServiceError as error:
        if error.status != 403:
            raise
        warnings.append(f"the login may not read the quota of {workspace.location}: it was not checked")
        return
    machines = f"{nodes} x {machine.name} = {needed} cores"
    for quota in quotas:
        if quota.limit < 0:
            continue
        if quota.limit < needed:
            raise ConfigError(
                f"quota of {quota.of}: {quota.limit} cores, and the job needs {machines}; ask for more in Studio "
                f"(Quota, region {workspace.location}), or choose another --vm-size or fewer --nnodes"
            )
        if quota.limit - quota.used < needed:
            warnings.append(
                f"quota of {quota.of}: {quota.used} of {quota.limit} cores are in use, and the job needs {machines}; "
                "it waits until others have ended"
            )
        elif (trials := trials_at_once(config)) > 1 and quota.limit < needed * trials:
            at_once = quota.limit // needed
            warnings.append(f"quota of {quota.of}: {quota.limit} cores let {at_once} of {trials} trials run at once")
