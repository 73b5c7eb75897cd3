"""Options of --backend azure: workspace, machines, and what happens to the job. No SDK is imported here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from training.azure.service.compute import DEFAULT_SIZE
from training.errors import ConfigError
from training.experiments.sweep.options import SweepOptions
from training.settings.section import Section
from training.settings.tree import TrainingConfig


class Rule(NamedTuple):
    """The form of a name, as Azure's REST API has it."""

    pattern: str
    words: str
    """The same for the user."""


_ENDS = "the first a letter or digit, at most 255"
_WORDS = f"letters, digits, '-' and '_', {_ENDS}"
RULES: Mapping[str, Rule] = {
    "job_name": Rule(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}", _WORDS),
    "experiment_name": Rule(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}", _WORDS),
    "compute_name": Rule(
        r"[A-Za-z][A-Za-z0-9-]{0,30}[A-Za-z0-9]",
        "2 to 32 letters, digits and '-', the first a letter, the last no '-'",
    ),
    "register_model": Rule(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", f"letters, digits, '-', '_' and '.', {_ENDS}"),
    "datastore": Rule(r"[A-Za-z0-9_]{1,255}", "letters, digits and '_', at most 255"),
}
"""Option -> its rule. The names of the workspace are checked in `service/address.py`."""


def check_name(option: str, value: str | None) -> None:
    """Refuse a name that Azure would refuse. None passes.

    Raises:
        ConfigError: with what such a name consists of.
    """
    rule = RULES[option]
    if value is not None and re.fullmatch(rule.pattern, value) is None:
        raise ConfigError(f"{option}={value!r}: Azure takes {rule.words}")


DEFAULT_IMAGE = "mcr.microsoft.com/azureml/openmpi5.0-cuda12.6-ubuntu24.04:latest"
MOST_HOURS = 24.0 * 365.0


class JobOptions(Section):
    """Options of --backend azure for any job."""

    subscription_id: str | None = Field(
        None,
        min_length=1,
        description="Subscription that pays. None: AZUREML_ARM_SUBSCRIPTION, else the workspace's config.json.",
        json_schema_extra={"aliases": ["azure_subscription_id"]},
    )
    resource_group: str | None = Field(
        None,
        min_length=1,
        description="Resource group of the workspace. None: AZUREML_ARM_RESOURCEGROUP, else config.json.",
        json_schema_extra={"aliases": ["azure_resource_group"]},
    )
    workspace_name: str | None = Field(
        None,
        min_length=1,
        description="The Azure ML workspace. None: AZUREML_ARM_WORKSPACE_NAME, else config.json.",
        json_schema_extra={"aliases": ["azure_workspace_name"]},
    )
    workspace_config: Path | None = Field(
        None,
        description="The workspace's config.json, or the directory from which it is looked for. None: the working "
        "directory, .azureml/ in it, and those above.",
    )
    inner_backend: str = Field("playground", description="Backend that trains inside the job; any but azure.")
    compute_name: str | None = Field(
        None, min_length=1, description="Compute cluster. None: serverless, machines of --vm-size for this job alone."
    )
    vm_size: str | None = Field(
        None,
        min_length=1,
        description="Size of the machines: of a cluster to be created, or of a serverless job. None: what the cluster "
        f"has; serverless {DEFAULT_SIZE}, one T4.",
    )
    create_compute: bool = Field(False, description="Create the compute cluster if there is none of that name.")
    max_nodes: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Nodes of a cluster to be created, at most; it shrinks to 0. None: as the job needs.",
    )
    idle_minutes: float = Field(
        10.0,
        gt=0.0,
        le=60 * MOST_HOURS,
        description="Minutes after which an idle node of a cluster to be created is given back.",
    )
    low_priority: bool = Field(False, description="Cheaper machines that Azure may take back; the job then resumes.")
    environment: str | None = Field(
        None,
        min_length=1,
        description="Environment of the workspace or a registry: NAME@latest, NAME:3 or azureml://…. None: built from "
        "the pins that this project is tested with, on docker_image.",
    )
    docker_image: str = Field(DEFAULT_IMAGE, min_length=1, description="Base image of the environment that is built.")
    experiment_name: str = Field("apt-hlbd-training", description="Experiment under which Studio lists the job.")
    job_name: str | None = Field(
        None, description="Name of the job, unique in the workspace. None: made from the time."
    )
    datastore: str = Field(
        "workspaceblobstore", min_length=1, description="Blob datastore that keeps the run directory."
    )
    timeout_hours: float = Field(
        24.0, gt=0.0, le=MOST_HOURS, description="Azure ends the job after this many hours of running."
    )
    register_model: str | None = Field(
        None, description="Register the final model under this name. None: it is only kept in the datastore."
    )
    download: Literal["final", "all", "none"] = Field(
        "final",
        description="What is brought into run_dir at the end. final: record and final model; all: checkpoints too.",
    )
    detach: bool = Field(False, description="Leave once the job is submitted, instead of following it.")
    snapshot_limit_mb: float = Field(
        100.0, gt=0.0, le=1e6, description="Refuse to upload more than this many megabytes (MB) of code and data."
    )
    snapshot_dir: Path | None = Field(
        None, description="Also keep what is uploaded in this directory, which must be empty or new. None: not kept."
    )
    snapshot_include: tuple[Path, ...] = Field(
        (),
        description="Further files or directories of the checkout that the job needs.",
        json_schema_extra={"metavar": "PATH"},
    )
    track_in_workspace: bool = Field(
        True,
        description="Log to the MLflow run that Azure makes for the job, next to the trackers of --track; not where "
        "mlflow_tracking_uri names another server.",
    )


class AzureOptions(SweepOptions, JobOptions):
    """Options of --backend azure."""

    sweep: bool = Field(
        False,
        description="Try many settings in trials, instead of training once.",
        json_schema_extra={"flag_of_launcher": True},
    )
    sampling: Literal["random", "sobol", "grid", "bayesian"] = Field(
        "random", description="How a sweep picks values; grid and bayesian do not take every kind of range."
    )
    early_termination: Literal["none", "bandit", "median_stopping", "truncation_selection"] = Field(
        "none", description="How a sweep ends trials that do badly."
    )
    slack_factor: float = Field(
        0.1, gt=0.0, le=1000.0, description="bandit: a trial worse than the best by more than this share is ended."
    )
    truncation_percentage: int = Field(
        20, ge=1, le=99, description="truncation_selection: share of the trials, in percent, that is ended."
    )
    evaluation_interval: int = Field(
        1, ge=1, le=10**6, description="Reports of the metric between looks at bad trials."
    )
    delay_evaluation: int = Field(
        5, ge=0, le=10**6, description="Reports of the metric before the first look at bad trials."
    )
    max_concurrent_trials: int = Field(4, ge=1, le=1000, description="Trials of a sweep at the same time, at most.")
    trial_timeout_hours: float | None = Field(
        None,
        gt=0.0,
        le=MOST_HOURS,
        description="Azure ends a trial after this many hours. None: only the sweep has a limit.",
    )


def options_of(config: TrainingConfig) -> AzureOptions:
    """Return the backend's own section of a config; the defaults where it has none."""
    options = getattr(config, "azure", None)
    return options if isinstance(options, AzureOptions) else AzureOptions()
