"""Python API: `from training import TrainingConfig, Trainer`. Each name is imported when it is used.

`TrainingConfig` has the settings of the task hlbd and the model family apt; `config_class(task=…, model=…)` makes the
class for others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.backends.prepare import config_class
    from training.experiments.tracker import ExperimentConfig, ExperimentTracker
    from training.loop.trainer import Trainer
    from training.settings.tree import TrainingConfig

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in ("TrainingConfig", "config_class"):
            from training.backends.prepare import config_class

            return config_class if name == "config_class" else config_class()
        if name in ("ExperimentConfig", "ExperimentTracker"):
            from training.experiments import tracker

            return getattr(tracker, name)
        if name == "Trainer":
            import warnings

            from training.azure.service import mlflow_store
            from training.machine.environment import remove_leftovers

            if leftovers := remove_leftovers():  # before torch is imported, which reads some of them only once
                warnings.warn(leftovers, stacklevel=2)
            from training.loop.trainer import Trainer

            mlflow_store.register()  # as the front door does: a workspace of Azure ML is an MLflow server with a login

            return Trainer
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["ExperimentConfig", "ExperimentTracker", "Trainer", "TrainingConfig", "config_class"]
