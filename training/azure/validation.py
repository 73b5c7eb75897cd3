"""Everything that can be wrong with a job and be seen offline: the SDK looks at almost none of it.

Each fault is one line: the setting, its value, and what to do.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from urllib.parse import urlsplit

from training.azure.environment_reference import check_environment, check_image
from training.azure.inner_run import inner_config, inner_config_here
from training.azure.names import RULES, check_name
from training.azure.options import DEFAULT_IMAGE, AzureOptions, options_of, serverless_size
from training.azure.provenance import CHECKOUT
from training.azure.staging import CODE
from training.azure.trials import check_sweep
from training.azure.vm_sizes import DEFAULT_SIZE, GPUS, check_vm_size, gpus_of, size_with
from training.backends.prepare import refuse_unsupported
from training.backends.registry import BACKENDS
from training.errors import ConfigError
from training.launch.torchrun import ranks_here
from training.settings.tree import TrainingConfig
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
    _check_machines(config)
    _check_environment(options)
    _check_what_stays_here(config)
    _check_inner_run(config)
    _check_options_of_a_sweep(options)
    if options.sweep:
        check_sweep(config)


def _given(options: AzureOptions, names: tuple[str, ...]) -> str | None:
    """The first of these options that is not as it is by default."""
    return next((name for name in names if getattr(options, name) != getattr(AzureOptions(), name)), None)


def _check_machines(config: TrainingConfig) -> None:
    options, launch = options_of(config), config.launch
    if options.vm_size is not None:
        check_vm_size(options.vm_size)
    name = options.compute_name
    if name is not None and name.lower() in _NO_CLUSTERS:
        raise ConfigError(f"compute_name={name}: this is no cluster; {_NO_CLUSTERS[name.lower()]}")
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
            f"max_nodes={options.max_nodes}: the job needs nnodes={launch.nnodes} machines at once and would wait for "
            f"ever; give --max-nodes {launch.nnodes}"
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
    """The flags with which so many GPUs are had on each machine of the job, or else on more machines."""
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
    """Logins, servers and files of this machine, which the job does not have."""
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
    told = f"mlflow_tracking_uri={uri}"
    if parts.scheme == "azureml" or uri == "azureml":
        raise ConfigError(f"{told}: the job logs to the run that Azure makes for it in its workspace; leave it out")
    if parts.scheme.startswith("sqlite"):
        raise ConfigError(f"{told}: the job cannot reach a file of this machine; leave it out to log to the workspace")
    if (parts.hostname or "") == "localhost" or (parts.hostname or "").startswith(("127.", "::1")):
        raise ConfigError(f"{told}: the job cannot reach this machine; leave it out to log to the workspace")


def _check_inner_run(config: TrainingConfig) -> None:
    """What the front door in the job would refuse."""
    inner = BACKENDS.load(options_of(config).inner_backend)()
    inside = inner_config_here(config)
    section = getattr(inside, inner.name)
    if getattr(section, "hostfile", None) is not None:
        raise ConfigError(f"hostfile={section.hostfile}: Azure starts the machines; give --nnodes N and leave it out")
    for name in getattr(section, "trainer_callbacks", ()):
        _check_module_goes_along(name.partition(":")[0], config)
    refuse_unsupported(inner, inside, resume=False)
    inner.validate(inside)
    inner_config(config)  # finds the data


def _check_module_goes_along(module: str, config: TrainingConfig) -> None:
    """A callback's module of this checkout must be among what is uploaded."""
    found = importlib.util.find_spec(module.partition(".")[0]) if module else None
    if found is None:
        return  # the inner backend says what is wrong with the name, or the environment has it
    places = [Path(place) for place in found.submodule_search_locations or [found.origin or ""]]
    for place in places:
        if not place.is_relative_to(CHECKOUT) or place.is_relative_to(CHECKOUT / ".venv"):
            continue
        included = [*(CHECKOUT / name for name in CODE), *(p.absolute() for p in options_of(config).snapshot_include)]
        if not any(place.is_relative_to(path) for path in included):
            name = place.relative_to(CHECKOUT)
            raise ConfigError(
                f"trainer_callbacks: {module} is in {name}, which stays here; add --snapshot-include {name}"
            )


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
