"""The machines that a job asks for, and what the region and the subscription say to them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.azure.refusals import service_refusals
from training.azure.vm_sizes import is_known
from training.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from training.azure.workspace import Workspace

MOST_NAMES = 4
"""Sizes that are offered in the place of one that is not there."""


@dataclass(frozen=True)
class Machine:
    """A size of virtual machines as the region offers it."""

    name: str
    family: str
    cores: int
    gpus: int
    can_be_low_priority: bool


def machine_in_region(workspace: Workspace, name: str, gpus: int) -> Machine:
    """The machine of that name.

    Args:
        workspace: in whose region.
        name: in any case.
        gpus: how many are needed, to name others where this one is not there.

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
    told = ", ".join(f"{machine.name} ({gpus_told(machine.gpus)})" for machine in others)
    # A real size is no slip of the pen, however near another one is.
    meant = "" if is_known(name) else did_you_mean(name, [machine.name for machine in offered.values()])
    raise ConfigError(
        f"--vm-size {name}: {workspace.location}, the workspace's region, does not offer it to clusters"
        f"{f'; with at least {gpus_told(gpus)} it has {told}' if told else ''}{meant}"
    )


def gpus_told(count: int) -> str:
    """`1 GPU`, `4 GPUs`, `no GPU`."""
    return f"{count or 'no'} GPU{'s' if count > 1 else ''}"


def _machine(size: Any) -> Machine:
    """From the SDK's form, whose snake_case attributes stay empty (1.35): values are under their names on the wire."""
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
    """How many cores of a kind the subscription may use in a region."""

    of: str
    limit: int
    """-1: no limit of its own."""
    used: int


def quotas_for(workspace: Workspace, machine: Machine, low_priority: bool) -> list[Quota]:
    """What limits machines of a size: its family's quota and the region's total.

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
    """`standardNCADSA100v4Family`, `Standard NCADSA100v4 Family Cluster Dedicated vCPUs` -> `ncadsa100v4`."""
    return _letters(name).removeprefix("standard").partition("family")[0]
