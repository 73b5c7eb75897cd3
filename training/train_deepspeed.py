"""DeepSpeed backend: our own loop on one or many ranks, with ZeRO spreading the state over them.

python train.py --backend deepspeed --num-gpus 2 --zero-stage 2 --epochs 100
deepspeed --num_gpus 2 training/train_deepspeed.py --dataset HLBD_Hardcore_Full.json --epochs 100 --zero-stage 2
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:] = [str(ROOT), *(p for p in sys.path if p and Path(p).resolve() != Path(__file__).parent)]
    from training.machine.startup import begin

    begin()

from training.backends.placement import Placement
from training.backends.protocol import (
    FREE_PORT,
    Availability,
    Feature,
    LaunchPlan,
    RunRequest,
    RunResult,
    refuse_average_of_spread_weights,
)
from training.engines.deepspeed.config import DeepSpeedOptions, batch_sizes_in, deepspeed_json, options_of, read_json
from training.errors import ConfigError
from training.launch.torchrun import check_ranks, ranks_here
from training.machine.hardware import count_cores
from training.settings.rank_identity import RankIdentity
from training.settings.section import Section
from training.settings.tree import TrainingConfig
from training.settings.yaml_files import MOST_BYTES
from training.storage.json_files import read_bytes


class DeepSpeedBackend:
    """Backend with our own loop on ranks that DeepSpeed's launcher starts; DeepSpeed's engine makes the updates."""

    name: ClassVar[str] = "deepspeed"
    Options: ClassVar[type[Section]] = DeepSpeedOptions
    unsupported: ClassVar[Mapping[Feature, str]] = {
        Feature.MUON: "ZeRO cuts the weights into flat slices, and Muon needs whole matrices; use --optimizer adamw",
        Feature.STABILIZER: "ZeRO cuts the gradients into flat slices, and DBC-DAC needs the rows and the rank of "
        "whole matrices; use --stabilizer none, or --backend playground",
    }
    preset: ClassVar[str | None] = "deepspeed"

    @classmethod
    def check(cls) -> Availability:
        """Check that torch and deepspeed are installed."""
        for module in ("torch", "deepspeed"):
            if importlib.util.find_spec(module) is None:
                return Availability(
                    False, f"{module} is not installed", "pip install -e '.[deepspeed]' -c constraints.txt"
                )
        return Availability(True)

    def validate(self, config: TrainingConfig) -> None:
        """See `Backend.validate`."""
        options, launch = options_of(config), config.launch
        if launch.nnodes > 1 or launch.rdzv_endpoint is not None:
            raise ConfigError(
                f"nnodes={launch.nnodes}: DeepSpeed's launcher takes its machines from a file; use --hostfile FILE "
                "instead of --nnodes and --rdzv-endpoint"
            )
        check_ranks(launch, options.device)
        if config.run.precision == "fp16" and options.device == "cpu":
            raise ConfigError("precision=fp16 needs a GPU, and device=cpu was asked for; use --precision bf16 or fp32")
        if options.cpu_offload and options.zero_stage == 0:
            raise ConfigError("cpu_offload needs ZeRO, and zero_stage=0 is none; use --zero-stage 1, 2 or 3")
        if options.param_offload and options.zero_stage != 3:
            raise ConfigError(f"param_offload needs --zero-stage 3, and zero_stage={options.zero_stage}")
        refuse_average_of_spread_weights(config, options.zero_stage, self.name, "use --zero-stage 2")
        deepspeed_json(config, _world_size(config))

    def plan(self, config: TrainingConfig) -> LaunchPlan | None:
        """Return the plan for DeepSpeed's launcher; None: a single rank runs in this process."""
        options, launch = options_of(config), config.launch
        ranks = ranks_here(launch)
        if ranks == 1 and options.hostfile is None:
            return None
        environment = {"OMP_NUM_THREADS": str(options.num_threads or max(1, count_cores() // ranks))}
        if options.device == "cpu":
            environment["DS_ACCELERATOR"] = "cpu"
        count: tuple[str, ...] = ()
        if launch.num_gpus is not None:
            count = ("--num_gpus", str(launch.num_gpus))
        elif launch.num_processes is not None:
            count = ("--num_accelerators", str(launch.num_processes))
        hosts = ("--hostfile", str(options.hostfile)) if options.hostfile is not None else ()
        return LaunchPlan(
            command=(
                *(sys.executable, "-m", "deepspeed.launcher.runner", *count, *hosts),
                *("--master_port", FREE_PORT, "--no_local_rank", str(Path(__file__).resolve())),
            ),
            environment=environment,
            processes=ranks,
            device="cuda" if launch.num_gpus is not None else options.device,
            # Workers on other machines read the resolved config from the storage that all share: the run directory's.
            directory=str(config.run.run_dir.absolute().parent) if options.hostfile is not None else None,
        )

    def placement(self, config: TrainingConfig) -> Placement:
        """See `training.backends.placement`."""
        options = options_of(config)
        return Placement.of_launch(config.launch, options.device)._replace(
            ranks=_world_size(config),
            num_threads=options.num_threads,
            zero_stage=options.zero_stage,
            cpu_offload=options.cpu_offload,
            param_offload=options.param_offload,
        )

    def batch_sizes_in_file(self, config: TrainingConfig, ranks: int) -> tuple[Mapping[str, int], str] | None:
        """See `Backend`: those of --deepspeed-config."""
        path = options_of(config).deepspeed_config
        if path is None:
            return None
        where = f"--deepspeed-config {path}"
        return batch_sizes_in(read_json(path, where), ranks), where

    def wider_layouts(self, config: TrainingConfig) -> Iterator[tuple[TrainingConfig, str]]:
        """See `training.backends.placement`: higher ZeRO stages, then offload."""
        options = options_of(config)
        present = options.zero_stage
        highest = 3 if config.optimizer.ema_decay is None else 2  # an average needs whole weights

        def changed(**settings: Any) -> TrainingConfig:
            return config.model_copy(update={self.name: options.model_copy(update=settings)})

        def stage_flag(stage: int) -> str:
            return f" --zero-stage {stage}" if stage != present else ""

        for stage in range(present + 1, highest + 1):
            yield changed(zero_stage=stage), stage_flag(stage)
        if not options.cpu_offload:
            stage = max(present, 2)
            yield changed(zero_stage=stage, cpu_offload=True), f"{stage_flag(stage)} --cpu-offload"
        if not options.cpu_offload and highest == 3:
            flags = f"{stage_flag(3)} --cpu-offload --param-offload"
            yield changed(zero_stage=3, cpu_offload=True, param_offload=True), flags

    def layouts(self, config: TrainingConfig) -> Iterator[tuple[TrainingConfig, str]]:
        """See `Backend`: ZeRO 1, and what spreads the state further."""
        first = config.model_copy(update={self.name: options_of(config).model_copy(update={"zero_stage": 1})})
        yield first, " --zero-stage 1"
        yield from self.wider_layouts(first)

    def run(self, request: RunRequest) -> RunResult:
        """See `Backend.run`."""
        import torch

        from training.engines.deepspeed.engine import DeepSpeedEngine
        from training.machine.device import pick_device, pick_precision
        from training.machine.ranks import Ranks
        from training.run import run_task

        options, identity = options_of(request.config), RankIdentity.of_environment()
        if options.num_threads is not None:
            torch.set_num_threads(options.num_threads)
        elif "OMP_NUM_THREADS" not in os.environ and identity is not None:  # called by the deepspeed command
            torch.set_num_threads(max(1, count_cores() // identity.local_world_size))
        device = pick_device("cuda" if request.config.launch.num_gpus is not None else options.device)
        pick_precision(request.config.run.precision, device)  # refuse before the ranks connect and the data is read
        ranks = Ranks.join(device)
        result = run_task(request, ranks, lambda model, config, family: DeepSpeedEngine(model, config, ranks, family))
        ranks.barrier()
        ranks.leave()  # not after an error: the other ranks may never arrive
        return result


def _world_size(config: TrainingConfig) -> int:
    """Return the number of ranks that the run will have, over all machines."""
    identity = RankIdentity.of_environment()
    if identity is not None:
        return identity.world_size
    hostfile, launch = options_of(config).hostfile, config.launch
    if hostfile is None:
        return ranks_here(launch)
    wanted = launch.num_gpus or launch.num_processes
    return sum(min(slots, wanted or slots) for slots in read_hostfile(hostfile).values())


def read_hostfile(path: Path) -> dict[str, int]:
    """Read machine -> number of its GPUs (slots), from lines `HOST slots=N`; `#` begins a comment.

    Raises:
        ConfigError: the file cannot be read, or a line has another form.
    """
    try:
        lines = read_bytes(path, MOST_BYTES).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not UTF-8 text, byte {error.start}"
        raise ConfigError(f"--hostfile {path}: the file cannot be read ({reason})") from error
    hosts: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        found = re.fullmatch(r"(\S+)\s+slots=([1-9]\d{0,3})", entry, re.ASCII)
        if found is None:
            raise ConfigError(f"--hostfile {path}: line {number} is {entry!r}; each line is `HOST slots=GPUS`")
        if found[1] in hosts:
            raise ConfigError(f"--hostfile {path}: line {number} names {found[1]} again; give each machine one line")
        hosts[found[1]] = int(found[2])
    if not hosts:
        raise ConfigError(f"--hostfile {path}: it names no machine; each line is `HOST slots=GPUS`")
    return hosts


if __name__ == "__main__":
    from training.launch.worker import leave
    from training.train import main

    leave(main(backend_name="deepspeed"))
