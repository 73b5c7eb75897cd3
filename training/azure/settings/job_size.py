"""The size of a job: machines, trials, hours, and what they may cost."""

from __future__ import annotations

import math

from training.azure.service.compute import DEFAULT_SIZE, WantedCluster, gpus_of
from training.azure.settings.options import options_of
from training.experiments.search_space import SearchSpace
from training.experiments.sweep.metric import Goal
from training.launch.torchrun import ranks_here
from training.settings.tree import TrainingConfig

NOT_VARIED = {"azure": "it belongs to the whole job"}
"""Section -> why no sweep varies it, besides `FIXED`."""


def search_space_of(config: TrainingConfig) -> SearchSpace:
    """Read the space of a sweep from its options; the default space where they name none.

    Raises:
        ConfigError: the first fault of it.
    """
    return options_of(config).space(type(config), NOT_VARIED)


def sweep_objective(config: TrainingConfig) -> tuple[str, Goal]:
    """Return the metric that decides a sweep, and its direction."""
    return options_of(config).objective(config)


def max_trials(config: TrainingConfig) -> int:
    """Return the greatest number of trials. The default gives way where the values can be combined in fewer ways."""
    return options_of(config).number_of_trials(search_space_of(config))


def trials_at_once(config: TrainingConfig) -> int:
    """Return the greatest number of trials at the same time; 1 without a sweep."""
    options = options_of(config)
    return min(options.max_concurrent_trials, max_trials(config)) if options.sweep else 1


def nodes_at_once(config: TrainingConfig) -> int:
    """Return the greatest number of machines at the same time; in a sweep, those of all concurrent trials."""
    return config.launch.nnodes * trials_at_once(config)


def nodes_to_create(config: TrainingConfig) -> int:
    """Return the number of nodes that a cluster may have which is created for the job."""
    return options_of(config).max_nodes or nodes_at_once(config)


def cluster_to_create(config: TrainingConfig) -> WantedCluster | None:
    """Describe the cluster that the job may create; None: the user did not ask for one."""
    options = options_of(config)
    if options.compute_name is None or not options.create_compute:
        return None
    return WantedCluster(
        name=options.compute_name,
        size=options.vm_size,
        max_nodes=nodes_to_create(config),
        idle_minutes=options.idle_minutes,
        low_priority=options.low_priority,
    )


def serverless_size(config: TrainingConfig) -> str | None:
    """Return the size of the machines that Azure starts for the job alone; None: it runs on a cluster."""
    options = options_of(config)
    return None if options.compute_name is not None else options.vm_size or DEFAULT_SIZE


def seconds(hours: float) -> int:
    """Convert hours to whole seconds, at least one: Azure takes no others."""
    return max(1, math.ceil(hours * 3600))


def cost_lines(config: TrainingConfig) -> list[str]:
    """Describe what costs money: machines, how many, of which kind, for how long at most."""
    options, launch = options_of(config), config.launch
    size = options.vm_size or serverless_size(config)
    tier = "low priority, Azure may take them back" if options.low_priority else "dedicated"
    if options.compute_name is None:
        where = f"serverless, {size}, {tier}"
    elif options.create_compute:
        nodes = nodes_to_create(config)
        where = (
            f"cluster {options.compute_name}; created if there is none: {size}, {tier}, 0 to {nodes} nodes, an idle "
            f"one is given back after {options.idle_minutes:g} minutes"
        )
    else:
        where = f"cluster {options.compute_name}, which must exist"
    hours = options.timeout_hours
    lines = [f"machines: {where}"]
    if options.sweep:
        machines = nodes_at_once(config)
        per_trial = f", a trial at most {options.trial_timeout_hours:g} hours" if options.trial_timeout_hours else ""
        trials = max_trials(config)
        lines.append(
            f"at most {trials} trial{'s' if trials != 1 else ''}, {trials_at_once(config)} at a time on "
            f"{_machines(launch.nnodes)} each, together at most {hours:g} hours{per_trial}: "
            f"{machines * hours:g} machine-hours at the very most"
        )
        lines += search_space_of(config).describe()
    else:
        machine_hours = f"{launch.nnodes * hours:g} machine-hours at the very most"
        lines.append(f"{_machines(launch.nnodes)} for at most {hours:g} hours: {machine_hours}; it ends when done")
    gpus = gpus_of(size)
    used = ranks_here(launch)
    if gpus is not None and used < gpus:
        lines.append(f"warning: {size} has {gpus} GPUs and the run uses {used}; give --num-gpus {gpus}")
    if "_t4_" in str(size).lower() and config.run.precision == "bf16":
        lines.append("warning: a T4 only emulates bf16, slower than fp32; --precision fp16 is what it is fast in")
    return lines


def _machines(count: int) -> str:
    return "1 machine" if count == 1 else f"{count} machines"
