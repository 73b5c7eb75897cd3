"""Hugging Face backend: transformers' Trainer owns the loop, with our batches, loss and schedule.

python train.py --backend huggingface --epochs 100 --wandb
python training/train_hf_trainer.py --dataset HLBD_Hardcore_Full.json --epochs 100 --fp16 --early-stopping
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:] = [str(ROOT), *(p for p in sys.path if p and Path(p).resolve() != Path(__file__).parent)]
    from training.machine.startup import begin

    begin()

from training.backends.placement import Placement
from training.backends.protocol import (
    Availability,
    Feature,
    LaunchPlan,
    RunRequest,
    RunResult,
    refuse_average_of_spread_weights,
)
from training.engines.deepspeed.config import batch_sizes_in, read_json
from training.engines.transformers.deepspeed_file import deepspeed_document, find_deepspeed_json, zero_stage_of
from training.engines.transformers.options import HuggingFaceOptions, options_of, passed_on
from training.errors import ConfigError
from training.launch.torchrun import check_ranks, ranks_here, torchrun_plan
from training.settings.rank_identity import RankIdentity
from training.settings.registry import import_of_the_users
from training.settings.section import Section
from training.settings.tree import TrainingConfig

if TYPE_CHECKING:
    from torch import nn

    from training.engines.transformers.engine import HuggingFaceEngine
    from training.machine.ranks import Ranks
    from training.models.protocol import ModelFamily


class HuggingFaceBackend:
    """Backend with transformers' Trainer: on one rank, on several (DDP), or with DeepSpeed's integration."""

    name: ClassVar[str] = "huggingface"
    Options: ClassVar[type[Section]] = HuggingFaceOptions
    unsupported: ClassVar[Mapping[Feature, str]] = {}
    preset: ClassVar[str | None] = "huggingface"

    @classmethod
    def check(cls) -> Availability:
        """Check that torch, transformers and accelerate are installed."""
        for module in ("torch", "transformers", "accelerate"):
            if importlib.util.find_spec(module) is None:
                return Availability(
                    False, f"{module} is not installed", "pip install -e '.[huggingface]' -c constraints.txt"
                )
        return Availability(True)

    def validate(self, config: TrainingConfig) -> None:
        """See `Backend.validate`."""
        options = options_of(config)
        check_ranks(config.launch, options.device)
        passed_on(options)
        if config.run.precision == "fp16" and options.device == "cpu":
            raise ConfigError("precision=fp16 needs a GPU, and device=cpu was asked for; use --precision bf16 or fp32")
        for name in options.trainer_callbacks:
            if not all(name.partition(":")):
                raise ConfigError(f"--trainer-callbacks {name}: should be package.module:Class")
        if options.deepspeed is not None:
            self._validate_deepspeed(config)

    def _validate_deepspeed(self, config: TrainingConfig) -> None:
        launch = config.launch
        identity = RankIdentity.of_environment()
        planned = ranks_here(launch) * launch.nnodes
        deepspeed_document(config, identity.world_size if identity is not None else planned)
        way_out = "give a DeepSpeed file of ZeRO 1 or 2"
        refuse_average_of_spread_weights(config, zero_stage_of(options_of(config)), self.name, way_out)
        wanted = {
            "optimizer=muon": config.optimizer.optimizer == "muon",
            "stabilizer=dbc_dac": config.optimizer.stabilizer == "dbc_dac",
        }
        reasons = {
            "optimizer=muon": "ZeRO cuts the weights into flat slices, and Muon needs whole matrices",
            "stabilizer=dbc_dac": "ZeRO cuts the gradients into flat slices, and DBC-DAC needs whole matrices",
        }
        for setting, is_wanted in wanted.items():
            if is_wanted:
                raise ConfigError(f"--deepspeed and {setting} do not go together: {reasons[setting]}")
        if importlib.util.find_spec("deepspeed") is None:
            command = "pip install -e '.[deepspeed]' -c constraints.txt"
            raise ConfigError(f"--deepspeed: deepspeed is not installed; run: {command}")

    def plan(self, config: TrainingConfig) -> LaunchPlan | None:
        """Return the plan for several ranks under torchrun; None: the run stays in this process."""
        options = options_of(config)
        plan = torchrun_plan(config.launch, options.device, options.num_threads)
        if plan is None or options.deepspeed is None or options.device != "cpu":
            return plan
        return replace(plan, environment={**plan.environment, "DS_ACCELERATOR": "cpu"})

    def placement(self, config: TrainingConfig) -> Placement:
        """See `training.backends.placement`."""
        options = options_of(config)
        place = Placement.of_launch(config.launch, options.device)._replace(num_threads=options.num_threads)
        return place if options.deepspeed is None else place._replace(zero_stage=zero_stage_of(options))

    def batch_sizes_in_file(self, config: TrainingConfig, ranks: int) -> tuple[Mapping[str, int], str] | None:
        """See `Backend`: those of --deepspeed."""
        path = options_of(config).deepspeed
        if path is None:
            return None
        where = f"--deepspeed {path}"
        return batch_sizes_in(read_json(find_deepspeed_json(path), where), ranks), where

    def run(self, request: RunRequest) -> RunResult:
        """See `Backend.run`."""
        import torch
        from transformers import TrainerCallback

        from training.loop.trainer import Trainer
        from training.loop.transformers_loop import transformers_loop
        from training.machine.device import pick_device, pick_precision
        from training.machine.environment import variables_set
        from training.machine.ranks import Ranks
        from training.run import run_task

        options = options_of(request.config)
        callbacks = [_callback(name, TrainerCallback) for name in options.trainer_callbacks]
        if options.num_threads is not None:
            torch.set_num_threads(options.num_threads)
        device = pick_device("cuda" if request.config.launch.num_gpus is not None else options.device)
        pick_precision(request.config.run.precision, device)  # refuse before the ranks connect and the data is read
        ranks = Ranks.join(device)

        def loop(trainer: Trainer) -> None:
            transformers_loop(trainer, callbacks)

        # accelerate imports DeepSpeed if it is installed, which else prints the kind of machine that it has detected.
        with variables_set(DS_ACCELERATOR=device.type):
            result = run_task(request, ranks, engine_of(request.config, ranks), loop, checkpoint_name)
        ranks.barrier()
        ranks.leave()  # not after an error: the other ranks may never arrive
        return result


def engine_of(
    config: TrainingConfig, ranks: Ranks
) -> Callable[[nn.Module, TrainingConfig, ModelFamily], HuggingFaceEngine]:
    """Return the function that makes the engine of a seeded model; prepare DeepSpeed if its file is given."""
    from training.engines.transformers.engine import HuggingFaceDeepSpeedEngine, HuggingFaceEngine

    options = options_of(config)
    if options.deepspeed is None:
        return lambda model, config, family: HuggingFaceEngine(model, config, ranks, family)
    from training.engines.deepspeed.environment import prepare_deepspeed

    prepare_deepspeed(ranks)
    stage = zero_stage_of(options)
    return lambda model, config, family: HuggingFaceDeepSpeedEngine(model, config, ranks, family, stage)


def checkpoint_name(step: int, epoch: int | None = None) -> str:
    """Name a checkpoint as transformers does, also at an epoch's end."""
    return f"checkpoint-{step}"


def _callback(name: str, base: type[Any]) -> type[Any]:
    """Import the class that `package.module:Class` names.

    Raises:
        ConfigError: there is no such class, or it is not a TrainerCallback.
    """
    module_name, _, class_name = name.partition(":")
    try:
        found = getattr(import_of_the_users(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"--trainer-callbacks {name}: it cannot be imported ({error})") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"--trainer-callbacks {name}: it is not a subclass of transformers.TrainerCallback")
    return found


if __name__ == "__main__":
    from training.launch.worker import leave
    from training.train import main

    leave(main(backend_name="huggingface"))
