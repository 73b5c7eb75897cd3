"""Playground backend: our own loop in this process, on a CPU, one GPU or MPS.

python training/train_hlbd_playground.py --dataset HLBD_Hardcore_Full.json --epochs 100
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:] = [str(ROOT), *(p for p in sys.path if p and Path(p).resolve() != Path(__file__).parent)]
    from training.machine.startup import begin

    begin()

from pydantic import Field

from training.backends.placement import Placement
from training.backends.protocol import Availability, Feature, LaunchPlan, RunRequest, RunResult
from training.errors import ConfigError
from training.launch.torchrun import check_ranks, torchrun_plan
from training.settings.section import Section
from training.settings.tree import MOST_THREADS, TrainingConfig

SWITCHES_OFF_COMPILE = ("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE")
"""Variables at which torch.compile silently compiles nothing."""


class PlaygroundOptions(Section):
    """Options of --backend playground."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: CUDA, else MPS, else the CPU.")
    num_threads: int | None = Field(
        None, ge=1, le=MOST_THREADS, description="CPU threads; None: as many as torch chooses."
    )
    compile: bool = Field(False, description="Run the forward pass through torch.compile.")


class PlaygroundBackend:
    """Backend with our own loop in this process."""

    name: ClassVar[str] = "playground"
    Options: ClassVar[type[Section]] = PlaygroundOptions
    unsupported: ClassVar[Mapping[Feature, str]] = {}
    preset: ClassVar[str | None] = "playground"

    @classmethod
    def check(cls) -> Availability:
        """Check that torch is installed."""
        if importlib.util.find_spec("torch") is None:
            return Availability(False, "torch is not installed", "pip install -e . -c constraints.txt")
        return Availability(True)

    def validate(self, config: TrainingConfig) -> None:
        """See `Backend.validate`."""
        options = _options(config)
        check_ranks(config.launch, options.device)
        off = next((name for name in SWITCHES_OFF_COMPILE if os.environ.get(name) in ("1", "true", "True")), None)
        if options.compile and off is not None:
            raise ConfigError(f"--compile: {off}={os.environ[off]} in the environment switches it off; unset it")
        if config.run.precision == "fp16" and options.device == "cpu":
            raise ConfigError("precision=fp16 needs a GPU, and device=cpu was asked for; use --precision bf16 or fp32")

    def plan(self, config: TrainingConfig) -> LaunchPlan | None:
        """Return the plan for several ranks under torchrun; None: the run stays in this process."""
        options = _options(config)
        return torchrun_plan(config.launch, options.device, options.num_threads)

    def placement(self, config: TrainingConfig) -> Placement:
        """See `training.backends.placement`."""
        options = _options(config)
        place = Placement.of_launch(config.launch, options.device)
        return place._replace(num_threads=options.num_threads, compiled=options.compile)

    def run(self, request: RunRequest) -> RunResult:
        """See `Backend.run`."""
        import torch

        from training.engines.torch_engine import TorchEngine
        from training.machine.device import pick_device, pick_precision
        from training.machine.ranks import Ranks
        from training.run import run_task

        options = _options(request.config)
        if options.num_threads is not None:
            torch.set_num_threads(options.num_threads)
        device = pick_device("cuda" if request.config.launch.num_gpus is not None else options.device)
        pick_precision(request.config.run.precision, device)  # refuse before the ranks connect and the data is read
        ranks = Ranks.join(device)
        result = run_task(
            request,
            ranks,
            lambda model, config, family: TorchEngine(model, config, ranks, family, compile_model=options.compile),
        )
        ranks.leave()  # not after an error: the other ranks may never arrive
        return result


def _options(config: TrainingConfig) -> PlaygroundOptions:
    options = getattr(config, "playground", None)
    return options if isinstance(options, PlaygroundOptions) else PlaygroundOptions()


if __name__ == "__main__":
    from training.launch.worker import leave
    from training.train import main

    leave(main(backend_name="playground"))
