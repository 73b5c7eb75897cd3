"""Configs of --backend azure as the front door makes them, for the tests of what happens offline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.backends.prepare import config_class
from training.backends.registry import BACKENDS
from training.settings.tree import TrainingConfig

T4 = "Standard_NC4as_T4_v3"
FOUR_T4 = "Standard_NC64as_T4_v3"
A100 = "Standard_NC24ads_A100_v4"
NO_GPU = "Standard_DS3_v2"


def azure_config(
    inner: str = "playground",
    azure: Mapping[str, Any] | None = None,
    task: str = "hlbd",
    family: str = "apt",
    **sections: Mapping[str, Any],
) -> TrainingConfig:
    """A checked config with the sections `azure` and that of the inner backend.

    Args:
        inner: the backend that trains in the job.
        azure: options of the azure backend; without any the job is serverless, on the default machine.
        task: as --task names it.
        family: as --model names it.
        sections: any other section's settings.
    """
    tree_class = config_class(BACKENDS.load("azure"), BACKENDS.load(inner), task=task, model=family)
    options = {"inner_backend": inner, **(azure or {})}
    config = tree_class.from_dict({"backend": "azure", "azure": options, **sections})
    config.validate()
    return config


def config(
    num_gpus: int | None = None, nnodes: int = 1, num_processes: int | None = None, device: str = "auto", **options: Any
) -> TrainingConfig:
    """A run on Azure with these options of `--backend azure`."""
    launch = {"num_gpus": num_gpus, "nnodes": nnodes, "num_processes": num_processes}
    return azure_config("playground", options, launch=launch, playground={"device": device})


def line(error: BaseException) -> str:
    """Return what the user reads, which is one line of bounded length."""
    assert "\n" not in str(error)
    assert len(str(error)) < 900
    return str(error)
