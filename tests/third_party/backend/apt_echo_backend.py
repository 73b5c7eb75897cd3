"""A backend in one file: it prints the resolved settings, then trains in this process whatever they name.

torch comes in only in `run`, so that `--help` and `--list-backends` stay quick.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from training.backends.protocol import Availability, Feature, LaunchPlan, RunRequest, RunResult
from training.settings.section import Section
from training.settings.tree import TrainingConfig


class EchoOptions(Section):
    """Options of --backend echo."""

    echo_prefix: str = Field("| ", description="Put before each line of the settings.")


class EchoBackend:
    """Prints what it was asked to train, and trains it on the CPU."""

    name: ClassVar[str] = "echo"
    Options: ClassVar[type[Section]] = EchoOptions
    unsupported: ClassVar[Mapping[Feature, str]] = {Feature.FP16: "it computes on the CPU, where fp16 is emulated"}
    preset: ClassVar[str | None] = None

    @classmethod
    def check(cls) -> Availability:
        """See `Backend.check`: torch is all it needs."""
        if importlib.util.find_spec("torch") is None:
            return Availability(False, "torch is not installed", "pip install torch")
        return Availability(True)

    def validate(self, config: TrainingConfig) -> None:
        """See `Backend.validate`: it honours every setting that it does not declare as unsupported."""

    def plan(self, config: TrainingConfig) -> LaunchPlan | None:
        """See `Backend.plan`: it runs in this process."""
        return None

    def run(self, request: RunRequest) -> RunResult:
        """See `Backend.run`: print the settings, then train as every backend does."""
        import torch

        from training.engines.torch_engine import TorchEngine
        from training.machine.ranks import Ranks
        from training.run import run_task

        prefix = getattr(request.config, self.name).echo_prefix
        for line in request.config.to_yaml().splitlines():
            print(f"{prefix}{line}")
        ranks = Ranks.join(torch.device("cpu"))
        return run_task(request, ranks, lambda model, config, family: TorchEngine(model, config, ranks, family))
