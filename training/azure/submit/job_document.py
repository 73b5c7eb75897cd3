"""The job as Azure ML YAML: what `--dry-run` prints and what is submitted."""

from __future__ import annotations

from typing import Any

import yaml

from training.azure.service.compute import vcpus_of
from training.azure.service.jobs import OUTPUT, RUNS_PATH
from training.azure.settings.environment import conda_environment
from training.azure.settings.inner_run import CONFIG_PATH, START_DIRECTORY, inner_config
from training.azure.settings.job_size import (
    max_trials,
    search_space_of,
    seconds,
    serverless_size,
    sweep_objective,
    trials_at_once,
)
from training.azure.settings.options import AzureOptions, options_of
from training.backends.registry import BACKENDS
from training.errors import ConfigError
from training.experiments.search_space import PARAMETERS, Distribution, SearchSpace, short_name
from training.launch.torchrun import ranks_here
from training.settings.flags import flag
from training.settings.tree import TrainingConfig

SCHEMAS = "https://azuremlschemas.azureedge.net/latest"


def job_document(
    config: TrainingConfig, job_name: str, code: str, path: str | None = None, has_start: bool = False
) -> dict[str, Any]:
    """Return the job as `az ml job create --file` takes it.

    Args:
        config: of the run, checked, with the section `azure`.
        job_name: unique in the workspace.
        code: the staged directory.
        path: run directory within the datastore in which the run continues. None: a new one.
        has_start: True if the staged directory holds a run to continue from.

    Raises:
        ConfigError: a sweep that continues a run.
    """
    options = options_of(config)
    if options.sweep and (path is not None or has_start):
        raise ConfigError(
            "--sweep and --resume do not go together: every trial starts from the beginning, with settings of its own"
        )
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
    # Azure replaces the placeholder when a trial begins: each has a name of its own.
    return "${{name}}" if options.sweep else job_name


def _command_part(config: TrainingConfig, code: str, has_start: bool) -> dict[str, Any]:
    """Return what one run needs, in a command job or in a sweep's trial."""
    options, launch = options_of(config), config.launch
    words = ["python", "training/train.py", "--config", CONFIG_PATH, "--run-dir", f"${{{{outputs.{OUTPUT}}}}}"]
    words.append("--resume")  # nothing is there at first; after an interruption, its own checkpoints are
    if has_start:
        words += ["--start-from", START_DIRECTORY]
    if options.sweep:
        words += _search_arguments(search_space_of(config))
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
    """Return what the inner backend's own launcher would set if it started the ranks, and quiet, prompt output."""
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
        "search_space": _search_space(search_space_of(config)),
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


def _search_space(space: SearchSpace) -> dict[str, Any]:
    """Return the space in Azure's YAML form, by short names."""
    return {short_name(key): distribution_document(_as_flags(space, key)) for key in space.distributions}


def _search_arguments(space: SearchSpace) -> list[str]:
    """Return what the space adds to a trial's command, with the placeholders that Azure replaces."""
    words: list[str] = []
    for key in space.distributions:
        value = f"${{{{search_space.{short_name(key)}}}}}"
        words += [f"--{value}"] if space.is_switch(key) else [flag(short_name(key)), value]
    return words


def _as_flags(space: SearchSpace, key: str) -> Distribution:
    """Return the distribution with values as they stand on a command line."""
    found = space.distributions[key]
    if space.is_switch(key):  # it has no value on the command line: `--compile` or `--no-compile`
        word = short_name(key).replace("_", "-")
        return Distribution("choice", tuple(word if value else f"no-{word}" for value in found.arguments))
    return Distribution(found.kind, tuple("none" if value is None else value for value in found.arguments))


def distribution_document(found: Distribution) -> dict[str, Any]:
    """Return a distribution in Azure's YAML form."""
    if found.kind == "choice":
        return {"type": "choice", "values": list(found.arguments)}
    return {"type": found.kind, **dict(zip(PARAMETERS[found.kind], found.arguments, strict=True))}


def _sampling(options: AzureOptions, seed: int) -> dict[str, Any]:
    if options.sampling in ("grid", "bayesian"):
        return {"type": options.sampling}
    return {"type": "random", "rule": options.sampling, "seed": seed % 2**31}


class _Dumper(yaml.SafeDumper):
    """A dumper that writes lists of plain values in one line: there are a hundred pins."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _plain_list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.SequenceNode:
    is_plain = not any(isinstance(value, list | dict) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=is_plain)


_Dumper.add_representer(list, _plain_list)


def to_yaml(document: dict[str, Any]) -> str:
    """Return the document as text, in its own order."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text
