"""The job as Azure ML YAML, the one thing that `--dry-run` prints and that is submitted; and what it may cost."""

from __future__ import annotations

import math
from typing import Any

import yaml

from training.azure.demand import max_trials, nodes_at_once, nodes_to_create, trials_at_once
from training.azure.environment import conda_environment
from training.azure.inner_run import CONFIG_PATH, START_DIRECTORY, inner_config
from training.azure.options import AzureOptions, options_of, serverless_size
from training.azure.search_space import SearchSpace
from training.azure.trials import sweep_objective
from training.azure.vm_sizes import gpus_of, vcpus_of
from training.backends.registry import BACKENDS
from training.errors import ConfigError
from training.launch.torchrun import ranks_here
from training.settings.tree import TrainingConfig

SCHEMAS = "https://azuremlschemas.azureedge.net/latest"
RUNS_PATH = "apt-runs"
"""In the datastore: the run directories, each called as its job."""
OUTPUT = "run"
"""The output that is the run directory. Its path is fixed, so an interrupted job finds its checkpoints again."""


def job_document(
    config: TrainingConfig, job_name: str, code: str, path: str | None = None, has_start: bool = False
) -> dict[str, Any]:
    """The job, as `az ml job create --file` takes it.

    Args:
        config: of the run, checked, with the section `azure`.
        job_name: unique in the workspace.
        code: the staged directory.
        path: within the datastore, of the run directory to go on in. None: a new one.
        has_start: the staged directory holds a run to go on from.

    Raises:
        ConfigError: a sweep that goes on with a run.
    """
    options = options_of(config)
    if options.sweep and (path is not None or has_start):
        raise ConfigError("--sweep and --resume do not go together: every trial begins anew, with settings of its own")
    place = f"azureml://datastores/{options.datastore}/paths/{path or f'{RUNS_PATH}/{_run_name(options, job_name)}'}/"
    document: dict[str, Any] = {
        "$schema": f"{SCHEMAS}/{'sweepJob' if options.sweep else 'commandJob'}.schema.json",
        "type": "sweep" if options.sweep else "command",
        "name": job_name,
        "experiment_name": options.experiment_name,
        "tags": {"inner_backend": options.inner_backend, "curve": config.curve_hash()},
    }
    command = _command_part(config, code, has_start)
    if options.compute_name is not None:
        document["compute"] = f"azureml:{options.compute_name}"
    if options.sweep:
        document |= _sweep_part(config) | {"trial": command}
    else:
        document |= command | {"limits": {"timeout": seconds(options.timeout_hours)}}
    if serverless_size(config) is not None:
        document["queue_settings"] = {"job_tier": "spot" if options.low_priority else "standard"}
    document["outputs"] = {OUTPUT: {"type": "uri_folder", "mode": "rw_mount", "path": place}}
    return document


def _run_name(options: AzureOptions, job_name: str) -> str:
    # Azure fills this in when a trial begins: each has a name of its own.
    return "${{name}}" if options.sweep else job_name


def _command_part(config: TrainingConfig, code: str, has_start: bool) -> dict[str, Any]:
    """What one run needs: of a command job, or of a sweep's trial."""
    options, launch = options_of(config), config.launch
    words = ["python", "training/train.py", "--config", CONFIG_PATH, "--run-dir", f"${{{{outputs.{OUTPUT}}}}}"]
    words.append("--resume")  # nothing is there at first; after an interruption, its own checkpoints are
    if has_start:
        words += ["--start-from", START_DIRECTORY]
    if options.sweep:
        words += SearchSpace.of(config).arguments()
    resources: dict[str, Any] = {"instance_count": launch.nnodes}
    if (size := serverless_size(config)) is not None:
        resources["instance_type"] = size
    part: dict[str, Any] = {
        "code": code,
        "command": " ".join(words),
        "environment": _environment(options),
        "environment_variables": _variables(config),
        "resources": resources,
    }
    if ranks_here(launch) * launch.nnodes > 1:
        part["distribution"] = {"type": "pytorch", "process_count_per_instance": ranks_here(launch)}
    return part


def _environment(options: AzureOptions) -> str | dict[str, Any]:
    name = options.environment
    if name is None:
        return {"image": options.docker_image, "conda_file": conda_environment()}
    return name if name.startswith("azureml:") else f"azureml:{name}"


def _variables(config: TrainingConfig) -> dict[str, str]:
    """What the inner backend's own launcher would set, were it to start the ranks; and quiet, prompt output."""
    inner = inner_config(config)
    plan = BACKENDS.load(inner.backend)().plan(inner)
    variables = {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONUNBUFFERED": "1", **(plan.environment if plan else {})}
    if ranks_here(config.launch) > 1:  # the plan counted this machine's cores
        cores = vcpus_of(options_of(config).vm_size or serverless_size(config))
        variables["OMP_NUM_THREADS"] = str(max(1, cores // ranks_here(config.launch)) if cores else 1)
    return variables


def _sweep_part(config: TrainingConfig) -> dict[str, Any]:
    options = options_of(config)
    metric, goal = sweep_objective(config)
    limits = {
        "max_total_trials": max_trials(config),
        "max_concurrent_trials": trials_at_once(config),
        "timeout": seconds(options.timeout_hours),
    }
    if options.trial_timeout_hours is not None:
        limits["trial_timeout"] = seconds(options.trial_timeout_hours)
    part: dict[str, Any] = {
        "search_space": SearchSpace.of(config).document(),
        "objective": {"primary_metric": metric, "goal": goal},
        "sampling_algorithm": _sampling(options, config.run.seed),
        "limits": limits,
    }
    if options.early_termination != "none":
        policy: dict[str, Any] = {"type": options.early_termination}
        if options.early_termination == "bandit":
            policy["slack_factor"] = options.slack_factor
        if options.early_termination == "truncation_selection":
            policy["truncation_percentage"] = options.truncation_percentage
        policy |= {"evaluation_interval": options.evaluation_interval, "delay_evaluation": options.delay_evaluation}
        part["early_termination"] = policy
    return part


def _sampling(options: AzureOptions, seed: int) -> dict[str, Any]:
    if options.sampling in ("grid", "bayesian"):
        return {"type": options.sampling}
    return {"type": "random", "rule": options.sampling, "seed": seed % 2**31}


def seconds(hours: float) -> int:
    """Hours as whole seconds, at least one: Azure takes no others."""
    return max(1, math.ceil(hours * 3600))


class _Dumper(yaml.SafeDumper):
    """Lists of plain values in one line, long lists in lines as wide as ours: there are a hundred pins."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _plain_list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.SequenceNode:
    is_plain = not any(isinstance(value, list | dict) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=is_plain)


_Dumper.add_representer(list, _plain_list)


def to_yaml(document: dict[str, Any]) -> str:
    """The document as text, in its own order."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def cost_lines(config: TrainingConfig) -> list[str]:
    """What costs money, in lines for the user: machines, how many, of which kind, for how long at most."""
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
        lines += SearchSpace.of(config).told()
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
