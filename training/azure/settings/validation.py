"""Checks of a job's settings that need no service; the SDK makes almost none of them.

Every fault is one line: the setting, its value, and what to do.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from training.azure.service.address import check_address
from training.azure.service.compute import DEFAULT_SIZE, GPUS, check_vm_size, gpus_of, size_with
from training.azure.settings.environment import check_environment, check_image
from training.azure.settings.inner_run import CHECKOUT, CODE, inner_config, inner_config_here, joins_workspace
from training.azure.settings.job_size import search_space_of, serverless_size, sweep_objective
from training.azure.settings.options import DEFAULT_IMAGE, RULES, AzureOptions, check_name, options_of
from training.backends.placement import placement_of
from training.backends.prepare import refuse_unsupported
from training.backends.registry import BACKENDS
from training.errors import ConfigError, UserError
from training.experiments.search_space import SearchSpace, short_name, spread, trial_config
from training.experiments.sweep.metric import refuse_unmeasured
from training.experiments.sweep.options import refuse_ranges
from training.launch.torchrun import ranks_here
from training.models.registry import MODELS
from training.settings.tree import TrainingConfig
from training.tasks.registry import TASKS
from training.tracking.choice import wandb_mode

_OF_A_SWEEP = (
    "search", "sweep_metric", "sweep_goal", "sampling", "early_termination", "slack_factor", "truncation_percentage",
    "evaluation_interval", "delay_evaluation", "max_trials", "max_concurrent_trials", "trial_timeout_hours",
)  # fmt: skip
_OF_TERMINATION = ("slack_factor", "truncation_percentage", "evaluation_interval", "delay_evaluation")
_NO_CLUSTERS = {"local": "--backend playground trains here", "serverless": "leave it out and give --vm-size"}


def validate_azure(config: TrainingConfig) -> None:
    """Refuse what the service, a trial or the run inside the job would refuse later.

    Args:
        config: has the sections `azure` and that of the inner backend.

    Raises:
        ConfigError: the first fault.
        DataError: there is no such data file.
    """
    options = options_of(config)
    for option in RULES:
        check_name(option, getattr(options, option))
    check_address(options)
    _check_machines(config)
    _check_environment(options)
    _check_what_stays_here(config)
    _check_inner_run(config)
    _check_options_of_a_sweep(options)
    if options.sweep:
        check_sweep(config)


def _given(options: AzureOptions, names: tuple[str, ...]) -> str | None:
    """Return the first of these options that is not as it is by default."""
    return next((name for name in names if getattr(options, name) != getattr(AzureOptions(), name)), None)


def _check_machines(config: TrainingConfig) -> None:
    options, launch = options_of(config), config.launch
    if options.vm_size is not None:
        check_vm_size(options.vm_size)
    name = options.compute_name
    if name is not None and name.lower() in _NO_CLUSTERS:
        raise ConfigError(f"compute_name={name}: this is not a cluster; {_NO_CLUSTERS[name.lower()]}")
    if options.create_compute and name is None:
        raise ConfigError(
            "create_compute: the cluster needs a name; give --compute-name, or leave it out for serverless"
        )
    if options.create_compute and options.vm_size is None:
        raise ConfigError(f"create_compute: of what size? Give --vm-size, such as {DEFAULT_SIZE} or {size_with(4)}")
    if not options.create_compute and (given := _given(options, ("max_nodes", "idle_minutes"))):
        value = getattr(options, given)
        raise ConfigError(f"{given}={value:g} is for a cluster that is created; add --create-compute, or leave it out")
    if options.max_nodes is not None and options.max_nodes < launch.nnodes:
        raise ConfigError(
            f"max_nodes={options.max_nodes}: the job needs nnodes={launch.nnodes} machines at once and would wait "
            f"forever; give --max-nodes {launch.nnodes}"
        )
    if launch.rdzv_endpoint is not None:
        raise ConfigError(f"rdzv_endpoint={launch.rdzv_endpoint}: Azure makes its machines meet; leave it out")
    _check_gpus(config)


def _check_gpus(config: TrainingConfig) -> None:
    options, launch = options_of(config), config.launch
    size, ranks = options.vm_size or serverless_size(config), ranks_here(launch)
    gpus = gpus_of(size)
    section = getattr(config, options.inner_backend, None)
    device = getattr(section, "device", "auto")
    if device == "mps":
        raise ConfigError("device=mps: Azure has no machines with Apple's GPUs; leave --device out")
    if gpus is None:
        return
    which = f"{size} (the default)" if options.vm_size is None else str(size)
    if gpus == 0 and (launch.num_gpus or device == "cuda"):
        asked = f"num_gpus={launch.num_gpus}" if launch.num_gpus else "device=cuda"
        raise ConfigError(f"{asked}: {which} has no GPU; give {_machines_for(config, launch.num_gpus or 1)}")
    if gpus == 0 and config.run.precision == "fp16":
        raise ConfigError(f"precision=fp16 needs a GPU, and {which} has none; use --precision bf16 or fp32")
    if gpus > 0 and ranks > gpus and device != "cpu":
        asked = "num_gpus" if launch.num_gpus else "num_processes"
        way = _machines_for(config, ranks, like=size)
        raise ConfigError(f"{asked}={ranks}: {which} has {gpus} GPU{'s' if gpus > 1 else ''}; give {way}")


def _machines_for(config: TrainingConfig, gpus: int, like: str | None = None) -> str:
    """Return the flags that give so many GPUs on each machine of the job, or else on more machines."""
    if (size := size_with(gpus, like)) is not None:
        return f"--vm-size {size}"
    most = max(GPUS.values())
    each = next(count for count in range(most, 0, -1) if gpus % count == 0)
    asked = "num-gpus" if config.launch.num_gpus else "num-processes"
    nodes = config.launch.nnodes * gpus // each
    return f"--{asked} {each} --nnodes {nodes} --vm-size {size_with(each, like)} (no machine has {gpus})"


def _check_environment(options: AzureOptions) -> None:
    if options.environment is None:
        check_image(options.docker_image)
        if options.inner_backend not in BACKENDS.built_in:
            raise ConfigError(
                f"inner_backend={options.inner_backend}: our pins lack its package, so the job would not find it; "
                "give --environment with one that has it"
            )
        return
    check_environment(options.environment)
    if options.docker_image != DEFAULT_IMAGE:
        raise ConfigError(
            f"environment={options.environment} and docker_image={options.docker_image} contradict each other: an "
            "environment has its image; leave one of them out"
        )


def _check_what_stays_here(config: TrainingConfig) -> None:
    """Refuse logins, servers and files of this machine, which the job does not have."""
    track, options = config.track, options_of(config)
    if config.hub.push_to_hub is not None:
        raise ConfigError(
            f"push_to_hub={config.hub.push_to_hub}: the job would need your token, which does not belong into a job; "
            f"push afterwards: python tools/export_model.py {config.run.run_dir} --push-to-hub {config.hub.push_to_hub}"
        )
    if "wandb" in track.track and wandb_mode(config) == "online":
        raise ConfigError(
            "track=wandb: the job would need your W&B login, which does not belong into a job; give "
            "--wandb-mode offline and `wandb sync` the run once it is here (--download all)"
        )
    if "mlflow" in track.track and not options.track_in_workspace and track.mlflow_tracking_uri is None:
        raise ConfigError("track=mlflow and --no-track-in-workspace contradict each other; leave one of them out")
    if track.mlflow_experiment is not None and track.mlflow_tracking_uri is None:
        raise ConfigError(
            f"mlflow_experiment={track.mlflow_experiment}: in the workspace the run belongs to the job's experiment; "
            f"give --experiment-name {track.mlflow_experiment}"
        )
    if track.mlflow_tracking_uri is not None:
        _check_store(track.mlflow_tracking_uri)


def _check_store(uri: str) -> None:
    parts = urlsplit(uri)
    given = f"mlflow_tracking_uri={uri}"
    if parts.scheme == "azureml" or uri == "azureml":
        raise ConfigError(f"{given}: the job logs to the run that Azure makes for it in its workspace; leave it out")
    if parts.scheme.startswith("sqlite"):
        raise ConfigError(f"{given}: the job cannot reach a file of this machine; leave it out to log to the workspace")
    if (parts.hostname or "") == "localhost" or (parts.hostname or "").startswith(("127.", "::1")):
        raise ConfigError(f"{given}: the job cannot reach this machine; leave it out to log to the workspace")


def _check_inner_run(config: TrainingConfig) -> None:
    """Refuse what the front door in the job would refuse."""
    inner = BACKENDS.load(options_of(config).inner_backend)()
    inside = inner_config_here(config)
    section = getattr(inside, inner.name)
    if getattr(section, "hostfile", None) is not None:
        raise ConfigError(f"hostfile={section.hostfile}: Azure starts the machines; give --nnodes N and leave it out")
    classes = [("trainer_callbacks", name) for name in getattr(section, "trainer_callbacks", ())]
    classes += [(key, name) for key, name in (("task", config.task), ("model", config.model.model)) if ":" in name]
    for setting, name in classes:
        _check_module_goes_along(setting, name.partition(":")[0], config)
    _check_packages_go_along(config)
    refuse_unsupported(inner, inside, resume=False)
    inner.validate(inside)
    inner_config(config)  # finds the data


def _check_packages_go_along(config: TrainingConfig) -> None:
    """Refuse a task, family or backend of a package that the environment built for the job does not have."""
    options = options_of(config)
    parts = (
        ("task", config.task, TASKS), ("model", config.model.model, MODELS),
        ("inner_backend", options.inner_backend, BACKENDS),
    )  # fmt: skip
    for setting, name, registry in parts:
        if options.environment is None and name not in registry.built_in and name in registry.third_party:
            raise ConfigError(
                f"{setting}={name}: it is {registry.third_party[name].summary}, which the job's environment does not "
                "have; give --environment NAME of one that has it"
            )


def _check_module_goes_along(setting: str, module: str, config: TrainingConfig) -> None:
    """Refuse a class of the user's own whose module is in this checkout, or in the current directory, and stays here.

    Args:
        setting: names the class.
        module: holds the class.
        config: says what else is uploaded.
    """
    found = importlib.util.find_spec(module.partition(".")[0]) if module else None
    if found is None:
        return  # the inner backend says what is wrong with the name, or the environment has it
    places = [Path(place) for place in found.submodule_search_locations or [found.origin or ""]]
    for place in places:
        if "site-packages" in place.parts:
            continue  # installed, as it will be in the job's environment
        if not place.is_relative_to(CHECKOUT):
            if place.is_relative_to(Path.cwd()):
                raise ConfigError(
                    f"{setting}: {module} is in {place}, which stays here; move it into {CHECKOUT} and add "
                    "--snapshot-include with its path"
                )
            continue
        included = [*(CHECKOUT / name for name in CODE), *(p.absolute() for p in options_of(config).snapshot_include)]
        if not any(place.is_relative_to(path) for path in included):
            name = place.relative_to(CHECKOUT)
            raise ConfigError(f"{setting}: {module} is in {name}, which stays here; add --snapshot-include {name}")


def _check_options_of_a_sweep(options: AzureOptions) -> None:
    if not options.sweep and (name := _given(options, _OF_A_SWEEP)):
        raise ConfigError(f"{name}={getattr(options, name)}: only a sweep has it; add --sweep, or leave it out")
    policy = options.early_termination
    used = {"slack_factor": policy == "bandit", "truncation_percentage": policy == "truncation_selection"}
    for name in _OF_TERMINATION:
        if _given(options, (name,)) and not used.get(name, policy != "none"):
            raise ConfigError(
                f"{name}={getattr(options, name)}: early_termination={policy} does not look at it; leave it out"
                + (", or give --early-termination bandit" if name != "truncation_percentage" else "")
            )


# -- sweeps ------------------------------------------------------------------------------------------------------------

MOST_COMBINATIONS = 2000
"""Combinations that are all tried; where there are more, each value is, and every two settings together."""
_TAKES = {"grid": ("choice",), "bayesian": ("choice", "uniform", "quniform")}
"""Sampling -> types of distribution; one that is missing here takes all."""


def check_sweep(config: TrainingConfig) -> None:
    """Refuse a sweep that contradicts itself, or one of whose trials would refuse to start.

    Raises:
        ConfigError: the first fault.
    """
    options = options_of(config)
    space = search_space_of(config)
    _check_metric(config)
    _check_sampling(options, space)
    _check_limits(config)
    if not joins_workspace(config):
        what = "--mlflow-tracking-uri" if config.track.mlflow_tracking_uri else "--no-track-in-workspace"
        raise ConfigError(f"a sweep reads its metric from the workspace; leave {what} out")
    for settings in space.combinations(MOST_COMBINATIONS):
        if (fault := _fault(config, settings)) is not None:
            blamed = _to_blame(config, space, settings)
            values = ", ".join(f"{short_name(key)}={_in_words(value)}" for key, value in blamed.items())
            way = "give --search values that fit" if options.search else "give --search with what is to be varied"
            raise ConfigError(f"a trial of this sweep may have {values}, and would be refused: {fault}; {way}")
    options.refuse_more_than_there_are(space)


def _fault(config: TrainingConfig, settings: Mapping[str, Any]) -> str | None:
    """Say why a trial would refuse to start; None: it would train."""
    try:
        trial = trial_config(config, settings)
        inner = BACKENDS.load(options_of(config).inner_backend)()
        inside = inner_config_here(trial)
        inside.with_batch_sizes_for(placement_of(inside).ranks)
        refuse_unsupported(inner, inside, resume=False)
        inner.validate(inside)
    except UserError as error:
        return str(error).removeprefix("this trial: ")
    return None


def _to_blame(config: TrainingConfig, space: SearchSpace, settings: dict[str, Any]) -> dict[str, Any]:
    """Find the settings of a refused trial which, with another value or the run's own, would let it start."""
    found = {}
    for key, value in settings.items():
        section, _, name = key.partition(".")
        others = [*spread(space.distributions[key].values(), 9), getattr(getattr(config, section), name)]
        if any(_fault(config, settings | {key: other}) is None for other in others if other != value):
            found[key] = value
    return found or settings


def _in_words(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check_metric(config: TrainingConfig) -> None:
    options = options_of(config)
    metric, _ = sweep_objective(config)
    refuse_unmeasured(metric, config)
    if metric.startswith("recitation/") and options.early_termination != "none":
        raise ConfigError(
            f"sweep_metric={metric} is only measured at the end, so early_termination={options.early_termination} has "
            "nothing to look at; use --sweep-metric eval/accuracy, or leave --early-termination out"
        )


def _check_sampling(options: AzureOptions, space: SearchSpace) -> None:
    refuse_ranges(options.sampling, space, _TAKES)
    if options.sampling == "bayesian" and options.early_termination != "none":
        raise ConfigError(
            f"sampling=bayesian and early_termination={options.early_termination} do not go together: it learns from "
            "whole trials; leave --early-termination out, or use --sampling random"
        )


def _check_limits(config: TrainingConfig) -> None:
    options = options_of(config)
    trials, at_once = options.max_trials, options.max_concurrent_trials
    if at_once > trials and "max_concurrent_trials" in options.model_fields_set:
        raise ConfigError(
            f"max_concurrent_trials={at_once} is more than max_trials={trials}; give --max-concurrent-trials {trials}"
        )
    if options.trial_timeout_hours is not None and options.trial_timeout_hours > options.timeout_hours:
        raise ConfigError(
            f"trial_timeout_hours={options.trial_timeout_hours:g} is longer than the whole sweep's "
            f"timeout_hours={options.timeout_hours:g}; raise --timeout-hours"
        )
