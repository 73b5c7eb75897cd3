"""The compute cluster of a job: found, or created with the user's consent. One that is there is never changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from training.azure.demand import nodes_to_create
from training.azure.heartbeat import Heartbeat
from training.azure.options import options_of
from training.azure.refusals import ServiceError, service_refusals
from training.errors import ConfigError, did_you_mean
from training.settings.tree import TrainingConfig

if TYPE_CHECKING:
    from training.azure.workspace import Workspace

HEARTBEAT = 30.0
LOOK_EVERY = 1.0
USABLE = ("succeeded", "updating", "resizing", "creating")
"""States of a cluster in which it takes jobs, or will in a moment."""


def state_of(compute: Any) -> str:
    """Its provisioning state, such as `Succeeded`. The SDK gives it as text or as a member of an enumeration."""
    state = getattr(compute, "provisioning_state", None) or "Succeeded"
    return str(getattr(state, "value", state))


def _say(line: str) -> None:
    print(line, flush=True)


def find_compute(workspace: Workspace, name: str) -> Any | None:
    """The compute of that name as the SDK describes it; None: there is none."""
    try:
        with service_refusals(f"compute cluster {name!r}"):
            return workspace.client.compute.get(name)
    except ServiceError as error:
        if error.status != 404:
            raise
        return None


def missing_compute(workspace: Workspace, name: str) -> ConfigError:
    """The line for a cluster that is not there and that nobody asked to create."""
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


def ensure_compute(workspace: Workspace, config: TrainingConfig, tell: Callable[[str], None] = _say) -> None:
    """See to it that the job's cluster is there: it shrinks to no node, so that an idle one costs nothing.

    Args:
        workspace: where.
        config: without a compute_name nothing is done: such a job gets machines of its own.
        tell: prints a line.

    Raises:
        ConfigError: there is none, and --create-compute was not given.
        ServiceError: it could not be created.
    """
    options = options_of(config)
    name = options.compute_name
    if name is None or find_compute(workspace, name) is not None:
        return
    if not options.create_compute:
        raise missing_compute(workspace, name)
    from azure.ai.ml.entities import AmlCompute

    nodes = nodes_to_create(config)
    wanted = AmlCompute(
        name=name,
        location=workspace.location,
        size=options.vm_size,
        min_instances=0,
        max_instances=nodes,
        idle_time_before_scale_down=round(options.idle_minutes * 60),
        tier="low_priority" if options.low_priority else "dedicated",
    )
    kind = "low-priority nodes" if options.low_priority else "nodes"
    tell(
        f"creating compute cluster {name}: {options.vm_size}, 0 to {nodes} {kind}, an idle one is given back after "
        f"{options.idle_minutes:g} min"
    )
    with service_refusals(f"compute cluster {name!r} could not be created"):
        created = _wait_for(workspace.client.compute.begin_create_or_update(wanted), name)
    state = state_of(created)
    if state.lower() not in USABLE:
        raise ServiceError(
            f"compute cluster {name!r} could not be created: its state is {state}"
            f"{f' ({created.provisioning_errors})' if created.provisioning_errors else ''}; look at it in Studio "
            f"({workspace.studio_url}) and delete it there before you try again"
        )
    tell(f"compute cluster {name} is there")


def _wait_for(poller: Any, name: str) -> Any:
    """What the service made. Ctrl-C leaves at once; the service goes on."""
    heartbeat, began = Heartbeat(HEARTBEAT), time.time()
    try:
        while not poller.done():
            poller.wait(LOOK_EVERY)
            heartbeat.beat(f"creating compute cluster {name}", began)
    finally:
        heartbeat.clear()
    return poller.result()
