"""Settings of the trackers that follow a run. No tracker's package is imported here.

None of these settings changes the curve, so its hash contains none of them.
"""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from training.settings.section import Section

TrackerName = Literal["wandb", "tensorboard", "mlflow"]
WandbMode = Literal["online", "offline", "disabled"]

DEFAULT_PROJECT = "apt-hlbd-training"
_DATABASES = ("sqlite", "mysql", "mssql", "postgresql")
_MLFLOW_SCHEMES = ("http", "https", "databricks", "azureml", *_DATABASES)


class TrackConfig(Section):
    """Trackers that follow the run. Nothing here changes the curve."""

    track: tuple[TrackerName, ...] = Field(
        (),
        description="Trackers that follow the run, of wandb, tensorboard and mlflow; words or a comma list; none: none "
        "(docs/TRACKING.md).",
    )
    wandb_project: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        description="W&B: the project. None: WANDB_PROJECT, else apt-hlbd-training.",
    )
    wandb_entity: str | None = Field(
        None, min_length=1, description="W&B: the user or team that owns the project. None: your default one."
    )
    wandb_mode: WandbMode | None = Field(
        None,
        description="W&B: online; offline: a directory below run_dir for `wandb sync`, no login; disabled: nothing. "
        "None: WANDB_MODE, else online.",
    )
    mlflow_tracking_uri: str | None = Field(
        None,
        min_length=1,
        description="MLflow: a server (http://…), a database (sqlite:///…), an Azure ML workspace (azureml://…, or the "
        "word azureml for that of config.json). None: MLFLOW_TRACKING_URI, else the SQLite file mlflow.db next to "
        "run_dir, without a server.",
    )
    mlflow_experiment: str | None = Field(
        None,
        min_length=1,
        description="MLflow: the experiment. None: MLFLOW_EXPERIMENT_NAME, else apt-hlbd-training.",
    )

    @field_validator("track", mode="before")
    @classmethod
    def _comma_lists(cls, value: object) -> object:
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
            return value
        names = [name.strip() for word in words for name in word.split(",")]
        return tuple(dict.fromkeys(name for name in names if name not in ("", "none")))

    @field_validator("wandb_project")
    @classmethod
    def _is_a_project_name(cls, value: str | None) -> str | None:
        if value is not None and (found := re.search(r"[/\\#?%:]", value)):
            raise ValueError(f"a W&B project's name has no {found.group()!r}")
        return value

    def fault(self) -> str | None:
        """Return what is wrong with an address, without the address, which may hold a password; None: nothing."""
        if self.mlflow_tracking_uri is None or (fault := fault_of_store(self.mlflow_tracking_uri)) is None:
            return None
        return f"--mlflow-tracking-uri: {fault}"


def fault_of_store(uri: str) -> str | None:
    """Return what is wrong with an MLflow tracking URI, and what to give instead; None: nothing that shows offline.

    A password or a token is refused, because the resolved config is written into the run directory.
    """
    if uri == "azureml":  # the start of the run looks up which workspace that is
        return None
    try:
        parts = urlsplit(uri)
        secret = parts.password or re.search(r"passw|token|secret|sig=", parts.query, re.IGNORECASE)
        host = parts.hostname
    except ValueError as error:
        return f"not a URI ({error})"
    scheme = parts.scheme.partition("+")[0]
    if secret or (scheme in ("http", "https") and parts.username):
        return (
            "a password or token does not belong into a setting, which is written into the run directory; give it by "
            "the environment (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN, or the whole "
            "URI as MLFLOW_TRACKING_URI)"
        )
    if scheme in ("", "file"):
        return "MLflow no longer writes to plain directories; give a database, such as sqlite:///runs/mlflow.db"
    if scheme not in _MLFLOW_SCHEMES:
        return f"{scheme}: is no MLflow store; give one of {', '.join(f'{s}:' for s in _MLFLOW_SCHEMES)}"
    if scheme == "sqlite" and not uri.partition(":")[2].startswith("///"):
        return "a SQLite address has three slashes before a relative path, four before an absolute one"
    if scheme in ("http", "https") and not host:
        return "there is no host in it; give http://HOST:PORT"
    return None
