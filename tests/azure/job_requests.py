"""Settings of jobs for the tests of what Azure is asked before a submission, and what every refusal must be."""

from __future__ import annotations

from typing import Any

from tests.azure.settings import azure_config
from training.settings.tree import TrainingConfig

T4 = "Standard_NC4as_T4_v3"
FOUR_T4 = "Standard_NC64as_T4_v3"
A100 = "Standard_NC24ads_A100_v4"
NO_GPU = "Standard_DS3_v2"


def config(
    num_gpus: int | None = None, nnodes: int = 1, num_processes: int | None = None, device: str = "auto", **options: Any
) -> TrainingConfig:
    """A run on Azure with these options of `--backend azure`."""
    launch = {"num_gpus": num_gpus, "nnodes": nnodes, "num_processes": num_processes}
    return azure_config("playground", options, launch=launch, playground={"device": device})


def line(error: BaseException) -> str:
    """What the user reads, which is one line of bounded length."""
    assert "\n" not in str(error)
    assert len(str(error)) < 900
    return str(error)
