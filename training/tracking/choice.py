"""From settings to trackers: what can run here, and what follows a run. No tracker's package is imported here."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

from training.errors import ConfigError
from training.settings.tracking import TrackerName, fault_of_store
from training.tracking.mlflow_services import service_of

if TYPE_CHECKING:
    from training.record.reporter import Sink
    from training.settings.tree import TrainingConfig
    from training.tracking.tracker import Tracker

_NEEDS: dict[TrackerName, tuple[tuple[str, ...], str]] = {
    "wandb": (("wandb",), "wandb"),
    "tensorboard": (("tensorboard",), "tensorboard"),
    "mlflow": (("mlflow", "sqlalchemy", "alembic"), "mlflow"),
}
"""Tracker -> (modules that it imports, our extra that brings them)."""
_FOR_DATABASES = ("sqlalchemy", "alembic")
"""What MLflow imports only where no server stands between."""
_SERVERS = ("http", "https", "databricks")


def check(config: TrainingConfig) -> None:
    """Refuse trackers that cannot work, before anything is written. Offline; nothing is sent anywhere.

    Only the process that will report needs it: rank 0, and the front door on its machine.

    Raises:
        ConfigError: a package or a login is missing; with the command that mends it.
    """
    settings = config.track
    for name in settings.track:
        if name == "wandb" and wandb_mode(config) == "disabled":
            continue
        modules, extra = _NEEDS[name]
        if name == "mlflow" and _is_server(config):
            modules = tuple(module for module in modules if module not in _FOR_DATABASES)
        if missing := [module for module in modules if not is_installed(module)]:
            raise ConfigError(
                f"--track {name}: {', '.join(missing)} is not installed; run: pip install -e '.[{extra}]'"
            )
    if "mlflow" in settings.track:
        if given := os.environ.get("MLFLOW_TRACKING_URI"):
            _check_variable(given)
        _check_service(config)
    if "wandb" in settings.track and wandb_mode(config) == "online":
        from training.tracking.wandb_tracker import check_login

        check_login()


def _is_server(config: TrainingConfig) -> bool:
    from training.tracking.mlflow_tracker import store_of

    uri = store_of(config.track, config.run.run_dir)
    return uri.partition(":")[0] in _SERVERS or service_of(uri) is not None


def _check_service(config: TrainingConfig) -> None:
    """Check what logging to a service needs besides: its packages, and outside of a job its address."""
    from training.tracking.mlflow_tracker import joins_job, store_of

    uri = store_of(config.track, config.run.run_dir)
    if (service := service_of(uri)) is not None:
        service.check(uri, joins_job(config.track))


def is_installed(module: str) -> bool:
    """Return True if a module can be imported, without importing it."""
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # not even the package around it
        return False
    # A mere folder of that name, such as the one that wandb leaves in the working directory, has no origin.
    return found is not None and found.origin is not None


def wandb_mode(config: TrainingConfig) -> str:
    """`online`, `offline` or `disabled`: the setting, else WANDB_MODE, else online.

    Raises:
        ConfigError: WANDB_MODE is none of these.
    """
    if config.track.wandb_mode is not None:
        return config.track.wandb_mode
    given = os.environ.get("WANDB_MODE") or "online"
    mode = {"dryrun": "offline", "run": "online"}.get(given, given)  # W&B's own older words
    if mode not in ("online", "offline", "disabled"):
        raise ConfigError(f"WANDB_MODE={given}: no such mode; set it to online, offline or disabled")
    return mode


def _check_variable(uri: str) -> None:
    fault = fault_of_store(uri)
    # Here a password is in its place: the environment is not written down.
    if fault is not None and "password" not in fault:
        raise ConfigError(f"MLFLOW_TRACKING_URI: {fault}")


def trackers_for(config: TrainingConfig) -> list[Sink]:
    """The sinks for a reporter: none, or one that runs all chosen trackers. Only rank 0 has them.

    Raises:
        ConfigError: as `check`.
    """
    from training.tracking.background import SECONDS_IN_A_JOB, Trackers
    from training.tracking.figures import flat

    check(config)
    trackers = list(_make(config))
    if not trackers:
        return []
    # MLFLOW_RUN_ID: a service has made the run for the job that we are.
    when_finished = SECONDS_IN_A_JOB if os.environ.get("MLFLOW_RUN_ID") else None
    params = flat(config.to_dict())
    return [Trackers(trackers, config.run.run_dir, params, seconds_when_finished=when_finished)]


def _make(config: TrainingConfig) -> list[Tracker]:
    from training.tracking.mlflow_tracker import MLflowTracker
    from training.tracking.tensorboard_tracker import TensorBoardTracker
    from training.tracking.tracker_file import TrackerFile
    from training.tracking.wandb_tracker import WandbTracker

    settings, run_dir = config.track, config.run.run_dir
    file = TrackerFile(run_dir)
    made: list[Tracker] = []
    for name in settings.track:
        if name == "tensorboard":
            made.append(TensorBoardTracker(run_dir, file))
        elif name == "mlflow":
            made.append(MLflowTracker(settings, run_dir, file))
        elif (mode := wandb_mode(config)) != "disabled":
            made.append(WandbTracker(settings, mode, run_dir, file))
    return made
