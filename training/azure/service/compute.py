"""Machines and clusters: sizes with their GPUs, what a region offers, quota, and clusters that are found or created.

The sizes listed here are those with a GPU that torch's wheels run on (learn.microsoft.com/azure/virtual-machines, "GPU
accelerated sizes"); they let a dry run count GPUs offline. A size that is not listed is passed on: the service knows
them all, and refuses those that are retired.
"""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.azure.service.errors import ServiceError, service_refusals
from training.azure.service.waiting import Heartbeat
from training.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from training.azure.service.workspace import Workspace


# -- sizes, as far as they are known offline ---------------------------------------------------------------------------

DEFAULT_SIZE = "Standard_NC4as_T4_v3"
"""The cheapest with a GPU that torch's wheels run on: one T4 with 16 GB."""

GPUS: Mapping[str, int] = {
    "Standard_NC4as_T4_v3": 1,
    "Standard_NC8as_T4_v3": 1,
    "Standard_NC16as_T4_v3": 1,
    "Standard_NC64as_T4_v3": 4,
    "Standard_NC24ads_A100_v4": 1,
    "Standard_NC48ads_A100_v4": 2,
    "Standard_NC96ads_A100_v4": 4,
    "Standard_NC40ads_H100_v5": 1,
    "Standard_NC80adis_H100_v5": 2,
    "Standard_NCC40ads_H100_v5": 1,
    "Standard_NV36ads_A10_v5": 1,
    "Standard_NV36adms_A10_v5": 1,
    "Standard_NV72ads_A10_v5": 2,
    "Standard_ND96asr_v4": 8,
    "Standard_ND96amsr_A100_v4": 8,
    "Standard_ND96isr_H100_v5": 8,
    "Standard_ND96isr_H200_v5": 8,
}
"""Size -> whole NVIDIA GPUs of one machine."""

# Families of machines without a GPU, by the letters before the first digit.
_WITHOUT_GPU = re.compile(r"Standard_(A|B|D|DC|DS|E|EC|F|FX|H|HB|HC|HX|L|M)(?=\d)", re.IGNORECASE)
_SIZE = re.compile(r"(Standard|Basic)_[A-Za-z]+(\d+)[\w-]*", re.ASCII | re.IGNORECASE)

_BY_LOWER_CASE = {name.lower(): name for name in GPUS}


def _known(name: str) -> str:
    """Return the name as Azure writes it, where it is listed here."""
    return _BY_LOWER_CASE.get(name.lower(), name)


def check_vm_size(name: str) -> None:
    """Refuse what is not the name of a machine size.

    Raises:
        ConfigError: with the size that is meant, or an example.
    """
    if _SIZE.fullmatch(name) is None:
        meant = _known(f"Standard_{name}")
        hint = f"did you mean {meant}?" if meant in GPUS else f"sizes are called as {DEFAULT_SIZE}"
        raise ConfigError(f"vm_size={name!r}: this is not a name of a virtual machine size; {hint}")


def gpus_of(name: str | None) -> int | None:
    """Return the number of whole NVIDIA GPUs of one machine; None: not known offline."""
    if name is None:
        return None
    if (known := _known(name)) in GPUS:
        return GPUS[known]
    return 0 if _WITHOUT_GPU.match(name) else None


def vcpus_of(name: str | None) -> int | None:
    """Return the processors of one machine by its name: 24 for `Standard_NC24ads_A100_v4`; None: unknown."""
    found = _SIZE.fullmatch(name) if name is not None else None
    return int(found[2]) if found else None


def size_with(gpus: int, like: str | None = None) -> str | None:
    """Find the smallest listed size with at least so many GPUs on one machine; None: there is none.

    Args:
        gpus: wanted on one machine.
        like: a size whose kind of GPU is preferred.
    """
    kind = _kind(like) if like is not None else ""
    sizes = [
        (_kind(name) != kind, count, place, name) for place, (name, count) in enumerate(GPUS.items()) if count >= gpus
    ]
    return min(sizes)[3] if sizes else None


def _kind(name: str) -> str:
    """Return the kind of GPU, `a100_v4` for `Standard_NC24ads_A100_v4`."""
    return "_".join(name.lower().split("_")[2:])


# -- sizes and quota of a region ---------------------------------------------------------------------------------------

MOST_NAMES = 4
"""Number of sizes that are named in place of one that is not there."""


@dataclass(frozen=True)
class Machine:
    """A size of virtual machines as the region offers it."""

    name: str
    family: str
    cores: int
    gpus: int
    can_be_low_priority: bool


def machine_in_region(workspace: Workspace, name: str, gpus: int) -> Machine:
    """Look a size up in the region of the workspace.

    Args:
        workspace: whose region is asked.
        name: in any case.
        gpus: number that is needed, to name other sizes where this one is not there.

    Raises:
        ConfigError: the region does not offer it for clusters.
        ServiceError: the region's list cannot be read.
    """
    with service_refusals(f"machine sizes of {workspace.location}"):
        sizes = list(workspace.client.compute.list_sizes(location=workspace.location, compute_type="AmlCompute"))
    offered = {machine.name.lower(): machine for machine in map(_machine, sizes)}
    if name.lower() in offered:
        return offered[name.lower()]
    fitting = [machine for machine in offered.values() if machine.gpus >= gpus]
    others = sorted(fitting, key=lambda machine: (machine.gpus, machine.cores))[:MOST_NAMES]
    named = ", ".join(f"{machine.name} ({gpus_in_words(machine.gpus)})" for machine in others)
    # Names of real sizes, retired ones among them, resemble one another: only a very near one is a misspelling.
    near = difflib.get_close_matches(name, [machine.name for machine in offered.values()], n=1, cutoff=0.9)
    meant = f"; did you mean {near[0]!r}?" if near and name.lower() not in _BY_LOWER_CASE else ""
    raise ConfigError(
        f"--vm-size {name}: {workspace.location}, the workspace's region, does not offer it to clusters"
        f"{f'; with at least {gpus_in_words(gpus)} it has {named}' if named else ''}{meant}"
    )


def gpus_in_words(count: int) -> str:
    """Return `1 GPU`, `4 GPUs` or `no GPU`."""
    return f"{count or 'no'} GPU{'s' if count > 1 else ''}"


def _machine(size: Any) -> Machine:
    """Convert the SDK's form, whose snake_case attributes stay empty (1.35): values have their names on the wire."""
    values = vars(size)

    def value(wire: str, attribute: str) -> Any:
        return values.get(wire) if values.get(wire) is not None else values.get(attribute)

    return Machine(
        name=str(size.name),
        family=str(size.family),
        cores=int(value("vCPUs", "v_cp_us") or 0),
        gpus=int(size.gpus or 0),
        can_be_low_priority=bool(value("lowPriorityCapable", "low_priority_capable")),
    )


@dataclass(frozen=True)
class Quota:
    """The cores of a kind that the subscription may use in a region."""

    of: str
    limit: int
    """Number of cores; -1: it has no limit of its own."""
    used: int


def quotas_for(workspace: Workspace, machine: Machine, low_priority: bool) -> list[Quota]:
    """Ask what limits machines of a size: its family's quota and the region's total.

    The service gives names in two forms, `standardNCADSA100v4Family` and `Standard NCADSA100v4 Family Cluster Dedicated
    vCPUs`; parts of a quota that belong to one workspace or cluster do not count.
    """
    with service_refusals(f"quota of {workspace.location}"):
        usages = list(workspace.client.compute.list_usage(location=workspace.location))
    found = []
    for usage in usages:
        values: dict[str, Any] = vars(usage)
        names = values["name"] if isinstance(values["name"], dict) else vars(values["name"])
        name, kind, where = str(names["value"]), str(usage.type), str(usage.id)
        if "/workspaces/" in where or ("lowpriority" in _letters(kind + name)) != low_priority:
            continue
        is_total = _letters(name).startswith("total")
        if is_total or _family(name) == _family(machine.family):
            used = values.get("currentValue") if values.get("currentValue") is not None else values.get("current_value")
            of = f"all of {workspace.location}" if is_total else str(names.get("localizedValue") or name)
            found.append(Quota(of, int(usage.limit), int(used or 0)))
    return found


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _family(name: str) -> str:
    """Return `ncadsa100v4` for both names, `standardNCADSA100v4Family` and `Standard NCADSA100v4 Family Cluster …`."""
    return _letters(name).removeprefix("standard").partition("family")[0]


# -- clusters ----------------------------------------------------------------------------------------------------------

HEARTBEAT = 30.0
"""Seconds between two lines while a cluster is created."""
LOOK_EVERY = 1.0
"""Seconds between two looks at it."""
USABLE = ("succeeded", "updating", "resizing", "creating")
"""States of a cluster in which it takes jobs, or will in a moment."""


@dataclass(frozen=True)
class WantedCluster:
    """A cluster that is to be created. It shrinks to no node, so that an idle one costs nothing."""

    name: str
    size: str | None
    max_nodes: int
    idle_minutes: float
    """Minutes after which an idle node is given back."""
    low_priority: bool


def state_of(compute: Any) -> str:
    """Return its provisioning state, such as `Succeeded`. The SDK has it as text or as a member of an enumeration."""
    state = getattr(compute, "provisioning_state", None) or "Succeeded"
    return str(getattr(state, "value", state))


def find_compute(workspace: Workspace, name: str) -> Any | None:
    """Fetch the compute of that name as the SDK describes it; None: there is none."""
    try:
        with service_refusals(f"compute cluster {name!r}"):
            return workspace.client.compute.get(name)
    except ServiceError as error:
        if error.status != 404:
            raise
        return None


def missing_compute(workspace: Workspace, name: str) -> ConfigError:
    """Return the error for a cluster that does not exist and that nobody asked to create."""
    with service_refusals("compute clusters of the workspace"):
        clusters = [c for c in workspace.client.compute.list() if str(c.type).lower() == "amlcompute"]
    there = ", ".join(
        f"{c.name} ({c.size}, at most {c.max_instances} node{'s' if c.max_instances != 1 else ''})" for c in clusters
    )
    return ConfigError(
        f"--compute-name {name}: the workspace has no such cluster; "
        f"{f'it has {there}; ' if there else 'it has none; '}"
        "choose one, or create it with --create-compute --vm-size SIZE, or leave --compute-name out: --vm-size alone "
        f"gives the job machines of its own{did_you_mean(name, [str(c.name) for c in clusters])}"
    )


def create_cluster(workspace: Workspace, wanted: WantedCluster, say: Callable[[str], None]) -> None:
    """Create a cluster and wait until it can take jobs. `say` prints a line.

    Raises:
        ServiceError: it could not be created.
    """
    from azure.ai.ml.entities import AmlCompute

    cluster = AmlCompute(
        name=wanted.name,
        location=workspace.location,
        size=wanted.size,
        min_instances=0,
        max_instances=wanted.max_nodes,
        idle_time_before_scale_down=round(wanted.idle_minutes * 60),
        tier="low_priority" if wanted.low_priority else "dedicated",
    )
    kind = "low-priority nodes" if wanted.low_priority else "nodes"
    say(
        f"creating compute cluster {wanted.name}: {wanted.size}, 0 to {wanted.max_nodes} {kind}, an idle one is given "
        f"back after {wanted.idle_minutes:g} min"
    )
    with service_refusals(f"compute cluster {wanted.name!r} could not be created"):
        created = _wait_for(workspace.client.compute.begin_create_or_update(cluster), wanted.name)
    state = state_of(created)
    if state.lower() not in USABLE:
        raise ServiceError(
            f"compute cluster {wanted.name!r} could not be created: its state is {state}"
            f"{f' ({created.provisioning_errors})' if created.provisioning_errors else ''}; look at it in Studio "
            f"({workspace.studio_url}) and delete it there before you try again"
        )
    say(f"compute cluster {wanted.name} is there")


def _wait_for(poller: Any, name: str) -> Any:
    """Wait until the service has created it. Ctrl-C leaves at once; the service goes on."""
    heartbeat, began = Heartbeat(HEARTBEAT), time.time()
    try:
        while not poller.done():
            poller.wait(LOOK_EVERY)
            heartbeat.beat(f"creating compute cluster {name}", began)
    finally:
        heartbeat.clear()
    return poller.result()
